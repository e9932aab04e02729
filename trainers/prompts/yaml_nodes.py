"""YAML whose values know their file, line and key, so that every mistake can be pointed at.

Only nodes are read, objects are never constructed: nothing in a file can be executed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from trainers.backbones.tokens import EXAMPLE
from trainers.errors import MethodError, closest
from trainers.yaml_files import compose, shown

_QUOTES = f"Put the whole text in quotes, as in {EXAMPLE}"
_KINDS = {
    "map": "a mapping (YAML reads { } and `name: value` as one)",
    "seq": "a list",
    "int": "a number",
    "float": "a number",
    "bool": "a true/false value (YAML reads yes, no, on, off as one)",
    "null": "an empty value",
    "timestamp": "a date",
}


def read_yaml(path: Path) -> Node:
    """The root node of a YAML file. Raises MethodError if it cannot be read, or is empty."""
    file, root = shown(path), compose(path, MethodError, _QUOTES)
    if root is None:
        raise MethodError(f"{file}: the file is empty. Write a list of templates, as - {EXAMPLE}.")
    return Node(root, file)


@dataclass(frozen=True)
class Node:
    """A YAML value with its file and its key, e.g. `datasets.OxfordPets.templates[2]`."""

    node: yaml.Node
    file: str
    key: str = ""

    @property
    def where(self) -> str:
        """File, line and key, for messages."""
        key = f", {self.key}" if self.key else ""
        return f"{self.file}, line {self.node.start_mark.line + 1}{key}"

    @property
    def kind(self) -> str:
        """`map`, `seq`, `str`, ...: the YAML tag without its usual prefix."""
        return self.node.tag.removeprefix("tag:yaml.org,2002:")

    def mistake(self, found: str, advice: str) -> MethodError:
        """The error that points at this node."""
        return MethodError(f"{self.where}: {found}. {advice}.")

    def text(self) -> str:
        """The text of a scalar. Raises MethodError for what YAML does not read as text."""
        if self.kind == "str" and isinstance(self.node, yaml.ScalarNode):
            return self.node.value
        raise self.mistake(f"expected text, found {self._source()}", _QUOTES)

    def items(self) -> list[Node]:
        """The entries of a list; a single scalar counts as a list of one."""
        if isinstance(self.node, yaml.ScalarNode) and self.kind != "null":
            return [self]
        if not isinstance(self.node, yaml.SequenceNode) or self.kind != "seq":
            advice = f"Write one entry per line, as - {EXAMPLE}"
            raise self.mistake(f"expected a list, found {self._source()}", advice)
        if not self.node.value:
            raise self.mistake("the list is empty", "Add an entry, or remove the key")
        return [
            Node(item, self.file, f"{self.key}[{index}]")
            for index, item in enumerate(self.node.value)
        ]

    def fields(self, known: Iterable[str] | None = None) -> dict[str, Node]:
        """The entries of a mapping. Raises MethodError for a key that is not known."""
        if not isinstance(self.node, yaml.MappingNode) or self.kind != "map":
            raise self.mistake(f"expected a mapping, found {self._source()}", "Write `name: value`")
        result: dict[str, Node] = {}
        for key_node, value in self.node.value:
            place = Node(key_node, self.file, self.key)
            name = place.text()
            if known is not None and name not in known:
                hint = did_you_mean(name, known)
                raise place.mistake(f"unknown key {name!r}", f"{hint}Known: {', '.join(known)}")
            result[name] = Node(value, self.file, f"{self.key}.{name}".lstrip("."))
        return result

    def _source(self) -> str:
        """What stands in the file, shortened, and how YAML reads it."""
        start, end = self.node.start_mark, self.node.end_mark
        source = " ".join(start.buffer[start.pointer : end.pointer].split())
        source = source if len(source) <= 40 else f"{source[:37]}..."
        kind = _KINDS.get(self.kind, f"the tag {self.node.tag!r}")
        return f"{source}, {kind}" if source else kind


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`Did you mean 'x'? ` for the closest of the names, empty if none is close."""
    near = closest(name, names)
    return f"Did you mean {near!r}? " if near else ""
