"""Few shots of a dataset: drawn as in the CoOp codebase, or those of a file.

Order and random numbers of a draw are CoOp's, so that the shots are the same: train shots of all
classes first, then val shots from the same stream; base/new comes last. A file has an image per
line, as JSON, with the names of Dassl's items as fields; docs/datasets.md explains it.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from datasets.common import Listed, by_label
from datasets.errors import DatasetError
from datasets.files import read_lines, some

VAL_SHOTS = 4  # most images per class of a few-shot validation list
# fields of a file as they are written -> as they are read
FIELDS = {
    "impath": ("impath", "path", "image", "image_path"),
    "label": ("label", "class_idx"),
    "classname": ("classname", "class_name", "class name", "class"),
}
EXAMPLE = '{"impath": "images/pug_7.jpg", "label": 24, "classname": "pug"}'


def few_shot_lists(
    cfg: CfgNode, train: Sequence[Listed], val: Sequence[Listed]
) -> tuple[list[Listed], list[Listed]]:
    """Train and val lists with `DATASET.NUM_SHOTS` images per class (val: 4 at most).

    A fresh generator is seeded with `SEED`, so other random numbers of the run have no influence;
    a negative seed draws differently every time. Without shots (below 1) both lists stay whole.
    `DATASET.SPLIT_FILE` has other train shots; the val shots are those that are drawn.

    Raises:
        DatasetError: the file has no such shots, see `read_shots`.
    """
    shots, path = cfg.DATASET.NUM_SHOTS, shots_path(cfg)
    if path is not None and shots < 1:
        raise DatasetError("DATASET.SPLIT_FILE is for few shots: set DATASET.NUM_SHOTS")
    if shots < 1:
        return list(train), list(val)
    print(f"Creating a {shots}-shot dataset")
    generator = random.Random(cfg.SEED if cfg.SEED >= 0 else None)
    drawn = draw(train, shots, generator)
    if path is not None:
        drawn = read_shots(path, shots, train)
        print(f"Training images are those of {path}")
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


def shots_path(cfg: CfgNode) -> Path | None:
    """`DATASET.SPLIT_FILE` with its placeholders filled, None if the shots are drawn.

    It is the dataset's that a model was trained on: one that it is only tested on has none.
    """
    text = cfg.DATASET.get("SPLIT_FILE", "")
    if not text or cfg.DATASET.get("SOURCE", ""):
        return None
    values = {"shots": cfg.DATASET.NUM_SHOTS, "seed": cfg.SEED, "dataset": cfg.DATASET.NAME}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return Path(text).expanduser()


def read_shots(path: Path, shots: int, train: Sequence[Listed]) -> list[Listed]:
    """The images of a file, in its order, with the labels and names of the dataset.

    Args:
        path: the file.
        shots: `DATASET.NUM_SHOTS`.
        train: the whole training list.

    Raises:
        DatasetError: the file is none, or its images are not `shots` training images of each class.
    """
    known: dict[str, list[Listed]] = defaultdict(list)
    for item in train:
        known[_parts(item.impath)[-1]].append(item)
    found: dict[str, Listed] = {}
    labels: dict[int, str] = {}
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        impath, label, classname = _fields(line, where)
        item = _match(impath, known, where)
        if item.impath in found:
            raise DatasetError(f"{where}: {impath} is there twice")
        if _words(classname) != _words(item.classname):
            raise DatasetError(
                f'{where}: {impath} is of class "{classname}", but the dataset says '
                f'"{item.classname}"'
            )
        if labels.setdefault(label, item.classname) != item.classname:
            raise DatasetError(
                f'{where}: label {label} is "{labels[label]}" and "{item.classname}"'
            )
        found[item.impath] = item
    _check_counts(path, shots, found.values(), train)
    return list(found.values())


def shots_lines(items: Iterable[Listed]) -> str:
    """The content of such a file."""
    lines = (dict(zip(FIELDS, item, strict=True)) for item in items)
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def _fields(line: str, where: str) -> tuple[str, int, str]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DatasetError(f"{where}: expected an object, as {EXAMPLE}, found {line:.200}")
    found: list[Any] = []
    for name, names in FIELDS.items():
        values = [content[other] for other in names if other in content]
        kind = int if name == "label" else str
        if not values or type(values[0]) is not kind:
            told = f"{values[0]!r:.200}" if values else "no such field"
            raise DatasetError(f"{where}: {name} is {told}, expected one as in {EXAMPLE}")
        found.append(values[0])
    return found[0], found[1], found[2]


def _parts(impath: str) -> list[str]:
    return [part for part in impath.replace("\\", "/").split("/") if part not in ("", ".")]


def _match(impath: str, known: dict[str, list[Listed]], where: str) -> Listed:
    """The training image whose path ends with another, or is its end: folders differ before it."""
    parts = _parts(impath)
    found = []
    for item in known.get(parts[-1] if parts else "", []):
        theirs = _parts(item.impath)
        least = min(len(parts), len(theirs))
        if parts[-least:] == theirs[-least:]:
            found.append(item)
    if not found:
        raise DatasetError(
            f"{where}: {impath} is not in the training list of the dataset (images to validate "
            "or test on are not trained on)"
        )
    if len(found) > 1:
        raise DatasetError(f"{where}: {impath} may be {found[0].impath} or {found[1].impath}")
    return found[0]


def _words(classname: str) -> list[str]:
    return classname.replace("_", " ").replace("-", " ").lower().split()


def _check_counts(path: Path, shots: int, found: Iterable[Listed], train: Sequence[Listed]) -> None:
    """Refuse files of other shots: what is said of a run must be true."""
    counts = Counter(item.label for item in found)
    there = by_label(train)  # two classes of ImageNet may share a name
    wrong = [
        f"{group[0].classname} ({counts[label]})"
        for label, group in there.items()
        if counts[label] != min(shots, len(group))
    ]
    if wrong:
        raise DatasetError(
            f"{path}: {len(wrong)} of {len(there)} classes have other numbers of images than "
            f"DATASET.NUM_SHOTS {shots}: {some(wrong)}"
        )
