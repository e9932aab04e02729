"""The file of a pool as it is written, checked: from YAML to sections, words and rules.

docs/pools.md explains the format. What a file gives for a dataset is in `trainers.prompts.pool`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainers.backbones.tokens import EXAMPLE
from trainers.errors import MethodError
from trainers.prompts import class_texts
from trainers.prompts.class_texts import FRAGMENT, Texts
from trainers.prompts.yaml_nodes import Node, did_you_mean, read_yaml
from trainers.yaml_files import shown

_ALIASES = {"dtd": "describabletextures"}  # the only dataset whose config has another name
_FROM_FILES = ("shared", "descriptions", "random_words")
_SECTION_KEYS = ("words", "include", "templates", "rules", *_FROM_FILES)
_FILE_KEYS = ("description", *_SECTION_KEYS, "keep", "default", "datasets")
JOIN = "a photo of a {}, which has {fragment}."  # of drawn words
FIELD = re.compile(r"\{([^{}]*)\}")
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Entry:
    """A text of the file."""

    text: str
    where: str  # file, line and key, for messages


@dataclass(frozen=True)
class Source:
    """Texts that come from another file, and the rules that join them to prompts."""

    texts: Texts
    joins: list[Entry]


@dataclass(frozen=True)
class Section:
    """What a file says for all datasets, for one, or for all others."""

    words: dict[str, list[Entry]] = field(default_factory=dict)
    include: list[Entry] = field(default_factory=list)
    templates: list[Entry] = field(default_factory=list)
    rules: list[Entry] = field(default_factory=list)
    shared: list[Entry] = field(default_factory=list)  # files
    descriptions: list[Source] = field(default_factory=list)
    random_words: list[Source] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether it makes no template."""
        keys = [key for key in _SECTION_KEYS if key != "words"]
        return not any(getattr(self, key) for key in keys)

    @property
    def all_rules(self) -> list[Entry]:
        """All that may name words."""
        sources = (*self.descriptions, *self.random_words)
        return [*self.rules, *(join for source in sources for join in source.joins)]


@dataclass(frozen=True)
class PoolFile:
    """A whole file."""

    path: Path
    common: Section
    default: Section | None = None
    datasets: dict[str, tuple[str, Section]] = field(default_factory=dict)  # by canonical name
    description: str = ""
    keep: tuple[tuple[int, str], ...] = ()  # numbers of templates and their places

    def section(self, dataset: str) -> Section:
        """What the file says about one dataset beside the common part."""
        if canonical(dataset) in self.datasets:
            return self.datasets[canonical(dataset)][1]
        if self.default is not None or not self.datasets:
            return self.default or Section()
        names = [name for name, _ in self.datasets.values()]
        raise MethodError(
            f"{shown(self.path)}, datasets: unknown dataset {dataset!r}. "
            f"{did_you_mean(dataset, names)}This pool has sections for {', '.join(names)}. "
            f"Add the section {dataset!r} under `datasets`, or a `default` for all others."
        )


def canonical(dataset: str) -> str:
    """One name for all spellings of a dataset."""
    name = dataset.replace("_", "").lower()
    return _ALIASES.get(name, name)


def read_pool(path: Path) -> PoolFile:
    """The whole file, checked in all its sections; words and includes are resolved later."""
    root = read_yaml(path)
    if root.kind == "str":
        raise root.mistake("the file is one text, not a list", f"Begin each line as - {EXAMPLE}")
    if root.kind != "map":
        return PoolFile(path, _section(root))
    parts = root.fields(_FILE_KEYS)
    datasets: dict[str, tuple[str, Section]] = {}
    for name, node in parts["datasets"].fields().items() if "datasets" in parts else ():
        if name == "default":
            raise node.mistake("`default` is no dataset", "Write it beside `datasets`, not in it")
        twin = datasets.setdefault(canonical(name), (name, _section(node)))[0]
        if twin != name:
            raise node.mistake(f"{name!r} is the same dataset as {twin!r}", "Keep one section")
    pool = PoolFile(
        path,
        _section(root, _FILE_KEYS),
        _section(parts["default"]) if "default" in parts else None,
        datasets,
        parts["description"].text() if "description" in parts else "",
        tuple(_numbers(parts["keep"])) if "keep" in parts else (),
    )
    _check_words_are_used(pool)
    return pool


