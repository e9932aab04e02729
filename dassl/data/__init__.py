"""Datasets, transforms and loaders. The loaders, which need torch, are loaded on first use."""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

if TYPE_CHECKING:
    from .data_manager import DataManager
    from .dataset_wrapper import DatasetWrapper

__all__ = ["DataManager", "DatasetWrapper"]

__getattr__ = on_first_use(
    __name__, {"DataManager": "data_manager", "DatasetWrapper": "dataset_wrapper"}
)
