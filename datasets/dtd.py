"""Describable Textures (Cimpoi et al. 2014), in CoOp's own split."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.reader import SplitReader


@DATASET_REGISTRY.register()
class DescribableTextures(SplitReader):
    """47 textures; none of the ten official partitions is used."""

    dataset_dir = "dtd"
    layout = "images/<texture>/*.jpg\nsplit_zhou_DescribableTextures.json"
    elsewhere = {"": ("dtd-r1.0.1", "DTD")}
