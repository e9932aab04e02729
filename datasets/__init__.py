"""Datasets: files on disk become lists of `Datum`. Every module of this package is imported, so
that a new reader registers itself by its file being here."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
