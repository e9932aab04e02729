"""What a setting may be: a row of the table of all settings, and the one reader of their values.

The rows of the engine's keys are in `runs/settings.py`, those of a method's knobs in its `rows`. A
value is read alike from YAML, where it has a type, and from a command line, where it is a text.
"""

from __future__ import annotations

import ast
import math
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from trainers.errors import MethodError, brief, meant

AUTO = "auto"  # value of a setting that something else decides
LARGEST = 2**63 - 1  # of whole numbers; files and tensors hold no more
LONGEST = 4096  # characters of a text; no path may be longer
# kind -> one value in words, and several
KINDS = {
    "bool": ("True or False", "values True or False"),
    "whole": ("a whole number", "whole numbers"),
    "number": ("a number", "numbers"),
    "text": ("a text", "texts"),
    "path": ("a path or name", "paths or names"),
    "words": ("words, True or False", "words"),
    "list": ("a list", "lists"),
    "plain": ("a plain value", "plain values"),
}
TEXTS = ("text", "path", "words")
OF_TYPE = {bool: "bool", int: "whole", float: "number", str: "text", tuple: "list", list: "list"}


@dataclass(frozen=True)
class Setting:
    """A row: all that is known of a setting but its key and its default.

    Attributes:
        meaning: in one phrase; a row without it is that of a key of which nothing is known.
        kind: one of `KINDS`; empty: that of the default.
        of: the row of each value of a list; it says its kind.
        length: of a list.
        least, most, above, below: bounds of numbers.
        infinite: numbers need not be finite.
        choices: the known names, or a function that gives them, called for each check.
        rule: what must hold as well, in words and as a function of the value.
        empty: what an empty text or list means; without it, only an empty default may be one.
        true: the words that True stands for where the default has none, for the kind "words".
        auto: who decides where the value is `AUTO`; empty: it may not be.
    """

    meaning: str = ""
    kind: str = ""
    of: Setting | None = None
    length: int | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    infinite: bool = False
    choices: Iterable[str] | Callable[[], Iterable[str]] = ()
    rule: tuple[str, Callable[[Any], bool]] | None = None
    empty: str = ""
    true: str = ""
    auto: str = ""

    def read(self, key: str, value: Any, default: Any) -> Any:
        """The value as a configuration holds it, of the type of the default.

        Args:
            key: for the message.
            value: as YAML gives it, or a text.
            default: of the key.

        Raises:
            MethodError: naming key and value, what was expected, and the default.
        """
        if self.auto and value == AUTO:
            return value
        kind, shown = self.kind_of(default), value
        if _is_none(kind, value):
            if kind in TEXTS and self._may_be_empty(value, default):
                return ""
            raise MethodError(
                f"{key} has no value, expected {self.expected(default)}; without the key its "
                "default is taken"
            )
        try:
            shown = found = self._typed(kind, value, default)
            if self._fits(found, default):
                return found
            hint = self._near(found)
        except _NotOfKind as error:
            hint = str(error)
        raise MethodError(f"{key} is {brief(shown)}, expected {self.expected(default)}{hint}")

    def kind_of(self, default: Any) -> str:
        """The kind of a setting with this default."""
        return self.kind or OF_TYPE.get(type(default), "plain")

    def names(self) -> list[str]:
        """The known names, as they are now."""
        return list(self.choices() if callable(self.choices) else self.choices)

    def expected(self, default: Any) -> str:
        """What a value must be, and the default, in words."""
        if default in (None, "", (), []):
            return f"{self.range(default)} (default: {self.empty or 'none'})"
        if self.choices:
            return f"{self.range(default)} (default: {default})"
        return f"{self.range(default)}{',' if self.rule else ''} such as {brief(default)}"

    def range(self, default: Any = None) -> str:
        """What a value must be, in words."""
        return f"{self._range(default)}{f' or {AUTO}' if self.auto else ''}"

    def _range(self, default: Any) -> str:
        if self.choices:
            return f"one of: {', '.join(self.names())}"
        text = KINDS[self.kind_of(default)][0]
        if self.of is not None and self.of.choices:
            text = f"a list out of: {', '.join(self.of.names())}"
        elif self.of is not None:
            count = f"{self.length} " if self.length else ""
            text = f"a list of {count}{KINDS[self.of.kind][1]}{self.of.bounds()}"
        rule = f", {self.rule[0]}" if self.rule else ""
        return f"{text}{self.bounds()}{rule}"

    def bounds(self) -> str:
        """The bounds of a number, in words, with a blank before them."""
        if self.least is not None and self.most is not None:
            return f" from {self.least} to {self.most}"
        ends = {"from": self.least, "above": self.above, "up to": self.most, "below": self.below}
        found = [f"{word} {end}" for word, end in ends.items() if end is not None]
        return f" {' and '.join(found)}" if found else ""

    def _may_be_empty(self, value: Any, default: Any) -> bool:
        # of a key of which nothing is known an empty value may be meant, but not none at all
        return bool(self.empty) or not default or (not self.meaning and value is not None)

    def _typed(self, kind: str, value: Any, default: Any) -> Any:
        """The value as its kind; whole numbers serve as decimal ones."""
        if kind == "text" and type(switch := _parsed(value)) is bool and "on" in self.names():
            value = "on" if switch else "off"  # as YAML reads these words
        found = READERS[kind](value)
        if kind == "list":
            if self.of is not None:
                # numbers stay as they are written, so that a configuration keeps its hash
                found = [READERS[self.of.kind](one) for one in found]
            return tuple(found) if isinstance(default, tuple) else found
        if kind == "words" and isinstance(found, bool) and isinstance(default, str):
            return (default or self.true) if found else ""
        return float(found) if isinstance(default, float) else found

    def _fits(self, found: Any, default: Any = "") -> bool:
        """Whether a value of the right kind is one that is expected."""
        if isinstance(found, list | tuple):
            right = self.length in (None, len(found))
            right &= bool(found) or self._may_be_empty(found, default)
            right &= self.of is None or all(map(self.of._fits, found))
        elif isinstance(found, str):
            right = not self.choices or found in self.names()
        elif isinstance(found, bool) or found is None:
            right = True
        else:
            right = (
                (self.infinite or math.isfinite(found))
                and (self.least is None or found >= self.least)
                and (self.most is None or found <= self.most)
                and (self.above is None or found > self.above)
                and (self.below is None or found < self.below)
            )
        return right and (self.rule is None or self.rule[1](found))

    def _near(self, found: Any) -> str:
        """A suggestion for a name that is not known."""
        if isinstance(found, list | tuple):
            hints = (self.of._near(one) for one in found) if self.of is not None else ()
            return next(filter(None, hints), "")
        if not isinstance(found, str) or found in self.names():
            return ""
        return meant(found, self.names())


