"""results.json: the only mark that an evaluation is done, and all that tables are made of."""

import errno
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any

from dassl.utils import UserError, atomic_open
from runs.metrics import PERCENT

# what a run writes under a key of results.json: types, and the same in words
_EXPECTED: dict[str, tuple[tuple[type, ...], str]] = {
    "accuracy": ((int, float), "a number from 0 to 100"),
    **dict.fromkeys(PERCENT, ((int, float, NoneType), "a number from 0 to 100, or null")),
    "nll": ((int, float, NoneType), "a number from 0, or null"),
    **dict.fromkeys(("shots", "seed"), ((int,), "a whole number")),
    **dict.fromkeys(("dataset", "trainer", "classes"), ((str,), "a text")),
    **dict.fromkeys(
        ("protocol", "source", "config", "config_hash", "checkpoint", "data"),
        ((str, NoneType), "a text or null"),
    ),
    "seconds": ((dict,), "a table of numbers"),
    **dict.fromkeys(("settings", "content"), ((dict, NoneType), "a table or null")),
}
_RANGES = {**dict.fromkeys(("accuracy", *PERCENT), 100.0), "nll": math.inf}
# what tells the results of one test from those of any other
_IDENTITY = (
    *("config_hash", "dataset", "classes", "seed", "checkpoint", "epoch", "data", "content"),
    *("total", "correct"),
)


def read_results(path: Path) -> dict[str, Any] | None:
    """Content of a results.json, or None where there is none.

    Raises:
        UserError: the file is damaged, or not one of ours.
    """
    if not path.is_file():
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
        results = json.loads(text)
        if "\\u" in text:  # half characters cannot be shown
            json.dumps(results, ensure_ascii=False).encode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): move it away") from error
    except (ValueError, RecursionError) as error:  # also of long numbers and deep lists
        raise UserError(
            f"{path} is damaged ({error}): move it away and run the command again"
        ) from error
    needed = {"dataset", "trainer", "classes", "shots", "seed", "accuracy", "epoch", "checkpoint"}
    if not isinstance(results, dict) or not needed <= results.keys():
        raise UserError(f"{path} is not the results of a run: move it away")
    _check_values(path, results)
    return results


def readable_results(path: Path) -> dict[str, Any] | None:
    """As `read_results`; a file that is not sound counts as none, and the next run names it."""
    try:
        return read_results(path)
    except UserError:
        return None


def identity(results: Mapping[str, Any]) -> dict[str, Any]:
    """What binds a file beside results to them: it is stale where this is another one now."""
    return {key: results.get(key) for key in _IDENTITY}


def find_results(folder: Path) -> list[dict[str, Any]]:
    """All results below a folder, each with its run's folder as "run".

    Raises:
        UserError: there are none, or a file is damaged or not one of ours.
    """
    results = []
    for path in sorted(folder.rglob("results.json")):
        if found := read_results(path):
            results.append({**found, "run": path.parent.parent})
    if not results:
        raise UserError(f"no results.json below {folder}: has a run finished there?")
    return results


def collect(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """As `find_results` for several folders; where they overlap, each file counts once."""
    found: dict[tuple[Path, str], dict[str, Any]] = {}
    for folder in folders:
        for one in find_results(folder):
            found.setdefault((one["run"].resolve(), one["classes"]), one)
    return list(found.values())


def _check_values(path: Path, found: Mapping[str, Any]) -> None:
    """Refuse values that no run writes; keys that older files lack are checked where they are."""
    for key, (kinds, expected) in _EXPECTED.items():
        if key not in found:
            continue
        value = found[key]
        sound = _is(value, kinds)
        if key in _RANGES and value is not None:
            sound = sound and 0 <= value <= _RANGES[key]
        elif key == "seconds":
            sound = sound and all(_is(part, (int, float, NoneType)) for part in value.values())
        if not sound:
            raise UserError(
                f"{path} is not the results of a run ({key} is {value!r}, expected {expected}): "
                "move it away, and run the command again"
            )


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    """As isinstance, but true and false are no numbers."""
    return isinstance(value, kinds) and not isinstance(value, bool)


@contextmanager
def writing(path: Path, other: str = "another --output-dir (OUTPUT)") -> Iterator[None]:
    """Make the folder of a file that is written inside; `other` is what can be chosen instead.

    Raises:
        UserError: the folder cannot be made, or the file not be written.
    """
    try:
        if os.path.isdir(path):  # before anything is written beside it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose {other}") from error


def write_atomically(path: Path, text: str, **advice: str) -> None:
    """Write a file so that it is complete or absent, see `writing`."""
    with writing(path, **advice), atomic_open(path) as file:
        file.write(text)
