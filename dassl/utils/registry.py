"""A registry: names of classes or functions that configuration files may use."""

from typing import Any

__all__ = ["Registry"]


class Registry:
    """Map from ``__name__`` to object, filled by the decorator ``@REGISTRY.register()``.

    Raises:
        KeyError: a name is registered twice (without ``force``) or is not registered.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}

    def _do_register(self, name: str, obj: Any, force: bool) -> None:
        if name in self._obj_map and not force:
            raise KeyError(
                f'An object named "{name}" was already registered in "{self._name}" registry'
            )
        self._obj_map[name] = obj

    def register(self, obj: Any = None, force: bool = False) -> Any:
        """Register ``obj``; without ``obj`` return a decorator."""
        if obj is not None:
            self._do_register(obj.__name__, obj, force)
            return None

        def decorator(target: Any) -> Any:
            self._do_register(target.__name__, target, force)
            return target

        return decorator

    def get(self, name: str) -> Any:
        """Return the object registered as ``name``."""
        if name not in self._obj_map:
            raise KeyError(f'Object name "{name}" does not exist in "{self._name}" registry')
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        """Return all names in the order of registration."""
        return list(self._obj_map)
