"""Compare the lists of a dataset with what lists must be, and with the published counts."""

from collections.abc import Mapping, Sequence
from typing import Any

from dassl.data.datasets import Datum
from datasets.counts import COUNTS
from datasets.files import some

SHOWN = 5  # of many of one kind


def compare(
    lists: Mapping[str, Sequence[Datum] | None], name: str
) -> tuple[list[str], dict[str, int | None]]:
    """Compare the lists of a dataset with what lists must be, and with the published counts.

    Args:
        lists: the images of "train", "val" and "test", or None.
        name: of the reader.

    Returns:
        What is wrong, in words; numbers of classes and of images of each split.
    """
    problems = []
    used = {split: items for split, items in lists.items() if items is not None}
    names: dict[int, set[str]] = {}
    for items in used.values():
        for item in items:
            names.setdefault(item.label, set()).add(item.classname)
    if sorted(names) != list(range(len(names))):
        gaps = sorted(set(range(max(names) + 1)) - names.keys())
        problems.append(f"labels are not 0 to C-1: {_some(gaps)} without an image")
    for label, several in sorted(names.items()):
        if len(several) > 1:
            problems.append(f"label {label} has {len(several)} names: {_some(sorted(several))}")
    for split, items in used.items():
        absent = sorted(names.keys() - {item.label for item in items})
        if absent:
            problems.append(f"{split} has no image of {len(absent)} classes: {_some(absent)}")
    problems += _twice(used)
    numbers: dict[str, int | None] = {"classes": len(names)}
    numbers |= {
        split: None if items is None else len(items) for split, items in sorted(lists.items())
    }
    expected = COUNTS[name]._asdict() if name in COUNTS else {}
    for what, number in expected.items():
        found = numbers[what] or 0
        # 0: there is no such list
        if number and found != number:
            kind = "classes" if what == "classes" else f"{what} images"
            problems.append(f"{found:,} {kind}, expected {number:,}")
    return problems, numbers


def _twice(lists: dict[str, Sequence[Datum]]) -> list[str]:
    """Images that are listed more than once."""
    first: dict[str, str] = {}  # path -> the split that lists it first
    double: dict[str, list[str]] = {}
    for split, items in lists.items():
        for item in items:
            if item.impath in first:
                where = first[item.impath]
                kind = f"twice in {split}" if where == split else f"in {where} and in {split}"
                double.setdefault(kind, []).append(item.impath)
            else:
                first[item.impath] = split
    return [f"{len(paths)} images are {kind}: {_some(paths)}" for kind, paths in double.items()]


def _some(values: Sequence[Any]) -> str:
    """The first of some values, and how many there are if not all are shown."""
    text = some([str(value) for value in values], SHOWN)
    return f"{text} ({len(values)})" if len(values) > SHOWN else text
