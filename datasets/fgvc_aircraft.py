"""FGVC Aircraft (Maji et al. 2013), in its official split."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import read_lines
from datasets.reader import SplitReader


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitReader):
    """100 variants in the order of variants.txt; there is no split file, the lists are official."""

    dataset_dir = "fgvc_aircraft"
    layout = "images/NNNNNNN.jpg\nvariants.txt\nimages_variant_{train,val,test}.txt"
    elsewhere = {"": ("fgvc-aircraft-2013b/data", "fgvc-aircraft-2013b", "fgvc-aircraft")}
    has_split_file = False

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """The official lists."""
        path = folder / "variants.txt"
        variants = [line for _, line in read_lines(path)]
        if len(set(variants)) != len(variants):
            raise DatasetError(f"{path} has a variant twice")
        labels = {variant: label for label, variant in enumerate(variants)}
        train, val, test = (
            _read_list(folder / f"images_variant_{part}.txt", labels)
            for part in ("train", "val", "test")
        )
        return train, val, test


def _read_list(path: Path, labels: dict[str, int]) -> list[Listed]:
    """Items of lines such as `1025794 F-16A/B`."""
    items = []
    for number, line in read_lines(path):
        image, _, variant = line.partition(" ")
        if variant not in labels or not image.isdecimal():
            raise DatasetError(
                f"{path}, line {number}: expected `<image> <variant of variants.txt>`, "
                f"found {line!r:.200}"
            )
        items.append(Listed(f"{image}.jpg", labels[variant], variant))
    return items
