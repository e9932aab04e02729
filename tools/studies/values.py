"""Values of a study file: what they must be, and a note of each that is something else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dassl.utils import UserError
from runs.config import check_name
from trainers.errors import MethodError, brief
from trainers.settings import Setting


@dataclass
class Values:
    """Takes values as what they must be, so that all mistakes of a file can be told at once.

    Attributes:
        mistakes: a line for each, with the key where it stands.
    """

    mistakes: list[str] = field(default_factory=list)
    _noted: set[tuple[str, str]] = field(default_factory=set)

    def mapping(self, value: Any, key: str) -> list[tuple[str, dict]]:
        """Names with what is said about each: a mapping, a list of names, or one name."""
        pairs = []
        named = value.items() if isinstance(value, dict) else [(n, None) for n in listed(value)]
        for name, own in named:
            if own is not None and not isinstance(own, dict):
                self.mistake(f"{key}.{name}", f"expected keys and values, found {brief(own)}")
            pairs.append((str(name), own if isinstance(own, dict) else {}))
        return pairs

    def numbers(self, value: Any, key: str, row: Setting) -> tuple[int, ...]:
        """Whole numbers of a row: a list, or one; none where one of them is wrong."""
        try:
            return tuple(row.read(key, number, 0) for number in listed(value))
        except MethodError:
            self.mistake(key, f"expected whole numbers{row.bounds()}, found {brief(value)}")
            return ()

    def text(self, value: Any, key: str) -> str:
        """A text; empty where it is none."""
        if not isinstance(value, str):
            self.mistake(key, f"expected a text, found {brief(value)}; put it in quotes")
            return ""
        return value

    def keys(self, value: dict, known: Sequence[str], key: str) -> None:
        """Note every key that is not among the known ones."""
        for name in value:
            self.known(name, known, "key", f"{key}.{name}".lstrip("."))

    def known(self, name: Any, known: Any, what: str, key: str) -> bool:
        """Whether a name is one of the known ones; if not, it is noted."""
        try:
            check_name(str(name), known, what)
        except UserError as error:
            self.mistake(key, str(error))
            return False
        return True

    def mistake(self, key: str, text: str, known: str = "") -> None:
        """Note a mistake once; `known` is the part of the text that tells it from others."""
        if (key, known or text) not in self._noted:
            self._noted.add((key, known or text))
            self.mistakes.append(f"{key}: {text}")


def listed(value: Any) -> Sequence[Any]:
    """A list or tuple as it is; one value, if there is any, as a list of one."""
    if isinstance(value, list | tuple):
        return value
    return [] if value is None else [value]
