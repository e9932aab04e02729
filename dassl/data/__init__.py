"""Datasets, transforms and loaders. The loaders, which need torch, are loaded on first use."""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

if TYPE_CHECKING:
    from .data_manager import DataManager, DatasetWrapper

__all__ = ["DataManager", "DatasetWrapper"]

__getattr__ = on_first_use(__name__, dict.fromkeys(__all__, "data_manager"))
