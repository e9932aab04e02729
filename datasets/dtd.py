"""Describable Textures (Cimpoi et al. 2014), in CoOp's own split."""

from __future__ import annotations

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.reader import SplitReader
from datasets.splits import cut_classes, cut_generator, list_classes


@DATASET_REGISTRY.register()
class DescribableTextures(SplitReader):
    """47 textures; none of the ten official partitions is used."""

    dataset_dir = "dtd"
    layout = "images/<texture>/*.jpg\nsplit_zhou_DescribableTextures.json"
    elsewhere = {"": ("dtd-r1.0.1", "DTD")}

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """A cut of the class folders; not the published one, whose order is not known."""
        return cut_classes(list_classes(folder / cls.image_dir), cut_generator())