def _section(node: Node, known: tuple[str, ...] = _SECTION_KEYS) -> Section:
    """The common part of a file, a dataset's section or the default: a list or a mapping."""
    if node.kind != "map":
        return Section(templates=_templates(node))
    section = Section()
    for key, part in node.fields(known).items():
        if key == "words":
            section.words.update(_words(part))
        elif key == "include":
            section.include.extend(Entry(item.text(), item.where) for item in part.items())
        elif key == "templates":
            section.templates.extend(_templates(part))
        elif key == "rules":
            section.rules.extend(_templates(part, rules=True))
        elif key == "shared":
            section.shared.extend(Entry(item.text(), item.where) for item in part.items())
        elif key in class_texts.OPTIONS:
            for item in [part] if part.kind == "map" else part.items():
                texts, join = class_texts.read_options(item, key)
                joins = _templates(join, rules=True, join=True) if join else []
                getattr(section, key).append(Source(texts, joins))
    return section


def _numbers(node: Node) -> Iterator[tuple[int, str]]:
    """Numbers of templates, each once, with their places."""
    seen = set()
    for item in node.items():
        value = str(getattr(item.node, "value", ""))
        if item.kind != "int" or not value.isdecimal() or value in seen:
            raise item.mistake(f"found {value!r}", "Write numbers of templates, each once")
        seen.add(value)
        yield int(value), item.where


def _words(node: Node) -> dict[str, list[Entry]]:
    words = {}
    for name, value in node.fields().items():
        if name in ("class", FRAGMENT) or not _WORD.fullmatch(name):
            raise value.mistake(f"{name!r} cannot name words", "Use letters, digits and _")
        words[name] = [Entry(item.text(), item.where) for item in value.items()]
        for item in words[name]:
            if set("{}") & set(item.text):
                raise MethodError(f"{item.where}: brace in {item.text!r}. Use none in words.")
    return words


def _templates(node: Node, rules: bool = False, join: bool = False) -> list[Entry]:
    """Checked entries of `templates`, `rules` or `join`, with `{class}` as `{}`."""
    entries = []
    for item in node.items():
        text = item.text().replace("{class}", "{}")
        fields = FIELD.findall(text)
        named = [name for name in fields if name]
        if not text.strip():
            raise item.mistake("empty template", f"Write a sentence as {EXAMPLE}, or remove it")
        if set("{}") & set(FIELD.sub("", text)):
            raise item.mistake(f"single brace in {text!r}", "Write braces only as {} or {class}")
        if named and not rules:
            raise item.mistake(
                f"{{{named[0]}}} in {text!r} is no placeholder",
                "Write {} or {class}; entries with {words} belong under `rules`",
            )
        if len(fields) - len(named) != 1:
            count = len(fields) - len(named)
            found = f"{count} placeholders in" if count else "no placeholder in"
            raise item.mistake(f"{found} {text!r}", f"Write {{}} exactly once, as in {EXAMPLE}")
        if join and named.count(FRAGMENT) != 1:
            raise item.mistake(f"{{{FRAGMENT}}} is not once in {text!r}", f"Write it as in {JOIN}")
        entries.append(Entry(text, item.where))
    return entries


def _check_words_are_used(pool: PoolFile) -> None:
    """Raise MethodError for words that no rule of the file names: most likely misspelt."""
    sections = [pool.common, pool.default or Section(), *(s for _, s in pool.datasets.values())]
    rules = [rule.text for part in sections for rule in part.all_rules]
    used = {name for rule in rules for name in FIELD.findall(rule)}
    for part in sections:
        for name in sorted(set(part.words) - used):
            hint = did_you_mean(name, sorted(used - {"", FRAGMENT}))
            where = part.words[name][0].where
            raise MethodError(f"{where}: no rule uses {{{name}}}. {hint}Rename or remove it.")
