"""Predictions of tests that are done: made from checkpoints, and shown as tables."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from dassl.utils import UserError
from runs import openworld
from runs.command import expected_errors
from runs.metrics import METRICS, calibration, class_counts, confused, mistakes
from runs.predictions import FILE, Predictions, read_predictions
from runs.results import read_results, readable_results
from tools.results.table_format import Item, Percent, Table


def make(folders: Iterable[Path], data: Path) -> None:
    """Write predictions and open-world figures of all tests below folders that lack them.

    Args:
        data: folder of the datasets.

    Raises:
        UserError: there are no results, or some tests could not be done again: which, and why.
    """
    paths = list(dict.fromkeys(p for f in folders for p in sorted(f.rglob("results.json"))))
    if not paths:
        raise UserError(f"no results.json below {', '.join(map(str, folders))}")
    problems = []
    for path in paths:
        try:
            _make(path, data)
        except expected_errors() as error:
            problems.append(f"{path.parent}: {error}".replace("\n", "\n    "))
            print(f"{path.parent}: not made", file=sys.stderr)
    if problems:
        raise UserError(
            f"{len(problems)} of {len(paths)} were not made:\n  " + "\n  ".join(problems)
        )


def _make(path: Path, data: Path) -> None:
    from runs.predictions import gather, write_predictions
    from runs.trained import tested_again  # needs torch

    results = read_results(path)
    assert results is not None
    run = path.parent.parent
    lacks_predictions = not _has_predictions(path.parent, results)
    base = readable_results(run / "base" / "results.json")
    lacks_openworld = openworld.applies(run, results) and not (
        base and openworld.read_openworld(run, base, results)
    )
    if not lacks_predictions and not lacks_openworld:
        print(f"{path.parent}: is there already")
        return
    trainer = tested_again(path, data)
    if lacks_predictions:
        write_predictions(path.parent, gather(trainer, results))
        print(path.parent / FILE)
    if lacks_openworld:
        openworld.write_openworld(trainer, run, results)
        print(run / openworld.FILE)


def _has_predictions(folder: Path, results: dict[str, Any]) -> bool:
    try:
        return bool(read_predictions(folder, results))
    except UserError:
        return False


def show(folder: Path, sections: Sequence[str], most: int) -> str:
    """Tables of the predictions in the folder of a test.

    Args:
        sections: keys of `SECTIONS`.
        most: rows of each table; 0: all.

    Raises:
        UserError: there are no results or predictions, or they do not belong together.
    """
    results = read_results(folder / "results.json")
    if results is None:
        raise UserError(f"there is no {folder / 'results.json'}: give the folder of one test")
    found = read_predictions(folder, results)
    tables = (SECTIONS[name](found, most or sys.maxsize) for name in sections)
    return "\n\n".join(table.show("text") for table in tables)


def _summary(found: Predictions, most: int) -> Table:
    figures = found.metrics()
    total = len(found.paths)
    hits = int(class_counts(found.outputs)[1].sum())
    row: list[Item] = [total, len(found.classnames), Percent(100 * hits / total)]
    row += [figure(name, figures[name]) for name in METRICS]
    return Table("", ["images", "classes", "accuracy", *METRICS.values()], [row], labels=0)


def figure(name: str, value: float | None, spread: float | None = None) -> Percent | None:
    """A figure of `METRICS`, or another one in percent, as tables show it."""
    return None if value is None else Percent(value, spread, decimals=4 if name == "nll" else 2)


def _classes(found: Predictions, most: int) -> Table:
    images, hits = class_counts(found.outputs, len(found.classnames))
    accuracy = {c: 100 * int(hits[c]) / int(images[c]) for c in images.nonzero()[0].tolist()}
    worst = sorted(accuracy, key=lambda c: (accuracy[c], c))
    rows: list[Sequence[Item]] = [
        [found.classnames[c], int(images[c]), int(hits[c]), Percent(accuracy[c])]
        for c in worst[:most]
    ]
    return Table("classes, the lowest accuracy first", _CLASSES, rows, labels=1)


def _confusion(found: Predictions, most: int) -> Table:
    pairs = confused(found.outputs, len(found.classnames), most)
    images, _ = class_counts(found.outputs, len(found.classnames))
    rows: list[Sequence[Item]] = [
        [found.classnames[true], found.classnames[taken], count, int(images[true])]
        for true, taken, count in pairs
    ]
    return Table("classes that are taken for others", _CONFUSION, rows, labels=2)


def _calibration(found: Predictions, most: int) -> Table:
    rows: list[Sequence[Item]] = []
    for one in calibration(found.outputs):
        means = (one.confidence, one.accuracy)
        shown = [None if math.isnan(mean) else Percent(100 * mean) for mean in means]
        rows.append([f"{100 * one.low:.1f} to {100 * one.high:.1f}", one.images, *shown])
    return Table("calibration, in percent", _CALIBRATION, rows, labels=1)


def _mistakes(found: Predictions, most: int) -> Table:
    outputs, names = found.outputs, found.classnames
    rows: list[Sequence[Item]] = [
        [
            # a name of a file may have bytes that are no text
            found.paths[at].encode(errors="backslashreplace").decode(),
            names[outputs["label"][at]],
            names[outputs["top"][at, 0]],
            Percent(100 * float(outputs["confidence"][at])),
        ]
        for at in mistakes(outputs, most)
    ]
    return Table("mistakes, the most confident first", _MISTAKES, rows, labels=3)


_CLASSES = ("class", "images", "right", "accuracy")
_CONFUSION = ("class", "taken for", "images", "of")
_CALIBRATION = ("confidence", "images", "mean confidence", "accuracy")
_MISTAKES = ("image", "class", "taken for", "confidence")
SECTIONS: dict[str, Callable[[Predictions, int], Table]] = {
    "summary": _summary,
    "classes": _classes,
    "confusion": _confusion,
    "calibration": _calibration,
    "mistakes": _mistakes,
}
