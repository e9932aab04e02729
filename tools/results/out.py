"""Files that a person asks for with --out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dassl.utils import UserError


@contextmanager
def writing(path: Path, other: str) -> Iterator[None]:
    """Make the folder of a file that is written inside; `other` is what can be chosen instead.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose {other}") from error
