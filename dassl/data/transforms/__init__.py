"""Image transforms. Their module, which needs torchvision, is loaded on first use."""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

from .names import AVAI_CHOICES

if TYPE_CHECKING:
    from .transforms import INTERPOLATION_MODES, build_transform

__all__ = ["AVAI_CHOICES", "INTERPOLATION_MODES", "build_transform"]

__getattr__ = on_first_use(
    __name__, {"INTERPOLATION_MODES": "transforms", "build_transform": "transforms"}
)
