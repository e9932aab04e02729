"""Looking at folders and list files: one listing of each folder, never one call per image."""

import codecs
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from datasets.errors import DatasetError

# compared in lower case; what else lies in a folder (Thumbs.db, notes) is no image
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff", ".gif")
STRANGERS = ("__MACOSX",)  # folders that archivers leave behind
SHOWN = 20  # most names that a message lists


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, by code point (capitals come first)."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if is_visible(e.name) and e.is_dir())


def images(folder: Path | str) -> list[str]:
    """Names of the image files in a folder, told by their suffix, by code point.

    Raises:
        DatasetError: a link leads nowhere; a look at a link costs time, one at a file does not.
    """
    return images_and_others(folder)[0]


def images_and_others(folder: Path | str) -> tuple[list[str], list[str]]:
    """As `images`, and the names of the other visible files."""
    with os.scandir(folder) as entries:
        files = [e for e in entries if is_visible(e.name) and not e.is_dir()]
    found = [e for e in files if is_image(e.name)]
    broken = sorted(e.path for e in found if e.is_symlink() and not e.is_file())
    if broken:
        raise DatasetError(
            f"{len(broken)} images are links to files that are not there: {some(broken, SHOWN)}"
        )
    others = sorted(e.name for e in files if not is_image(e.name))
    return sorted(e.name for e in found), others


def left_out(others: Sequence[str]) -> tuple[str, ...]:
    """A note that counts files that are no images by their suffix; none without such files."""
    if not others:
        return ()
    counts = Counter(Path(name).suffix.lower() or "without a suffix" for name in others)
    shown = [f"{count} {suffix}" for suffix, count in counts.most_common()]
    return (f"files left out, no images by their suffix: {some(shown)}",)


def is_image(name: str) -> bool:
    """Whether a file name is that of a visible image."""
    return is_visible(name) and name.lower().endswith(IMAGE_SUFFIXES)


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; line ends as they are.

    Raises:
        DatasetError: no such file, or another encoding: the line, and how to convert the file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror})") from error
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    at = 0 if marked else content.find(b"\0")  # every ASCII character has one in UTF-16
    if at < 0:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            at, guess = error.start, "LATIN1"
    else:
        guess = "UTF-16" if marked else "UTF-16LE" if at % 2 else "UTF-16BE"
    line, file = content.count(b"\n", 0, at) + 1, quote(str(path))
    raise DatasetError(
        f"{path}, line {line}: not text in UTF-8. Convert the file, from {guess} as it seems: "
        f"iconv -f {guess} -t UTF-8 {file} > new && mv new {file}"
    )


def read_json(path: Path) -> Any:
    """Content of a JSON file, see `read_text`.

    Raises:
        DatasetError: as `read_text`, or it is not valid JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not valid JSON: {error}; get the file again") from error


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Lines of a text file with their numbers, stripped, without the blank ones.

    Raises:
        DatasetError: as `read_text`.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    numbered = enumerate(text.split("\n"), start=1)
    return [(number, line.strip()) for number, line in numbered if line.strip()]


def can_be_written(text: str) -> bool:
    """Whether UTF-8 has all characters of a text: not the lone halves that JSON can name, and not
    the bytes of a file's name that is in another encoding."""
    return text.isascii() or text.encode(errors="replace").decode() == text


def is_file_name(path: str) -> bool:
    """Whether the system can have a file with this path: its encoding has all characters."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def path_problem(text: str) -> str:
    """Why a text that a user gives cannot be the path of a file or folder; "" if it can."""
    if "\0" in text:
        return "a path has no NUL characters"
    if not is_file_name(text):
        return "no file or folder can have this name here"
    home, _, _ = os.path.expanduser(text).partition("/")
    if home.startswith("~"):
        return f"there is no home folder {home}: write the whole path"
    return ""


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, for a message."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def is_visible(name: str) -> bool:
    """Whether a file or folder is one that a user has put there, by its name."""
    return not name.startswith(".") and name not in STRANGERS
