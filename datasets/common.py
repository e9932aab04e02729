"""What all datasets share: listed images, and base and new classes, as in the CoOp codebase."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from dassl.data.datasets import Datum
from datasets.errors import DatasetError

SUBSETS = ("all", "base", "new")


class Listed(NamedTuple):
    """An image as a list names it; its label is from 0."""

    impath: str
    label: int
    classname: str


def data_root(cfg: CfgNode) -> Path:
    """The folder of all datasets, `DATASET.ROOT`, absolute."""
    return Path(os.path.expanduser(cfg.DATASET.ROOT or ".")).resolve()


def by_label(items: Iterable[Listed]) -> dict[int, list[Listed]]:
    """Items by label; labels in order of first appearance, items in their order."""
    groups: dict[int, list[Listed]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    return groups


def subsample_classes(*lists: Sequence[Listed], subset: str) -> list[list[Datum]]:
    """Keep all, the base or the new classes; base is the first half, rounded up.

    The classes are the sorted labels of the first list; kept ones are numbered from 0 again. The
    files must have been looked for before.

    Raises:
        DatasetError: `subset` is not one of `SUBSETS`, or has no class.
    """
    if subset not in SUBSETS:
        raise DatasetError(
            f'DATASET.SUBSAMPLE_CLASSES is "{subset}", expected one of: {", ".join(SUBSETS)}'
        )
    if subset == "all":
        number = {item.label: item.label for items in lists for item in items}
    else:
        labels = sorted({item.label for item in lists[0]})
        middle = -(-len(labels) // 2)
        chosen = labels[:middle] if subset == "base" else labels[middle:]
        if not chosen:
            raise DatasetError(
                f"there are no {subset} classes: the dataset has {len(labels)} class"
            )
        print(f"SUBSAMPLE {subset.upper()} CLASSES!")
        number = {label: i for i, label in enumerate(chosen)}
    return [
        [_datum(item, number[item.label]) for item in items if item.label in number]
        for items in lists
    ]


def _datum(item: Listed, label: int) -> Datum:
    """An item of Dassl, without the look at the file that its constructor takes: readers list each
    folder once, and ImageNet has 1.28 million files."""
    datum = Datum.__new__(Datum)
    datum._impath, datum._label, datum._domain = item.impath, label, 0
    datum._classname = item.classname
    return datum
