"""Food101 (Bossard et al. 2014), in CoOp's own split."""

from __future__ import annotations

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.reader import SplitReader
from datasets.splits import cut_classes, cut_generator, list_classes


@DATASET_REGISTRY.register()
class Food101(SplitReader):
    """101 dishes; the official lists in `meta/` are not used."""

    dataset_dir = "food-101"
    layout = "images/<class>/<digits>.jpg\nsplit_zhou_Food101.json"
    elsewhere = {"": ("food101", "Food-101")}

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """A cut of the class folders; not the published one, whose order is not known."""
        return cut_classes(list_classes(folder / cls.image_dir), cut_generator())
