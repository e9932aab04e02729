"""SUN397 (Xiao et al. 2010), the first of its ten partitions."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import read_lines
from datasets.reader import SplitReader
from datasets.splits import cut_generator, cut_trainval


@DATASET_REGISTRY.register()
class SUN397(SplitReader):
    """397 scenes; `/a/apse/indoor` is named "indoor apse"."""

    dataset_dir = "sun397"
    image_dir = "SUN397"
    layout = (
        "SUN397/<letter>/<class>[/<kind>]/sun_*.jpg\n"
        "split_zhou_SUN397.json   or   ClassName.txt, Training_01.txt, Testing_01.txt"
    )
    elsewhere = {"SUN397": ("SUN397",)}

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """The official training list is cut, the official test list stays."""
        path = folder / "ClassName.txt"
        classes = [line.strip("/") for _, line in read_lines(path)]
        if len(set(classes)) != len(classes):
            raise DatasetError(f"{path} has a class twice")
        labels = {name: label for label, name in enumerate(classes)}
        trainval = _read_list(folder / "Training_01.txt", labels)
        test = _read_list(folder / "Testing_01.txt", labels)
        return *cut_trainval(trainval, cut_generator()), test


def _read_list(path: Path, labels: dict[str, int]) -> list[Listed]:
    """Items of lines such as `/a/apse/indoor/sun_abc.jpg`."""
    items = []
    for number, line in read_lines(path):
        image = line.removeprefix("/")
        folder = image.rpartition("/")[0]
        if folder not in labels:
            raise DatasetError(
                f"{path}, line {number}: expected `/<class of ClassName.txt>/<image>`, "
                f"found {line!r:.200}"
            )
        name = " ".join(reversed(folder.split("/")[1:]))
        items.append(Listed(image, labels[folder], name))
    return items
