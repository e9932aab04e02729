"""The protocol that all datasets share: split, few-shot draw, base and new classes.

The order and the random numbers are those of the CoOp codebase, so that the shots are the same:
train shots of all classes first, then val shots from the same stream; base/new comes last.
"""

import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from dassl.data.datasets import Datum
from datasets.errors import DatasetError
from datasets.files import some

SUBSETS = ("all", "base", "new")
VAL_SHOTS = 4  # most images per class of a few-shot validation list


class Listed(NamedTuple):
    """An image as a list names it; its label is from 0."""

    impath: str
    label: int
    classname: str


def data_root(cfg: CfgNode) -> Path:
    """The folder of all datasets, `DATASET.ROOT`, absolute."""
    return Path(os.path.expanduser(cfg.DATASET.ROOT or ".")).resolve()


def few_shot_lists(
    cfg: CfgNode, train: Sequence[Listed], val: Sequence[Listed]
) -> tuple[list[Listed], list[Listed]]:
    """Train and val lists with `DATASET.NUM_SHOTS` images per class (val: 4 at most).

    A fresh generator is seeded with `SEED`, so other random numbers of the run have no influence;
    a negative seed draws differently every time. Without shots (below 1) both lists stay whole.
    """
    shots = cfg.DATASET.NUM_SHOTS
    if shots < 1:
        return list(train), list(val)
    print(f"Creating a {shots}-shot dataset")
    generator = random.Random(cfg.SEED if cfg.SEED >= 0 else None)
    drawn = draw(train, shots, generator)
    return drawn, draw(val, min(shots, VAL_SHOTS), generator)


def draw(items: Iterable[Listed], shots: int, generator: random.Random) -> list[Listed]:
    """Draw `shots` items of each class, classes in order of first appearance.

    A class with fewer items is taken whole, in order, and uses up no random numbers.
    """
    drawn: list[Listed] = []
    small = []
    for group in by_label(items).values():
        if len(group) >= shots:
            drawn += generator.sample(group, shots)
        else:
            drawn += group
            small.append(f"{group[0].classname} ({len(group)})")
    if small:
        print(
            f"Note: {len(small)} classes have fewer than {shots} images, and are taken whole: "
            f"{some(small, 10)}"
        )
    return drawn


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
