"""Food101 (Bossard et al. 2014), in CoOp's own split."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.reader import SplitReader


@DATASET_REGISTRY.register()
class Food101(SplitReader):
    """101 dishes; the official lists in `meta/` are not used."""

    dataset_dir = "food-101"
    layout = "images/<class>/<digits>.jpg\nsplit_zhou_Food101.json"
    elsewhere = {"": ("food101", "Food-101")}
