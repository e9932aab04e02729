"""A search over settings: the knobs that a study tries, each setting of them, and its tag.

A grid is every combination of lists of values; a sample draws some of them, or any value of a
range. The draws follow from the seed alone, so that a larger sample begins with a smaller one.
"""

import hashlib
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dassl.utils import UserError
from runs.config import check_setting
from runs.folder import NEUTRAL_KEYS
from runs.protocols import refuse_owned
from runs.settings import PER_DATASET
from tools.studies.values import Values
from trainers.errors import brief
from trainers.settings import Setting

SPLIT = "TEST.SPLIT"
TAG = "val"  # begins the tags of all jobs of a search, so that none shares a folder with a test
KEYS = ("knobs", "sample", "seed")
RANGE_KEYS = ("low", "high", "log")
MOST = 10_000  # settings of one search
DIGITS = 4  # significant ones of a drawn number
LONGEST = 80  # characters of a tag
_SAMPLE = Setting(kind="whole", least=1, most=MOST)
_SEED = Setting(kind="whole", least=0)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; `log`: each factor is as likely as any other."""

    low: float
    high: float
    log: bool = False

    def at(self, place: float) -> float:
        """The number at a place from 0 to 1; whole if both ends are."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            # whole numbers are as likely as their intervals [n, n + 1)
            top = self.high + 1
            whole = math.floor(self._between(self.low, top, place))
            return min(max(whole, self.low), self.high)
        found = float(f"{self._between(self.low, self.high, place):.{DIGITS}g}")
        return min(max(found, self.low), self.high)

    def _between(self, low: float, high: float, place: float) -> float:
        if self.log:
            return math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        return low + place * (high - low)


@dataclass(frozen=True)
class Search:
    """The knobs of a search.

    Attributes:
        knobs: by key, values or a range.
        sample: how many settings are drawn; 0: the whole grid.
        seed: of the draws.
    """

    knobs: Mapping[str, tuple[Any, ...] | Range]
    sample: int = 0
    seed: int = 1

    def size(self) -> float:
        """How many settings there are; infinite with a range of decimal numbers."""
        return math.prod(map(_size, self.knobs.values()))

    def settings(self) -> list[dict[str, Any]]:
        """All settings in the order of the file, or of the draws; none is there twice."""
        if not self.sample or self.size() <= self.sample:
            lists = [_values(knob) for knob in self.knobs.values()]
            return [dict(zip(self.knobs, values, strict=True)) for values in product(*lists)]
        # of Random only random() gives the same numbers in every version of Python
        draw = random.Random(self.seed).random
        found: dict[str, dict[str, Any]] = {}
        for _ in range(1000 * self.sample):  # a range may have fewer numbers than are asked for
            setting = {key: _pick(knob, draw()) for key, knob in self.knobs.items()}
            found.setdefault(json.dumps(setting), setting)
            if len(found) == self.sample:
                break
        return list(found.values())


def read_search(content: Any, key: str, values: Values) -> Search | None:
    """The search that a study file describes; None after mistakes, which are noted.

    Args:
        content: below the key `search`.
        key: where it stands.
        values: notes the mistakes.
    """
    if not isinstance(content, dict):
        values.mistake(key, f"expected {{knobs: {{KEY: [values]}}}}, found {brief(content)}")
        return None
    before = len(values.mistakes)
    values.keys(content, KEYS, key)
    named = content.get("knobs")
    if not isinstance(named, dict) or not named:
        found = "is missing" if named is None else f"found {brief(named)}"
        values.mistake(f"{key}.knobs", f"expected KEY: [values] or {{low, high}}, {found}")
        return None
    sample, seed = (
        values.numbers(content[name], f"{key}.{name}", row) if name in content else (usual,)
        for name, row, usual in (("sample", _SAMPLE, 0), ("seed", _SEED, 1))
    )
    knobs = {str(name): _knob(name, knob, f"{key}.knobs", values) for name, knob in named.items()}
    if len(values.mistakes) > before:
        return None
    if len(sample) != 1 or len(seed) != 1:
        values.mistake(key, "expected one number each for sample and seed")
        return None
    search = Search({k: knob for k, knob in knobs.items() if knob}, sample[0], seed[0])
    if not search.sample and (ranges := [k for k, one in knobs.items() if isinstance(one, Range)]):
        values.mistake(f"{key}.sample", f"is missing, and {ranges[0]} is a range to draw from")
        return None
    if not search.sample and search.size() > MOST:
        what = f"the grid has {search.size():,.0f} settings, at most {MOST:,} can be run"
        values.mistake(f"{key}.sample", f"{what}: draw some of them, as in sample: 20")
        return None
    return search


