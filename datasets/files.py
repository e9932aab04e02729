"""Looking at folders and list files: one listing of each folder, never one call per image."""

import os
from collections.abc import Sequence
from pathlib import Path

from datasets.errors import DatasetError

# compared in lower case; what else lies in a folder (Thumbs.db, notes) is no image
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif")
STRANGERS = ("__MACOSX",)  # folders that archivers leave behind
SHOWN = 20  # most names that a message lists


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, by code point (capitals come first)."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if _visible(e.name) and e.is_dir())


def images(folder: Path | str) -> list[str]:
    """Names of the image files in a folder, told by their suffix, by code point.

    Raises:
        DatasetError: a link leads nowhere; a look at a link costs time, one at a file does not.
    """
    with os.scandir(folder) as entries:
        found = [e for e in entries if is_image(e.name) and not e.is_dir()]
    broken = sorted(e.path for e in found if e.is_symlink() and not e.is_file())
    if broken:
        raise DatasetError(
            f"{len(broken)} images are links to files that are not there: {some(broken, SHOWN)}"
        )
    return sorted(e.name for e in found)


def is_image(name: str) -> bool:
    """Whether a file name is that of a visible image."""
    return _visible(name) and name.lower().endswith(IMAGE_SUFFIXES)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Lines of a text file with their numbers, stripped, without the blank ones.

    Raises:
        DatasetError: no such file, or it is not text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not text in UTF-8: {error}") from error
    numbered = enumerate(text.split("\n"), start=1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _visible(name: str) -> bool:
    return not name.startswith(".") and name not in STRANGERS
