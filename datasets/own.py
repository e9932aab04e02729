"""Own data without code: `folder:PATH` (class folders) and `csv:PATH` (a list of images).

Both become a reader's name and `DATASET.PATH`: DATASET.NAME Folder, DATASET.PATH /data/birds.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import (
    SHOWN,
    images,
    images_and_others,
    is_image,
    left_out,
    path_problem,
    read_text,
    some,
    subfolders,
)
from datasets.reader import run_lists
from datasets.splits import PARTS, Split, check_labels, cut_classes, cut_generator

READERS = {"folder": "Folder", "csv": "Csv"}
# other words for a part that people use
ALIASES = {"valid": "val", "validation": "val"}
COLUMNS = ("path", "label", "classname", "split")


def split_name(name: str) -> tuple[str, str] | None:
    """Reader and absolute path of `folder:PATH` or `csv:PATH`; None for any other dataset name.

    Raises:
        DatasetError: an unknown prefix, or no path, or one that cannot be.
    """
    prefix, colon, path = name.partition(":")
    if not colon:
        return None
    if prefix not in READERS:
        raise DatasetError(
            f'"{name}" is no dataset: expected folder:PATH, csv:PATH or a name without a colon'
        )
    if not path.strip():
        raise DatasetError(f'"{name}" has no path: expected {prefix}:PATH')
    if problem := path_problem(path):
        raise DatasetError(f'"{name}": {problem}')
    return READERS[prefix], str(Path(os.path.expanduser(path)).absolute())


def run_name(name: str) -> str:
    """A folder name for the runs of a dataset: its name, or for own data the last part of the path
    and a digest of the whole, such as `folder-birds-1f3a9c02`.

    Raises:
        DatasetError: as `split_name`.
    """
    found = split_name(name)
    if found is None:
        return name
    path = Path(found[1])
    word = re.sub(r"[^A-Za-z0-9]+", "_", path.stem).strip("_")[:40] or "data"
    code = hashlib.sha256(":".join(found).encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{name.partition(':')[0]}-{word}-{code}"


class Own(DatasetBase):
    """Base of both readers: `DATASET.PATH` tells where, `layout` how it must look."""

    layout = ""
    test_only = reads_domains = False

    def __init__(self, cfg: CfgNode):
        split = self.read(cfg.DATASET.PATH)
        for note in split.notes:
            print(f"Note: {note}")
        if split.derived:
            counts = ", ".join(f"{len(items)} {part}" for part, items in split.parts())
            print(f"Note: no test images are marked, so the images are cut into {counts}")
        train_x, val_x, test_x = run_lists(cfg, split)
        super().__init__(train_x=train_x, val=val_x or None, test=test_x)

    @classmethod
    def read(cls, path: str) -> Split:
        """The full lists, checked.

        Raises:
            DatasetError: what is wrong, where, and how it must look.
        """
        try:
            if not path:
                raise DatasetError("DATASET.PATH is empty: it tells where the data is")
            if problem := path_problem(path):
                raise DatasetError(f"DATASET.PATH is {path!r}: {problem}")
            return cls.lists(Path(os.path.expanduser(path)).absolute())
        except DatasetError as error:
            raise DatasetError(f"{cls.__name__}: {error}\nExpected: {cls.layout}") from error

    @classmethod
    def lists(cls, path: Path) -> Split:
        """The full lists of the data at a path, checked."""
        raise NotImplementedError


@DATASET_REGISTRY.register()
class Folder(Own):
    """Class folders, directly or in train, val and test; the folders' names are the class names.

    Labels follow the names by code point. Without a test folder, the images are cut.
    """

    layout = (
        "PATH/<class>/<image>, or PATH/{train,test}/<class>/<image> and if you like PATH/val; "
        "see docs/datasets.md"
    )

    @classmethod
    def lists(cls, path: Path) -> Split:
        """As the class says."""
        if not path.is_dir():
            raise DatasetError(f"there is no folder {path}")
        places = _part_folders(path)
        others: list[str] = []
        found = {part: _class_folders(place, others) for part, place in places.items()}
        names = sorted({name for classes in found.values() for name in classes})
        labels = {name: label for label, name in enumerate(names)}
        lists = {
            part: [
                Listed(f"{places[part].relative_to(path)}/{name}/{image}", labels[name], name)
                for name, files in classes.items()
                for image in files
            ]
            for part, classes in found.items()
        }
        return replace(_finish(path, path, lists), notes=left_out(others))


@DATASET_REGISTRY.register()
class Csv(Own):
    """A table of images: columns path, classname or label (or both), and if you like split.

    Paths are relative to the file. Labels are those of the file, or number the sorted names.
    """

    layout = (
        "a file with a header and the columns path and classname (or label, or both), and if you "
        "like split (train, val, test); see docs/datasets.md"
    )

    @classmethod
    def lists(cls, path: Path) -> Split:
        """As the class says."""
        if not path.is_file():
            raise DatasetError(f"there is no file {path}")
        rows = list(_read_rows(path))
        if not rows:
            raise DatasetError(f"{path} has no rows below its header")
        _check_files(path, rows)
        labels = _label_rows(path, rows)
        lists: dict[str, list[Listed]] = {}
        for row, (label, name) in zip(rows, labels, strict=True):
            lists.setdefault(row.part, []).append(Listed(str(Path(row.path)), label, name))
        return _finish(path, path.parent, lists)


# ---- both


def _finish(source: Path, root: Path, lists: Mapping[str, list[Listed]]) -> Split:
    """The split that was found in a file or folder, checked; paths are relative to `root`."""
    try:
        return _split(root, lists)
    except DatasetError as error:
        raise DatasetError(f"{source}: {error}") from error


def _split(root: Path, lists: Mapping[str, list[Listed]]) -> Split:
    """A checked split of the parts that there are; with training images alone, a cut of them."""
    given = [part for part in PARTS if lists.get(part)]
    train, val, test = (lists.get(part, []) for part in PARTS)
    names = {item.classname for items in lists.values() for item in items}
    if len(names) < 2:
        raise DatasetError(
            f"there is one class only ({some(sorted(names))}), at least 2 are needed"
        )
    if given not in (["train"], ["train", "test"], ["train", "val", "test"]):
        raise DatasetError(
            f"there are {' and '.join(given)} images only: give train and test images, or train "
            "images alone, which are then cut"
        )
    split = Split(root, train, val, test)
    check_labels(split, given)
    if given == ["train"]:
        split = Split(root, *cut_classes(train, cut_generator()), derived=True)
    return split


# ---- folders


def _part_folders(path: Path) -> dict[str, Path]:
    """Folder of each part; class folders that lie in `path` itself are training images."""
    found: dict[str, Path] = {}
    others = []
    for name in subfolders(path):
        part = ALIASES.get(name, name)
        # a class may be called "train": then images lie in its folder, and no class folders
        is_class = bool(images(path / name)) and not subfolders(path / name)
        if part not in PARTS or is_class:
            others.append(name)
        elif part in found:
            raise DatasetError(f"{found[part]} and {path / name} are the same part, keep one")
        else:
            found[part] = path / name
    if found and others:
        raise DatasetError(
            f"{path} has {some(list(found))} folders, and beside them {some(others)}: "
            "move these away, or the classes into the parts"
        )
    return found or {"train": path}


def _class_folders(place: Path, others: list[str]) -> dict[str, list[str]]:
    """Image names by class; nothing that looks like an image may be left over.

    Args:
        place: the folder of the class folders.
        others: gets the names of the other files in them.
    """
    beside = [name for name in sorted(p.name for p in place.iterdir()) if is_image(name)]
    if beside:
        raise DatasetError(
            f"{len(beside)} images lie in {place} without a class folder ({some(beside)}): "
            "move each into the folder of its class"
        )
    found = {}
    for name in subfolders(place):
        inner = subfolders(place / name)
        if inner:
            raise DatasetError(
                f"the class folder {place / name} has folders in it ({some(inner)}): "
                "images must lie directly in the folder of their class"
            )
        found[name], strangers = images_and_others(place / name)
        others += strangers
        if not found[name]:
            has = "".join(f" ({note})" for note in left_out(strangers))
            raise DatasetError(
                f"the class folder {place / name} has no images{has}: add some, or delete the "
                "folder"
            )
    if not found:
        raise DatasetError(f"{place} has no class folders")
    return found


# ---- tables


class _Row(NamedTuple):
    line: int
    path: str
    label: str | None
    name: str | None
    part: str


def _read_rows(path: Path) -> Iterator[_Row]:
    """Rows of a table that is separated by commas, semicolons or tabs."""
    lines = io.StringIO(read_text(path), newline="")
    header = lines.readline()
    lines.seek(0)
    reader = csv.reader(lines, delimiter=max(",;\t", key=header.count), strict=True)
    try:
        columns = [column.strip() for column in next(reader, [])]
        _check_columns(path, columns)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _row(f"{path}, line {reader.line_num}", reader.line_num, columns, cells)
    except csv.Error as error:
        raise DatasetError(f"{path}, line {reader.line_num}: {error}") from error


def _check_columns(path: Path, columns: list[str]) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown or len(set(columns)) != len(columns):
        raise DatasetError(
            f"{path}: the header has the columns {', '.join(columns)}, expected each of "
            f"{', '.join(COLUMNS)} once at most"
        )
    if "path" not in columns or not {"label", "classname"} & set(columns):
        raise DatasetError(
            f"{path}: the header has the columns {', '.join(columns) or '(none)'}, expected path "
            "and classname, or path and label"
        )


def _row(where: str, line: int, columns: list[str], cells: list[str]) -> _Row:
    if len(cells) != len(columns):
        raise DatasetError(
            f"{where}: {len(cells)} cells for {len(columns)} columns ({', '.join(columns)}); put "
            "texts with the separator in them in double quotes"
        )
    values = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
    for column, value in values.items():
        if not value:
            raise DatasetError(f"{where}: {column} is empty")
    part = values.get("split", "train")
    part = ALIASES.get(part, part)
    if part not in PARTS:
        raise DatasetError(f'{where}: split is "{part}", expected train, val or test')
    return _Row(line, values["path"], values.get("label"), values.get("classname"), part)


def _check_files(path: Path, rows: Sequence[_Row]) -> None:
    """Refuse files that are not there or listed twice."""
    missing = [row for row in rows if not os.path.isfile(path.parent / row.path)]
    if missing:
        shown = [f"  line {row.line}: {path.parent / row.path}" for row in missing[:SHOWN]]
        if len(missing) > SHOWN:
            shown.append(f"  ... and {len(missing) - SHOWN} more")
        raise DatasetError(
            "\n".join([f"{path}: {len(missing)} of {len(rows)} images are missing:", *shown])
        )
    seen: dict[Path, int] = {}
    for row in rows:
        first = seen.setdefault((path.parent / row.path).resolve(), row.line)
        if first != row.line:
            raise DatasetError(f"{path}, line {row.line}: {row.path} is in line {first} already")


def _label_rows(path: Path, rows: Sequence[_Row]) -> list[tuple[int, str]]:
    """Label and class name of each row."""
    if rows[0].label is None or rows[0].name is None:
        names = [row.name or row.label or "" for row in rows]
        if rows[0].name is None and all(name.isdecimal() for name in names):
            raise DatasetError(
                f"{path}: label has numbers and there is no column classname, so the classes have "
                'no names; add it (or call the column classname, if the names are "0", "1", ...)'
            )
        labels = {name: label for label, name in enumerate(sorted(set(names)))}
        return [(labels[name], name) for name in names]
    labelled: dict[str, str] = {}
    for row in rows:
        where = f"{path}, line {row.line}"
        label, name = row.label or "", row.name or ""
        if not label.isdecimal() or len(label) > 9:
            raise DatasetError(f'{where}: label is "{label}", expected a whole number from 0')
        if labelled.setdefault(name, label) != label:
            raise DatasetError(
                f'{where}: "{name}" has label {label}, above it has {labelled[name]}'
            )
    return [(int(row.label or 0), row.name or "") for row in rows]
