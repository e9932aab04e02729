"""Bytes: on the disk, in words, and as they go by."""

import shutil
from pathlib import Path

from tqdm import tqdm

from dassl.utils import UserError

CHUNK = 1 << 20  # read at once
RESERVE = 100 << 20  # stay free on the disk


def check_space(folder: Path, needed: int, what: str) -> None:
    """Check that the disk of a folder has room.

    Raises:
        UserError: it has not; with both sizes.
    """
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed + RESERVE > free:
        raise UserError(
            f"{what} needs {in_bytes(needed)} of disk, and {in_bytes(RESERVE)} stay free, but "
            f"{folder} has only {in_bytes(free)}: free some, or choose another folder with --data"
        )


def in_bytes(size: int) -> str:
    """A size for people: 791918971 is "792 MB"."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            number = size / factor
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{size} bytes"


def progress(name: str, total: int | None, initial: int = 0) -> tqdm:
    """Progress in bytes; silent where the output is not a terminal."""
    return tqdm(
        desc=f"  {name}",
        total=total,
        initial=initial,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=None,
    )
