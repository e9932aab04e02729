"""Oxford Flowers (Nilsback and Zisserman 2008), in CoOp's own split."""

from pathlib import Path

import numpy as np

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import read_json
from datasets.matlab import read_mat
from datasets.reader import SplitReader
from datasets.splits import cut_classes, cut_generator


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitReader):
    """102 flowers; classes are visited in the order of the images, not of the labels."""

    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    layout = (
        "jpg/image_NNNNN.jpg\n"
        "split_zhou_OxfordFlowers.json   or   imagelabels.mat and cat_to_name.json"
    )
    elsewhere = {"": ("flowers-102", "OxfordFlowers", "oxford-flowers", "flowers102")}

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """All labelled images are cut; the official setid.mat is not used."""
        path = folder / "imagelabels.mat"
        labels = np.atleast_1d(read_mat(path, "labels"))
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise DatasetError(
                f"{path}: expected a row of whole numbers in labels, "
                f"found {labels.dtype} of shape {labels.shape}"
            )
        names = _read_names(folder / "cat_to_name.json")
        items = []
        for i, label in enumerate(labels.tolist(), start=1):
            if label not in names:
                raise DatasetError(
                    f"{path}: the label of image {i} is {label}, without a name in cat_to_name.json"
                )
            items.append(Listed(f"image_{i:05}.jpg", label - 1, names[label]))
        return cut_classes(items, cut_generator())


def _read_names(path: Path) -> dict[int, str]:
    """Names by label from 1, of a file such as `{"21": "fire lily", ...}`."""
    content = read_json(path)
    pairs = content if isinstance(content, dict) else {"": ""}
    names = {
        int(number): name
        for number, name in pairs.items()
        if number.isdecimal() and isinstance(name, str) and name.strip()
    }
    expected = list(range(1, len(pairs) + 1))
    if not names or sorted(names) != expected:
        raise DatasetError(f'{path}: expected names by number, {{"1": "pink primrose", ...}}')
    return names
