"""The one reader of YAML files: within bounds, and every mistake with its file and line.

Nothing in a file can be executed, and no file can keep the reader busy for long.
"""

import pickle
import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

SIZE = 2 << 20  # bytes; the largest shipped file has 50 thousand
DEPTH = 50  # levels
VALUES = 100_000  # each alias counted as all that it stands for
DIGITS = 100  # PyYAML needs quadratic time for long numbers
KEPT = 64 << 10  # characters of a text that is not parsed again
_NEXT_KEY = re.compile(r"\n(?=[A-Za-z_])")
_ODD = re.compile(r"^(?![A-Za-z_ ]|- |\Z)", re.MULTILINE)
_QUOTES = "Put a text with special characters in quotes"
_HALF = re.compile("[\ud800-\udfff]")
_MERGE = "tag:yaml.org,2002:merge"


class _Mistake(Exception):
    """What is wrong where a mark is, and what to do."""

    def __init__(self, mark: yaml.Mark, text: str):
        super().__init__(f", line {mark.line + 1}: {text}.")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds; a key that is there twice is a mistake."""

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = self.deepest = self.count = 0
        self.extents: dict[yaml.Node, tuple[int, int]] = {}  # values in a node, and levels

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """As PyYAML's; an alias counts as the values and levels that it stands for."""
        mark = self.peek_event().start_mark
        self.depth += 1
        self._check_bounds(mark, self.depth)
        before, outer, self.deepest = self.count, self.deepest, self.depth
        node = super().compose_node(parent, index)
        if node.end_mark is None:  # not closed yet: the alias is inside of what it stands for
            raise _Mistake(mark, "an anchor contains itself. Write its content out")
        if node in self.extents:
            size, height = self.extents[node]
            self.count, self.deepest = before + size, self.depth + height
        else:
            self.count += 1
            self.extents[node] = self.count - before, self.deepest - self.depth
        self._check_bounds(mark, self.deepest)
        self.deepest = max(outer, self.deepest)
        self.depth -= 1
        return node

    def compose_scalar_node(self, anchor: str | None) -> yaml.ScalarNode:
        """As PyYAML's, after which no console and no file could take half a character."""
        node = super().compose_scalar_node(anchor)
        half = _HALF.search(node.value)
        if half:
            text = f"{half[0]!r} is half a character. Write the character itself"
            raise _Mistake(node.start_mark, text)
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """As PyYAML's, after which the last of two equal keys would win."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                first = f"first in line {lines[name]}. Keep one of the two"
                raise _Mistake(key.start_mark, f"key {key.value!r} appears twice, {first}")
            lines[name] = line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """As PyYAML's; its converters raise anything for a text that is no date or number."""
        if node.tag not in self.yaml_constructors:
            raise _Mistake(node.start_mark, f"the tag {node.tag!r} is not known here. Remove it")
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > DIGITS:
            raise _Mistake(node.start_mark, f"a number of more than {DIGITS} digits. {_QUOTES}")
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError):
            text = f"{str(node.value)[:40]!r} is no valid {kind}. Correct it, or put it in quotes"
            raise _Mistake(node.start_mark, text) from None

    def _check_bounds(self, mark: yaml.Mark, depth: int) -> None:
        if depth > DEPTH:
            raise _Mistake(mark, f"nested deeper than {DEPTH} levels. No file needs as many")
        if self.count > VALUES:
            text = f"more than {VALUES:,} values, each alias counted as what it stands for"
            raise _Mistake(mark, f"{text}. Write less")


def load(path: Path, mistake: type[Exception]) -> Any:
    """The content of a YAML file; None if it is empty. Raises `mistake` if it cannot be read.

    What has the same text as a file before is not parsed again.
    """
    return _read(path, mistake, _of)


def load_written(path: Path, mistake: type[Exception]) -> Any:
    """As `load`, of a file that a program wrote: keys that others like it have are read once."""
    with suppress(Exception):  # what is not as a program writes it is read as any other
        text = path.read_text(encoding="utf-8")
        if len(text) <= KEPT and (found := _by_key(text)):
            return pickle.loads(found)
    return load(path, mistake)


@lru_cache(16)  # a job looks at a file more than once
def _by_key(text: str) -> bytes | None:
    """The content of a flat mapping, pickled; None where it is not one key at a time."""
    if _ODD.search(text):
        return None
    parts = [pickle.loads(_content(part)) for part in _NEXT_KEY.split(text)]
    found = {key: value for part in parts for key, value in part.items()}
    sound = len(found) == len(parts) and all(len(part) == 1 for part in parts)
    return pickle.dumps(found) if sound else None


def _of(text: str) -> Any:
    if len(text) > KEPT:
        return _parse(text, _Loader.get_single_data)
    return pickle.loads(_content(text))


@lru_cache(2048)
def _content(text: str) -> bytes:
    """The content of a text, pickled: who gets it may change it."""
    return pickle.dumps(_parse(text, _Loader.get_single_data))


@lru_cache(64)
def _root(text: str) -> yaml.Node | None:
    """The root node of a text; nobody changes it."""
    node: yaml.Node | None = _parse(text, _Loader.get_single_node)
    return node


def _parse(text: str, call: Callable[[_Loader], Any]) -> Any:
    loader = _Loader(text)
    try:
        return call(loader)
    except (ValueError, OverflowError) as error:  # of characters and versions that are none
        raise _Mistake(loader.get_mark(), f"not valid YAML ({error})") from None


def compose(path: Path, mistake: type[Exception], advice: str = _QUOTES) -> yaml.Node | None:
    """The root node of a YAML file, of which nothing is constructed; None if it is empty.

    Args:
        path: the file.
        mistake: the error to raise.
        advice: what to do against broken YAML.

    Raises:
        mistake: the file cannot be read, is too large or nested too deep, or is not valid YAML.
    """
    return _read(path, mistake, _root, advice)


def _read(
    path: Path, mistake: type[Exception], call: Callable[[str], Any], advice: str = _QUOTES
) -> Any:
    file = shown(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE + 1)
        if len(data) > SIZE:
            raise mistake(f"{file}: more than {SIZE >> 20} MiB, which no settings need.")
        text = data.decode("utf-8")
        return call(text)
    except OSError as error:
        raise mistake(f"{file}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise mistake(f"{file}, line {line}: not UTF-8. Save the file as UTF-8.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise mistake(f"{file}{place}: not valid YAML, {error.problem}. {advice}.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = f"U+{ord(text[error.position]):04X}"
        raise mistake(f"{file}, line {line}: {code} is no text. Remove it.") from None
    except _Mistake as error:
        raise mistake(f"{file}{error}") from None


def shown(path: Path) -> str:
    """A path as short as the user can still open it: relative to the working folder if inside."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