UNKNOWN = Setting(infinite=True)  # the row of a key of which only the default is known


class _NotOfKind(Exception):
    """A value is not of its kind; the text says what to do, if anything."""


def _is_none(kind: str, value: Any) -> bool:
    """Whether there is no value, which is not the same as a value of a wrong kind."""
    if kind == "plain":
        return False
    return value is None or value == "" or kind not in TEXTS and _parsed(value) is None


def _parsed(value: Any) -> Any:
    """A text as the value that Python reads in it, else as it is; true and false as in YAML."""
    if not isinstance(value, str) or len(value) > LONGEST:
        return value
    word = value.strip()
    if word in ("true", "false"):
        return word == "true"
    try:
        with warnings.catch_warnings(action="ignore"):  # of texts that look like broken code
            return ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value


def _bool(value: Any) -> bool:
    found = _parsed(value)
    if not isinstance(found, bool):
        raise _NotOfKind
    return found


def _whole(value: Any) -> int:
    found = _parsed(value)
    if type(found) is not int or abs(found) > LARGEST:
        raise _NotOfKind
    return found


def _number(value: Any) -> float:
    found = _parsed(value)
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        raise _NotOfKind
    try:
        number = float(found)  # of the texts inf and nan, too
    except (ValueError, OverflowError):
        raise _NotOfKind from None
    return number if isinstance(found, str) else found


def _text(value: Any, encode: Callable[[str], bytes] = str.encode) -> str:
    if not isinstance(value, str):
        raise _NotOfKind("; put it in quotes" if isinstance(value, int | float) else "")
    try:
        encode(value)
    except UnicodeEncodeError:
        raise _NotOfKind(" without halves of characters") from None
    if "\0" in value:
        raise _NotOfKind(" without NUL characters")
    if len(value) > LONGEST:
        raise _NotOfKind(f" of at most {LONGEST} characters")
    return value


def _path(value: Any) -> str:
    return _text(value, os.fsencode)


def _words(value: Any) -> str | bool:
    word = value.strip().lower() if isinstance(value, str) else ""
    if isinstance(value, bool) or word in ("true", "false"):
        return value is True or word == "true"
    return _text(value)


def _list(value: Any) -> list[Any]:
    found = _parsed(value)
    if not isinstance(found, list | tuple):
        raise _NotOfKind
    return [_kept(one) for one in found]


def _plain(value: Any) -> Any:
    return _kept(_parsed(value))


def _kept(value: Any) -> Any:
    """A value that a configuration can hold and a file can keep; texts in it stay texts."""
    if isinstance(value, list | tuple):
        return type(value)(_kept(one) for one in value)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise _NotOfKind
    return _whole(value) if type(value) is int else value


READERS: dict[str, Callable[[Any], Any]] = {
    **{"bool": _bool, "whole": _whole, "number": _number, "text": _text, "path": _path},
    **{"words": _words, "list": _list, "plain": _plain},
}
