"""Modules that are slow to import: when, and how fast."""

import gc
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["load", "on_first_use"]


def load(module: str) -> None:
    """Import a large module without stops of the garbage collector, which finds nothing there.

    They take a quarter of the time that torch and torchvision need.
    """
    if module in sys.modules:
        return
    collects = gc.isenabled()
    gc.disable()
    try:
        import_module(module)
    finally:
        gc.freeze()  # all that is there counts as old, so that no stop looks through it at once
        gc.unfreeze()
        if collects:
            gc.enable()


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
