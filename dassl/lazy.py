"""Names of a package that load their module on first use."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["on_first_use"]


def on_first_use(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose modules are slow to import (PEP 562).

    The modules themselves are found as well, as if the package had imported them.

    Args:
        package: its `__name__`.
        modules: public name -> module in the package that defines it.
    """

    def find(name: str) -> Any:
        if name in modules.values():
            return import_module(f"{package}.{name}")
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return find