def tags(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A tag for each setting of the same knobs, such as `val_beta=0.1_num_teachers=2`.

    It does not depend on the other settings, nor on the order of knobs in the file. One that
    cannot say all of its setting, or would be too long, ends in a digest of it.
    """
    names = _short_names(settings[0]) if settings else {}
    return [_tag(setting, names) for setting in settings]


def _tag(setting: Mapping[str, Any], names: Mapping[str, str]) -> str:
    words, whole = [TAG], True
    for key in sorted(setting):
        word = re.sub(r"[^A-Za-z0-9_.+=-]+", "-", said(setting[key]))
        whole &= word == str(setting[key]) or isinstance(setting[key], float)
        words.append(f"{names[key]}={word}")
    tag = "_".join(words)
    if whole and len(tag) <= LONGEST:
        return tag
    exact = json.dumps(setting, sort_keys=True, default=str)
    digest = hashlib.sha256(exact.encode()).hexdigest()[:8]
    return f"{tag[: LONGEST - len(digest) - 1]}-{digest}"


def said(value: Any) -> str:
    """A value in short: a file by its name without suffix."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, str) and "/" in value:
        return Path(value).stem
    return str(value)


def _short_names(keys: Mapping[str, Any]) -> dict[str, str]:
    """The last part of each key in small letters; more of those that would be the same."""
    names = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if sum(other == end or other.endswith(f".{end}") for other in keys) == 1:
                break
        names[key] = end.lower()
    return names


def short_names(keys: Mapping[str, Any]) -> dict[str, str]:
    """Names of knobs for tables and pictures: the end of the key that tells it from the others."""
    return {key: key[-len(name) :] for key, name in _short_names(keys).items()}


def _size(knob: Any) -> float:
    if not isinstance(knob, Range):
        return len(knob)
    whole = isinstance(knob.low, int) and isinstance(knob.high, int)
    return knob.high - knob.low + 1 if whole else math.inf


def _values(knob: Any) -> Sequence[Any]:
    return range(int(knob.low), int(knob.high) + 1) if isinstance(knob, Range) else knob


def _pick(knob: Any, place: float) -> Any:
    return knob.at(place) if isinstance(knob, Range) else knob[int(place * len(knob))]


def _knob(name: Any, knob: Any, key: str, values: Values) -> tuple[Any, ...] | Range | None:
    """Values of a knob as a configuration holds them, or a range; None after a mistake."""
    place = f"{key}.{name}"
    try:
        refuse_owned(str(name), "base2new")
    except UserError as error:
        values.mistake(place, str(error))
        return None
    if name == SPLIT:
        values.mistake(place, "is no knob: a search is scored on validation images")
        return None
    if name in NEUTRAL_KEYS or name == PER_DATASET:
        values.mistake(place, "is no knob: it says nothing about what is learned")
        return None
    if isinstance(knob, dict):
        return _range(str(name), knob, place, values)
    if not isinstance(knob, list) or not knob:
        values.mistake(place, f"expected [values] or {{low, high}}, found {brief(knob)}")
        return None
    found = [_read(str(name), value, place, values) for value in knob]
    if None in found:
        return None
    known = [json.dumps(value, default=str) for value in found]
    if twice := [value for value, text in zip(found, known, strict=True) if known.count(text) > 1]:
        values.mistake(place, f"has the value {brief(twice[0])} twice")
    return tuple(found)


def _range(name: str, knob: dict, place: str, values: Values) -> Range | None:
    values.keys(knob, RANGE_KEYS, place)
    if not {"low", "high"} <= knob.keys() or not isinstance(knob.get("log", False), bool):
        expected = "expected {low: NUMBER, high: NUMBER}, and log: True for factors"
        values.mistake(place, f"{expected}, found {brief(knob)}")
        return None
    low, high = (_read(name, knob[end], f"{place}.{end}", values) for end in ("low", "high"))
    if None in (low, high):
        return None
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in (low, high)):
        values.mistake(place, "only a number has a range: give [values]")
        return None
    log = knob.get("log", False)
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
        expected = f"low below high{', and above 0 with log' if log else ''}"
        values.mistake(place, f"expected {expected}, found {brief(knob)}")
        return None
    return Range(low, high, log)


def _read(name: str, value: Any, place: str, values: Values) -> Any:
    """A value of a knob as a configuration holds it; None after a mistake."""
    try:
        return check_setting(name, value, "knob")
    except UserError as error:
        values.mistake(place, str(error).removeprefix("knob: "))
        return None
