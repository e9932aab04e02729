"""The test images of `shapes`, changed: domain generalisation in the embedded world."""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from dassl.data.datasets import DATASET_REGISTRY
from datasets.embedded import Drawing, EmbeddedDataset
from datasets.shapes import SPLITS, Shapes, split_scenes
from datasets.world.render import render

BLUR_RADIUS = 1.0  # pixels of 32; more hides the hatching altogether


class ShapesVariant(EmbeddedDataset):
    """All 40 classes of `shapes`, test images only."""

    names = Shapes.names
    version = f"{Shapes.version}.1"  # of the images of `shapes`, of the change
    test_only = True
    groups = Shapes.groups


@DATASET_REGISTRY.register()
class ShapesBlurred(ShapesVariant):
    """Out of focus: edges and patterns are softer."""

    dataset_dir = "shapes_blurred"

    @staticmethod
    def drawings() -> Iterator[Drawing]:
        """The changed images, in the order of the test images of `shapes`."""
        return _changed(lambda image: image.filter(ImageFilter.GaussianBlur(BLUR_RADIUS)))


@DATASET_REGISTRY.register()
class ShapesNegative(ShapesVariant):
    """A photographic negative: light is dark, and every colour its complement."""

    dataset_dir = "shapes_negative"

    @staticmethod
    def drawings() -> Iterator[Drawing]:
        """The changed images, in the order of the test images of `shapes`."""
        return _changed(ImageOps.invert)


def _changed(change: Callable[[Image.Image], Image.Image]) -> Iterator[Drawing]:
    labels, scenes = split_scenes("test")
    for label, pixels in zip(labels, render(scenes, SPLITS["test"][1]), strict=True):
        yield "test", label, np.asarray(change(Image.fromarray(pixels)))
