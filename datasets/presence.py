"""Whether the listed images are there: folders are listed once, files are not touched."""

import os
import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from datasets.errors import DatasetError
from datasets.files import SHOWN
from datasets.splits import Split


def check_images(split: Split, roots: Sequence[str] = ("",)) -> None:
    """Refuse a split whose images are not all there, with their number and the first of them.

    Args:
        split: the lists.
        roots: folders below `split.root` that hold the images; these may be links, what lies in
            them must not lead out of them.

    Raises:
        DatasetError: as said, or a link leads elsewhere.
    """
    folders = _Folders(split.root, roots)
    missing: list[tuple[str, str]] = []
    other_case: list[str] = []
    total = 0
    for part, items in split.parts():
        total += len(items)
        for item in items:
            if folders.has(item.impath):
                continue
            # a file system may take another spelling for the same name
            if os.path.isfile(split.root / item.impath):
                other_case.append(item.impath)
            else:
                missing.append((part, item.impath))
    if missing:
        raise DatasetError(_report(missing, total, split.root, folders))
    if other_case:
        print(
            f"Note: {len(other_case)} files in {split.root} are spelled in another way than listed "
            f"({other_case[0]} first): other machines will not find them"
        )


class _Folders:
    """Names in the folders of a dataset, read on first use."""

    def __init__(self, root: Path, roots: Sequence[str]):
        self.root = os.fspath(root)
        self.allowed = [os.path.realpath(root / name) for name in roots]
        self.names: dict[str, dict[str, bool]] = {}

    def has(self, path: str) -> bool:
        """Whether the file is listed in its folder, exactly so."""
        folder, name = posixpath.split(path)
        entries = self.entries(folder)
        if entries.get(name):
            self.refuse_exit(path)
        return name in entries

    def entries(self, folder: str) -> dict[str, bool]:
        """Names in a folder, each with whether it is a link; empty if there is no such folder."""
        if folder not in self.names:
            self.refuse_exit(folder)
            try:
                with os.scandir(os.path.join(self.root, folder)) as entries:
                    self.names[folder] = {e.name: e.is_symlink() for e in entries}
            except OSError:
                self.names[folder] = {}
        return self.names[folder]

    def refuse_exit(self, path: str) -> None:
        """Raise if a path, links followed, lies in none of the image folders."""
        real = os.path.realpath(os.path.join(self.root, path))
        if not any(os.path.commonpath([real, allowed]) == allowed for allowed in self.allowed):
            raise DatasetError(
                f"{self.root}/{path} leads to {real}, out of the image folder: "
                "link the image folder as a whole, or copy the files"
            )

    def near(self, path: str) -> str | None:
        """A file or folder that differs from a missing one in case or Unicode form only."""
        folder, name = posixpath.split(path)
        while folder and not self.entries(folder):
            folder, name = posixpath.split(folder)
        same = [n for n in self.entries(folder) if _fold(n) == _fold(name) and n != name]
        return posixpath.join(folder, same[0]) if same else None


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _report(missing: list[tuple[str, str]], total: int, root: Path, folders: _Folders) -> str:
    """Number, first paths, and what the reason looks like."""
    parts = [part for part, _ in missing]
    counts = ", ".join(f"{parts.count(p)} {p}" for p in dict.fromkeys(parts))
    lines = [f"{len(missing)} of {total} images are missing ({counts}):"]
    lines += [f"  {root}/{path}" for _, path in missing[:SHOWN]]
    if len(missing) > SHOWN:
        lines.append(f"  ... and {len(missing) - SHOWN} more")
    first = missing[0][1]
    near = folders.near(first)
    if near is not None:
        lines.append(f"{root}/{near} is there, spelled in another way: rename it as listed")
    top = first.split("/")[0]
    for outer, inner in ((root, root / root.name), (root / top, root / top / top)):
        if os.path.isdir(inner):  # also of a name that no folder can have
            lines.append(f"{inner} is there, one level too deep: move its content to {outer}")
            break
    return "\n".join(lines)
