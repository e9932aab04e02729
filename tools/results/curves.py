"""What the plots of a knob show: figures of rows that differ in it only."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.results.summary import AVERAGE, Figure, Row, Summary


@dataclass(frozen=True)
class Knob:
    """A setting that a study changes.

    Attributes:
        key: of "settings" in results.json; below TRAINER.<node> if it begins with a dot.
    """

    name: str
    label: str
    key: str


SHOTS = Knob("shots", "training images per class", "DATASET.NUM_SHOTS")
POOL_SIZE = Knob("pool_size", "pool size", "POOL_SIZE")
KNOBS = (
    POOL_SIZE,
    Knob("num_teachers", "teachers per image, K", ".NUM_TEACHERS"),
    Knob("alpha", "weight of the cross-entropy, α", ".ALPHA"),
    Knob("beta", "weight of the selection loss, β", ".BETA"),
    Knob("temperature", "temperature", ".TEMPERATURE"),
    SHOTS,
)
_POOL_KEYS = (".POOL", "POOL_DIGEST", ".NUM_TEACHERS")
# settings of one test, or of where it ran
_NOT_COMPARED = ("SEED", "DATASET.SUBSAMPLE_CLASSES", "PROTOCOL", "CONFIG_LABEL", "PRECISION")


@dataclass(frozen=True)
class Curve:
    """Figures of rows that differ in one knob only.

    Attributes:
        points: by value of the knob and by measure.
        partial: values at which seeds are missing.
    """

    label: str
    points: Mapping[float, Mapping[str, Figure]]
    partial: frozenset[float]


@dataclass(frozen=True)
class _Point:
    """A row, the value of the knob in it, and all its other settings."""

    row: Row
    value: float
    rest: Mapping[str, Any]

    def pool(self) -> tuple[str, int | None]:
        """Family of the pool (its name without numbers) and K; in any of its datasets."""
        named = [str(value) for key, value in self.rest.items() if key.endswith(".POOL")]
        teachers = [
            value
            for key, value in self.rest.items()
            if key.endswith(".NUM_TEACHERS") and isinstance(value, int)
        ]
        return re.sub(r"\d", "", Path(named[0]).stem) if named else "", next(iter(teachers), None)

    def prompts(self) -> tuple[str, ...]:
        """Digests of the pool, of each dataset."""
        return tuple(str(v) for key, v in sorted(self.rest.items()) if key.endswith("POOL_DIGEST"))

    def key(self, without: tuple[str, ...] = ()) -> str:
        """The same for rows that differ in the knob, and in what is left out here, only."""
        rest = {key: value for key, value in self.rest.items() if not key.endswith(without or "?")}
        return json.dumps([self.row.method, rest], sort_keys=True, default=str)


def curves(summary: Summary, knob: Knob, dataset: str) -> list[Curve]:
    """All curves with two values of the knob or more.

    Args:
        dataset: a dataset of the summary, or AVERAGE.
    """
    points = []
    for row in summary.rows:
        value, rest = _split(summary, row, dataset, knob)
        if value is not None and summary.cells[row, dataset].figures:
            points.append(_Point(row, value, rest))
    groups = _pool_groups(points) if knob is POOL_SIZE else _groups(points)
    return [
        Curve(
            label,
            {p.value: summary.cells[p.row, dataset].figures for p in group},
            frozenset(p.value for p in group if not summary.whole(p.row, dataset)),
        )
        for label, group in zip(_labels(groups), groups, strict=True)
    ]


def _groups(points: Sequence[_Point]) -> list[list[_Point]]:
    """Points that differ in the knob only; of two at one value, the one with the shorter label."""
    found: dict[str, list[_Point]] = defaultdict(list)
    for point in points:
        found[point.key()].append(point)
    return [group for group in map(_one_a_value, found.values()) if len(group) > 1]


def _one_a_value(points: Sequence[_Point]) -> list[_Point]:
    by_value: dict[float, _Point] = {}
    for point in sorted(points, key=lambda point: len(point.row.config)):
        by_value.setdefault(point.value, point)
    return [by_value[value] for value in sorted(by_value)]


def _pool_groups(points: Sequence[_Point]) -> list[list[_Point]]:
    """Pools of one family (h2.yaml, h4.yaml, ...) at one K, with the default pool among them.

    A pool smaller than K has all of its prompts as teachers: it belongs to the curve.
    """
    found: dict[str, list[_Point]] = defaultdict(list)
    for point in points:
        found[point.key(_POOL_KEYS)].append(point)
    groups = []
    for near in found.values():
        for family, k in sorted({p.pool() for p in near}, key=str):
            fits = [p for p in near if (at := p.pool()[1]) == k or (k and at == p.value and at < k)]
            own = [p for p in fits if p.pool()[0] == family]
            sizes = {p.value for p in own}
            # pools of one size but other prompts are no study of the size
            if len(sizes) < max(2, len({p.prompts() for p in own})):
                continue
            if k and max(sizes) <= k:
                continue
            labels = [p.row.config for p in own]
            plain = [p for p in fits if any(x.startswith(f"{p.row.config}-") for x in labels)]
            groups.append(_one_a_value([*own, *(p for p in plain if p not in own)]))
    return groups


def _split(
    summary: Summary, row: Row, dataset: str, knob: Knob
) -> tuple[float | None, dict[str, Any]]:
    """Value of the knob in a row, and all other settings; no value if datasets differ in it."""
    if knob is SHOTS:  # rows of one configuration: epochs may well follow the shots
        return row.shots, {"config": row.config}
    values, rest = [], {}
    for test in summary.tests:
        if test.row != row or dataset not in (AVERAGE, test.dataset):
            continue
        for key, value in (test.found.get("settings") or {}).items():
            if _is(key, knob.key):
                values.append(value)
            elif key not in _NOT_COMPARED:
                rest[f"{test.dataset}: {key}" if dataset == AVERAGE else key] = value
    value = values[0] if values and all(v == values[0] for v in values) else None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value if number else None), rest


def _is(key: str, wanted: str) -> bool:
    if wanted.startswith("."):
        return key.startswith("TRAINER.") and key.count(".") == 2 and key.endswith(wanted)
    return key == wanted


def _labels(groups: Sequence[Sequence[_Point]]) -> list[str]:
    """Names of groups: the method, and what tells it from another group of the same method."""
    labels = []
    for group in groups:
        mine = group[-1]
        rivals = [other[-1].rest for other in groups if other[-1].row.method == mine.row.method]
        differ = [
            name
            for name in sorted({name for rest in rivals for name in rest})
            if not name.endswith("_DIGEST")
            and any(rest.get(name) != rivals[0].get(name) for rest in rivals)
        ]
        told = dict.fromkeys(f"{n.rpartition('.')[2]} {mine.rest.get(n)}" for n in differ)
        words = list(told) if len(told) < 3 else [mine.row.config]  # more is too much to read
        labels.append(f"{mine.row.method} ({', '.join(words)})" if words else mine.row.method)
    return labels
