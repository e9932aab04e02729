"""Stanford Cars (Krause et al. 2013)."""

import re
from pathlib import Path

import numpy as np

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.matlab import read_mat
from datasets.reader import SplitReader
from datasets.splits import cut_generator, cut_trainval

FILE = re.compile(r"[\w-]+\.jpe?g", re.ASCII | re.IGNORECASE)


@DATASET_REGISTRY.register()
class StanfordCars(SplitReader):
    """196 models; the year, last in the official name, comes first."""

    dataset_dir = "stanford_cars"
    image_dir = ""
    roots = ("cars_train", "cars_test")
    layout = (
        "cars_train/NNNNN.jpg\ncars_test/NNNNN.jpg\n"
        "split_zhou_StanfordCars.json   or   devkit/{cars_train_annos,cars_meta}.mat "
        "and cars_test_annos_withlabels.mat"
    )
    elsewhere = {"": ("stanford-cars", "StanfordCars", "cars")}

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """The annotated training images are cut, the annotated test images stay."""
        names = _read_names(folder / "devkit" / "cars_meta.mat")
        trainval = _read_annotations(
            folder / "devkit" / "cars_train_annos.mat", names, "cars_train"
        )
        test = _read_annotations(folder / "cars_test_annos_withlabels.mat", names, "cars_test")
        return *cut_trainval(trainval, cut_generator()), test


def _read_names(path: Path) -> list[str]:
    """Names of the models by label, the year first."""
    names = []
    for name in map(str, np.atleast_1d(read_mat(path, "class_names"))):
        model, _, year = name.strip().rpartition(" ")
        if not model or not year.isdecimal():
            raise DatasetError(
                f'{path}: expected names such as "Audi R8 2012", found {name!r:.200}'
            )
        names.append(f"{year} {model}")
    return names


def _read_annotations(path: Path, names: list[str], folder: str) -> list[Listed]:
    """Items of an annotation file; `class` counts from 1, `fname` is a file of `folder`."""
    items = []
    for i, entry in enumerate(np.atleast_1d(read_mat(path, "annotations"))):
        file, label = getattr(entry, "fname", None), getattr(entry, "class", None)
        if not FILE.fullmatch(str(file)) or not isinstance(label, (int, np.integer)):
            raise DatasetError(
                f"{path}, annotation {i + 1}: expected a file name in fname and a number in class, "
                f"found {file!r:.100} and {label!r:.100}; unlabelled test annotations will not do"
            )
        if not 1 <= label <= len(names):
            raise DatasetError(
                f"{path}, annotation {i + 1}: class is {label}, expected 1 to {len(names)}"
            )
        items.append(Listed(f"{folder}/{file}", int(label) - 1, names[label - 1]))
    return items
