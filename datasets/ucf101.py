"""UCF101 (Soomro et al. 2012): the middle frame of each video, first official split."""

import re
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import read_lines
from datasets.reader import SplitReader
from datasets.splits import cut_generator, cut_trainval


@DATASET_REGISTRY.register()
class UCF101(SplitReader):
    """101 actions in the order of classInd.txt, which is not that of the renamed folders."""

    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    layout = (
        "UCF-101-midframes/<Renamed_Action>/v_<Action>_gNN_cNN.jpg\n"
        "split_zhou_UCF101.json   or   ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt"
    )
    elsewhere = {
        "": ("UCF101", "UCF-101"),
        "UCF-101-midframes": ("UCF-101-midframes",),
    }

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """The official training list is cut, the official test list stays."""
        lists = folder / "ucfTrainTestlist"
        labels = _read_classes(lists / "classInd.txt")
        trainval = _read_list(lists / "trainlist01.txt", labels)
        test = _read_list(lists / "testlist01.txt", labels)
        return *cut_trainval(trainval, cut_generator()), test


def rename(action: str) -> str:
    """`ApplyEyeMakeup` as `Apply_Eye_Makeup`; what stands before the first capital is lost."""
    return "_".join(re.findall(r"[A-Z][^A-Z]*", action))


def _read_classes(path: Path) -> dict[str, int]:
    """Labels by action, of lines such as `1 ApplyEyeMakeup`."""
    labels: dict[str, int] = {}
    for number, line in read_lines(path):
        position, _, action = line.partition(" ")
        if not position.isdecimal() or int(position) < 1 or not rename(action) or action in labels:
            raise DatasetError(
                f"{path}, line {number}: expected `<number from 1> <Action>`, each once, "
                f"found {line!r:.200}"
            )
        labels[action] = int(position) - 1
    return labels


def _read_list(path: Path, labels: dict[str, int]) -> list[Listed]:
    """Items of lines such as `Archery/v_Archery_g01_c01.avi`; a number behind it is not read."""
    items = []
    for number, line in read_lines(path):
        action, _, video = line.split()[0].partition("/")
        if action not in labels or not video.endswith(".avi"):
            raise DatasetError(
                f"{path}, line {number}: expected `<Action of classInd.txt>/<video>.avi`, "
                f"found {line!r:.200}"
            )
        image = f"{rename(action)}/{video.removesuffix('.avi')}.jpg"
        items.append(Listed(image, labels[action], rename(action)))
    return items
