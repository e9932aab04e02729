"""The lists of a dataset: read from CoOp's split file or cut as CoOp cut them, and checked.

The published cuts were made with seed 1, so that they come out again where the order of the images
is known. The generator of a cut is its own: it shares nothing with the draw of shots.
"""

import hashlib
import posixpath
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from datasets.common import Listed, by_label
from datasets.errors import DatasetError
from datasets.files import (
    can_be_written,
    images,
    is_file_name,
    read_json,
    some,
    subfolders,
)

CUT_SEED = 1
TRAIN_SHARE, VAL_SHARE = 0.5, 0.2  # of all images of a class; the rest is for testing
LEAST_TO_CUT = 4  # images of a class, so that train, val and test get one each
MOST_BYTES = 100_000_000  # of a split file; the largest published one has 3 MB
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Full lists of a dataset; paths are relative to `root` and use "/".

    `derived` tells that the lists were cut here, not read from a split file; `notes`, what else
    a user should know.
    """

    root: Path
    train: list[Listed]
    val: list[Listed]
    test: list[Listed]
    derived: bool = False
    notes: tuple[str, ...] = ()

    def parts(self) -> Iterator[tuple[str, list[Listed]]]:
        """Name and list of each part."""
        yield from zip(PARTS, (self.train, self.val, self.test), strict=True)


def digest(items: Iterable[Listed]) -> str:
    """SHA-256 over path, tab, label, line feed of each item in order."""
    lines = (f"{item.impath}\t{item.label}\n" for item in items)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


# ---- cutting


def cut_generator() -> random.Random:
    """The generator of every cut."""
    return random.Random(CUT_SEED)


def cut_trainval(
    items: Iterable[Listed], generator: random.Random
) -> tuple[list[Listed], list[Listed]]:
    """Cut an official training list: a fifth of each class, shuffled, becomes the val list.

    Raises:
        DatasetError: a class is too small to give a val image.
    """
    train: list[Listed] = []
    val: list[Listed] = []
    for group in by_label(items).values():
        count = round(len(group) * VAL_SHARE)
        if not count:
            raise DatasetError(
                f'class "{group[0].classname}" has {len(group)} training images, '
                "at least 3 are needed to set one aside for validation"
            )
        generator.shuffle(group)
        val += group[:count]
        train += group[count:]
    return train, val


def cut_classes(
    items: Iterable[Listed], generator: random.Random
) -> tuple[list[Listed], list[Listed], list[Listed]]:
    """Cut one list into train, val and test: 50, 20 and 30 percent of each class, shuffled.

    Raises:
        DatasetError: a class has fewer than 4 images.
    """
    train: list[Listed] = []
    val: list[Listed] = []
    test: list[Listed] = []
    for group in by_label(items).values():
        if len(group) < LEAST_TO_CUT:
            raise DatasetError(
                f'class "{group[0].classname}" has {len(group)} images, at least {LEAST_TO_CUT} '
                "are needed to cut train, val and test"
            )
        generator.shuffle(group)
        first = round(len(group) * TRAIN_SHARE)  # halves go to the even number, as in CoOp
        second = first + round(len(group) * VAL_SHARE)
        train += group[:first]
        val += group[first:second]
        test += group[second:]
    return train, val, test


def list_classes(
    folder: Path, ignored: Sequence[str] = (), renamed: dict[str, str] | None = None
) -> list[Listed]:
    """All images of class folders; labels follow the folders' names, files are sorted.

    Raises:
        DatasetError: there are no class folders, or one has no images.
    """
    found = [name for name in subfolders(folder) if name not in ignored]
    if not found:
        raise DatasetError(f"{folder} has no class folders")
    items = []
    for label, name in enumerate(found):
        files = images(folder / name)
        if not files:
            raise DatasetError(f"the class folder {folder / name} has no images")
        items += [Listed(f"{name}/{f}", label, (renamed or {}).get(name, name)) for f in files]
    return items


# ---- reading


def read_split(path: Path, root: Path) -> Split:
    """The lists of a split file: `{"train": [[path, label, class name], ...], "val", "test"}`.

    Raises:
        DatasetError: the file is not of this shape; the message tells list and entry.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror})") from error
    if size > MOST_BYTES:
        raise DatasetError(f"{path} has {size:,} bytes, no split file is that large")
    content = read_json(path)
    if not isinstance(content, dict) or sorted(content) != sorted(PARTS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DatasetError(f"{path}: expected the keys train, val and test, found {found}")
    train, val, test = (read_items(content[part], f"{path}, {part}") for part in PARTS)
    return Split(root, train, val, test)


def read_items(entries: object, where: str) -> list[Listed]:
    """A list of [path, label, class name]. Raises DatasetError if it is none."""
    if not isinstance(entries, list):
        raise DatasetError(f"{where}: expected a list")
    return [_item(entry, f"{where}[{i}]") for i, entry in enumerate(entries)]


def _item(entry: object, where: str) -> Listed:
    if not isinstance(entry, list) or len(entry) != 3:
        raise DatasetError(f"{where}: expected [path, label, class name], found {entry!r:.200}")
    path, label, name = entry
    if not isinstance(path, str):
        raise DatasetError(f"{where}: the path is {path!r:.200}, expected a text")
    if type(label) is not int or label < 0:  # a bool is no label
        raise DatasetError(f"{where}: the label is {label!r:.200}, expected a whole number from 0")
    if not isinstance(name, str) or not name.strip():
        raise DatasetError(f"{where}: the class name is {name!r:.200}, expected a text")
    return Listed(path, label, name)


# ---- checking


def check_split(split: Split) -> None:
    """Refuse lists from which labels, names or accuracies would be wrong.

    Raises:
        DatasetError: a path leaves the image folder or is listed twice; labels are not 0..C-1; a
            label has two names; a class is missing from a list; a name is no text.
    """
    for part, items in split.parts():
        for i, item in enumerate(items):
            if _leaves(item.impath):
                raise DatasetError(
                    f"{part}[{i}] is {item.impath!r}: expected a path below {split.root}, "
                    'with "/" and without ".."'
                )
            if not is_file_name(item.impath):
                raise DatasetError(
                    f"{part}[{i}] is {item.impath!a}: no file can have this name on this system"
                )
    _check_once(split)
    check_labels(split)


def check_labels(split: Split, needed: Sequence[str] = PARTS) -> None:
    """The part of `check_split` about classes; only the lists `needed` must have all of them."""
    names: dict[int, str] = {}
    for part, items in split.parts():
        for item in items:
            if names.setdefault(item.label, item.classname) != item.classname:
                raise DatasetError(
                    f'label {item.label} has two names, "{names[item.label]}" and '
                    f'"{item.classname}" ({part}, {item.impath})'
                )
    if not names:
        raise DatasetError("the lists are empty")
    unwritable = [ascii(name) for name in names.values() if not can_be_written(name)]
    if unwritable:
        encoding = sys.getfilesystemencoding()
        how = "" if encoding == "utf-8" else f" (names are read as {encoding} here: PYTHONUTF8=1)"
        raise DatasetError(
            f"class names with characters that are no text: {some(unwritable)}. Write them in "
            f"UTF-8{how}"
        )
    unused = (str(label) for label in range(max(names)) if label not in names)
    gaps = list(islice(unused, 6))  # a label may be absurdly large
    if gaps:
        raise DatasetError(
            f"labels must be 0 to C-1, but {some(gaps)} of 0 to {max(names)} are not used"
        )
    for part, items in split.parts():
        here = {item.label for item in items}
        missing = [names[label] for label in sorted(names) if label not in here]
        if part in needed and missing:
            raise DatasetError(
                f"{len(missing)} of {len(names)} classes have no {part} image: {some(missing)}"
            )


def _leaves(path: str) -> bool:
    """Whether a listed path could lead out of the image folder, on any system."""
    return (
        not path
        or "\\" in path
        or "\0" in path
        or path.startswith("/")
        or path[1:2] == ":"
        or ".." in path.split("/")
    )


def _check_once(split: Split) -> None:
    seen: dict[str, str] = {}
    for part, items in split.parts():
        for item in items:
            path = posixpath.normpath(item.impath)
            if path in seen:
                raise DatasetError(
                    f"{item.impath} is listed twice ({seen[path]} and {part}): "
                    "an image belongs to one list, once"
                )
            seen[path] = part
