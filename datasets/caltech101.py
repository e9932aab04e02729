"""Caltech101 (Fei-Fei et al. 2004): 100 of its categories."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.reader import SplitReader

IGNORED = ("BACKGROUND_Google", "Faces_easy")
RENAMED = {
    "airplanes": "airplane",
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
}


@DATASET_REGISTRY.register()
class Caltech101(SplitReader):
    """Labels follow the folders' names by code point, capitals first; four names are changed."""

    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    layout = "101_ObjectCategories/<category>/image_NNNN.jpg\nsplit_zhou_Caltech101.json"
    elsewhere = {
        "": ("caltech101", "caltech_101"),
        "101_ObjectCategories": ("caltech101/101_ObjectCategories", "101_ObjectCategories"),
    }
    ignored = IGNORED
    renamed = RENAMED
