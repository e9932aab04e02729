"""Oxford-IIIT Pets (Parkhi et al. 2012)."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import read_lines
from datasets.reader import SplitReader
from datasets.splits import cut_generator, cut_trainval


@DATASET_REGISTRY.register()
class OxfordPets(SplitReader):
    """37 breeds; a breed's name is that of its files, in lower case, without the number."""

    dataset_dir = "oxford_pets"
    layout = "images/*.jpg\nsplit_zhou_OxfordPets.json   or   annotations/{trainval,test}.txt"
    elsewhere = {"": ("oxford-iiit-pet", "OxfordPets", "oxford-pets")}

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """The official trainval list is cut, the official test list stays."""
        annotations = folder / "annotations"
        trainval = _read_list(annotations / "trainval.txt")
        test = _read_list(annotations / "test.txt")
        return *cut_trainval(trainval, cut_generator()), test


def _read_list(path: Path) -> list[Listed]:
    """Items of lines such as `Abyssinian_100 1 1 1`: image, class from 1, species, breed."""
    items = []
    for number, line in read_lines(path):
        fields = line.split()
        image, _, position = fields[0].rpartition("_")
        known = len(fields) == 4 and image and position.isdecimal() and fields[1].isdecimal()
        if not known or int(fields[1]) < 1:
            raise DatasetError(
                f"{path}, line {number}: expected `<breed>_<n> <class from 1> <species> <breed>`, "
                f"found {line!r:.200}"
            )
        items.append(Listed(f"{fields[0]}.jpg", int(fields[1]) - 1, image.lower()))
    return items
