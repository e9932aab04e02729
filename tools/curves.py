"""What the plots show: figures over a knob, and gains over a baseline."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tools.summary import AVERAGE, Figure, Row, Summary


@dataclass(frozen=True)
class Knob:
    """A setting that a study changes.

    Attributes:
        key: of "settings" in results.json; below TRAINER.<node> if it begins with a dot.
        along: keys that change with it.
    """

    name: str
    label: str
    key: str
    along: tuple[str, ...] = ()


SHOTS = Knob("shots", "training images per class", "DATASET.NUM_SHOTS")
KNOBS = (
    Knob("pool_size", "pool size", "POOL_SIZE", (".POOL", "POOL_DIGEST")),
    Knob("num_teachers", "teachers per image, K", ".NUM_TEACHERS"),
    Knob("alpha", "weight of the cross-entropy, α", ".ALPHA"),
    Knob("beta", "weight of the selection loss, β", ".BETA"),
    Knob("temperature", "temperature", ".TEMPERATURE"),
    SHOTS,
)
# settings of one test, or of where it ran
_NOT_COMPARED = ("SEED", "DATASET.SUBSAMPLE_CLASSES", "PROTOCOL", "CONFIG_LABEL", "PRECISION")


@dataclass(frozen=True)
class Curve:
    """Figures of rows that differ in one knob only, by its value and by measure."""

    label: str
    points: Mapping[float, Mapping[str, Figure]]


def curves(summary: Summary, knob: Knob, dataset: str) -> list[Curve]:
    """All curves with two values of the knob or more.

    Args:
        dataset: a dataset of the summary, or AVERAGE.
    """
    groups: dict[str, dict[float, Row]] = defaultdict(dict)
    others: dict[str, dict[str, Any]] = {}  # what the rows of a group share
    for row in summary.rows:
        value, rest = _split(summary, row, dataset, knob)
        if value is None or not summary.cells[row, dataset].figures:
            continue
        group = json.dumps([row.method, rest], sort_keys=True, default=str)
        others[group] = {"": row.method, **rest}
        # the same settings under two labels: the first is as good as the second
        groups[group].setdefault(value, row)
    groups = {key: rows for key, rows in groups.items() if len(rows) > 1}
    labels = _labels({key: others[key] for key in groups}, groups)
    return [
        Curve(
            labels[key],
            {value: summary.cells[rows[value], dataset].figures for value in sorted(rows)},
        )
        for key, rows in groups.items()
    ]


def _split(
    summary: Summary, row: Row, dataset: str, knob: Knob
) -> tuple[float | None, dict[str, Any]]:
    """Value of the knob in a row, and all other settings; no value if datasets differ in it."""
    if knob is SHOTS:  # rows of one configuration: epochs may well follow the shots
        return row.shots, {"config": row.config}
    values, rest = set(), {}
    for test in summary.tests:
        if test.row != row or (dataset != AVERAGE and test.dataset != dataset):
            continue
        settings = test.found.get("settings") or {}
        for key, value in settings.items():
            if _is(key, knob.key):
                values.add(value)
            elif key not in _NOT_COMPARED and not any(_is(key, along) for along in knob.along):
                name = f"{test.dataset}: {key}" if dataset == AVERAGE else key
                rest[name] = value
    value = values.pop() if len(values) == 1 else None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value if number else None), rest


def _is(key: str, wanted: str) -> bool:
    if wanted.startswith("."):
        return key.startswith("TRAINER.") and key.count(".") == 2 and key.endswith(wanted)
    return key == wanted


def _labels(
    others: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Mapping[float, Row]]
) -> dict[str, str]:
    """Names of groups: the method, and what tells it from another group of the same method."""
    labels = {}
    for key, mine in others.items():
        method = mine[""]
        rivals = [rest for rest in others.values() if rest[""] == method]
        names = sorted({name for rest in rivals for name in rest})
        differ = [n for n in names if any(rest.get(n) != rivals[0].get(n) for rest in rivals)]
        told = [f"{name.rpartition('.')[2]} {mine.get(name)}" for name in dict.fromkeys(differ)]
        if len(told) > 2:  # too many to read: the label of its first row
            told = [next(iter(groups[key].values())).config]
        labels[key] = f"{method} ({', '.join(dict.fromkeys(told))})" if told else method
    return labels


def baseline_of(summary: Summary, row: Row, wanted: str) -> Row | None:
    """The row that another is compared with, or None where that is not clear.

    Args:
        wanted: METHOD or METHOD/CONFIG. Of several configurations of a method, the one with the
            same label is meant, or the one of which the row's label is a variant.
    """
    method, _, config = wanted.partition("/")
    found = [r for r in summary.rows if r.method == method and r.shots == row.shots]
    found = [r for r in found if not config or r.config == config]
    if len(found) > 1:
        same = [r for r in found if row.config == r.config]
        found = same or [r for r in found if row.config.startswith(f"{r.config}-")]
    return found[0] if len(found) == 1 and found[0] != row else None


def gains(summary: Summary, row: Row, base: Row, dataset: str) -> dict[str, float]:
    """Percentage points of a row over another on a dataset, by measure; what lacks is absent."""
    mine, theirs = (summary.cells[one, dataset].figures for one in (row, base))
    return {m: mine[m].mean - theirs[m].mean for m in mine.keys() & theirs.keys()}
