"""Prompt pools: YAML files with the hard prompts of the teachers.

    load_pool("paper", "OxfordPets")       the 12 templates of the MoPD paper for one dataset
    load_pool("my_pool.yaml", "shapes")    a file of your own

docs/pools.md explains the format. Nothing heavy is imported here, so that a mistake in a pool is
found before CLIP is loaded.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from trainers.backbones.paths import REPOSITORY
from trainers.backbones.tokens import CLIP, EXAMPLE, fill
from trainers.errors import MethodError
from trainers.prompts.yaml_nodes import Node, did_you_mean, read_yaml
from trainers.yaml_files import shown

POOLS = REPOSITORY / "configs" / "pools"
MAX_TEMPLATES = 10_000  # of one rule: more is a mistake, and would fill the memory

_ALIASES = {"dtd": "describabletextures"}  # the only dataset whose config has another name
_SECTION_KEYS = ("words", "include", "templates", "rules")
_FILE_KEYS = ("description", *_SECTION_KEYS, "default", "datasets")
_FIELD = re.compile(r"\{([^{}]*)\}")
_NAME = "qzq"  # stands for a class, where prompts are compared
_WORD = re.compile(r"[A-Za-z_]\w*")


def load_pool(name: str, dataset: str, clean: Callable[[str], str] = CLIP.clean) -> list[str]:
    """Templates of a pool for one dataset: H strings, each with exactly one `{}`.

    Args:
        name: a name under configs/pools (with or without .yaml), or a path to a YAML file
            (relative to the working folder, then to the repository root).
        dataset: registry name (`OxfordPets`) or config name (`oxford_pets`).
        clean: a prompt as the tokenizer of the model reads it; OpenAI's drops case and repeated
            blanks. Templates that are the same there are the same teacher, and refused.

    The order is fixed: included pools, `templates`, `rules`; first of the common part, then of
    the dataset's section. Within a rule the last word changes fastest. `{class}` is returned as
    `{}`. Raises MethodError for every mistake in the file, or if it has nothing for the dataset.
    """
    first: dict[str, _Entry] = {}
    for entry in _entries(find_pool(name), dataset, ()):
        twin = first.setdefault(clean(fill(entry.text, _NAME)), entry)
        if twin is not entry:
            raise MethodError(
                f"{entry.where}: duplicate template {entry.text!r}, "
                f"the same prompt as {twin.text!r} in {twin.where}. Remove one of the two."
            )
    return [entry.text for entry in first.values()]


def pool_sections(name: str) -> list[str]:
    """Datasets that a pool has sections for, and `default` if it serves others as well."""
    pool = _read_pool(find_pool(name))
    others = pool.default is not None or not pool.datasets
    return [dataset for dataset, _ in pool.datasets.values()] + ["default"] * others


def pool_description(name: str) -> str:
    """The `description` of a pool, empty if it has none."""
    return _read_pool(find_pool(name)).description


def check_num_teachers(
    num_teachers: int, pool: list[str], name: str, key: str = "TRAINER.MOPD.NUM_TEACHERS"
) -> None:
    """Raise MethodError unless 1 <= K <= H, where K teachers are picked from a pool of H."""
    if not 1 <= num_teachers <= len(pool):
        raise MethodError(
            f"{key} is {num_teachers}, but pool {name!r} has "
            f"{len(pool)} template{'s' * (len(pool) != 1)}. "
            f"Choose NUM_TEACHERS from 1 to {len(pool)}, or another pool."
        )


def find_pool(name: str, folder: Path | None = None, where: str = "") -> Path:
    """File of a pool; `folder` and `where` are those of an `include`. MethodError if not found.

    A name without a slash is looked up in configs/pools first; `./name.yaml` avoids that.
    """
    places = [folder] if folder else [Path.cwd(), REPOSITORY]
    bare = "/" not in name and "\\" not in name
    if bare:
        places.insert(0, POOLS)
    path = Path(os.path.expanduser(name))
    tries = [place / f"{path}{suffix}" for place in places for suffix in ("", ".yaml", ".yml")]
    found = list(dict.fromkeys(file.resolve() for file in tries if os.path.isfile(file)))
    if bare and path.suffix and len(found) > 1 and found[0].parent == POOLS:
        raise MethodError(
            f"{where}pool {name!r} may be {shown(found[0])} or {shown(found[1])}. "
            f"Write {path.stem!r} for the first, './{name}' for the second."
        )
    if found:
        return found[0]
    names = sorted(file.stem for file in POOLS.glob("*.yaml"))
    raise MethodError(
        f"{where}no pool {name!r} in {', '.join(dict.fromkeys(map(str, places)))}. "
        f"{did_you_mean(path.stem, names)}Pools in configs/pools: {', '.join(names)}. "
        "Give one of these names, or the path of a YAML file."
    )


# ---- what a file means -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    text: str
    where: str  # file, line and key, for messages


@dataclass(frozen=True)
class _Section:
    words: dict[str, list[_Entry]] = field(default_factory=dict)
    include: list[_Entry] = field(default_factory=list)
    templates: list[_Entry] = field(default_factory=list)
    rules: list[_Entry] = field(default_factory=list)


@dataclass(frozen=True)
class _Pool:
    path: Path
    common: _Section
    default: _Section | None = None
    datasets: dict[str, tuple[str, _Section]] = field(default_factory=dict)  # by canonical name
    description: str = ""

    def section(self, dataset: str) -> _Section:
        """What the file says about one dataset beside the common part."""
        if _canonical(dataset) in self.datasets:
            return self.datasets[_canonical(dataset)][1]
        if self.default is not None or not self.datasets:
            return self.default or _Section()
        names = [name for name, _ in self.datasets.values()]
        raise MethodError(
            f"{shown(self.path)}, datasets: unknown dataset {dataset!r}. "
            f"{did_you_mean(dataset, names)}This pool has sections for {', '.join(names)}. "
            f"Add the section {dataset!r} under `datasets`, or a `default` for all others."
        )


def _entries(path: Path, dataset: str, chain: tuple[Path, ...]) -> Iterator[_Entry]:
    """Expanded templates of a file for one dataset; `chain` are the files that include it."""
    pool = _read_pool(path)
    section, chain = pool.section(dataset), (*chain, path)
    words = pool.common.words | section.words
    parts = (pool.common, section)
    if not any(part.include or part.templates or part.rules for part in parts):
        raise MethodError(
            f"{shown(path)}: no templates for dataset {dataset!r}. "
            f"Add a list `templates` with entries as {EXAMPLE}."
        )
    for part in parts:
        for link in part.include:
            target = find_pool(link.text, path.parent, f"{link.where}: ")
            if target in chain:
                circle = " -> ".join(map(shown, (*chain[chain.index(target) :], target)))
                raise MethodError(f"{link.where}: pools include each other: {circle}. Remove this.")
            yield from _entries(target, dataset, chain)
        for entry in (*part.templates, *part.rules):
            yield from _expand(entry, words, dataset)


def _expand(rule: _Entry, words: dict[str, list[_Entry]], dataset: str) -> Iterator[_Entry]:
    """All combinations of the words that a rule names; a template names none."""
    names = list(dict.fromkeys(name for name in _FIELD.findall(rule.text) if name))
    for name in names:
        if name not in words:
            raise MethodError(
                f"{rule.where}: no words for {{{name}}} with dataset {dataset!r}. "
                f"{did_you_mean(name, words)}Add {name!r} to `words` of the file or of the section."
            )
    total = math.prod(len(words[name]) for name in names)
    if total > MAX_TEMPLATES:
        raise MethodError(
            f"{rule.where}: the rule makes {total} templates, at most {MAX_TEMPLATES} are allowed. "
            "Use fewer words."
        )
    for choice in product(*(words[name] for name in names)):
        chosen = {name: word.text for name, word in zip(names, choice, strict=True)}
        yield _Entry(_put(rule.text, chosen), rule.where)


def _put(text: str, words: dict[str, str]) -> str:
    """Replace `{name}` by its word; the placeholder `{}` stays."""
    return _FIELD.sub(lambda match: words.get(match[1], match[0]), text)


def _canonical(dataset: str) -> str:
    name = dataset.replace("_", "").lower()
    return _ALIASES.get(name, name)


# ---- from YAML to meaning --------------------------------------------------------------------


def _read_pool(path: Path) -> _Pool:
    """The whole file, checked in all its sections; words and includes are resolved later."""
    root = read_yaml(path)
    if root.kind == "str":
        raise root.mistake("the file is one text, not a list", f"Begin each line as - {EXAMPLE}")
    if root.kind != "map":
        return _Pool(path, _section(root))
    parts = root.fields(_FILE_KEYS)
    datasets: dict[str, tuple[str, _Section]] = {}
    for name, node in parts["datasets"].fields().items() if "datasets" in parts else ():
        if name == "default":
            raise node.mistake("`default` is no dataset", "Write it beside `datasets`, not in it")
        twin = datasets.setdefault(_canonical(name), (name, _section(node)))[0]
        if twin != name:
            raise node.mistake(f"{name!r} is the same dataset as {twin!r}", "Keep one section")
    pool = _Pool(
        path,
        _section(root, _FILE_KEYS),
        _section(parts["default"]) if "default" in parts else None,
        datasets,
        parts["description"].text() if "description" in parts else "",
    )
    _check_words_are_used(pool)
    return pool


def _section(node: Node, known: tuple[str, ...] = _SECTION_KEYS) -> _Section:
    """The common part of a file, a dataset's section or the default: a list or a mapping."""
    if node.kind != "map":
        return _Section(templates=_templates(node))
    section = _Section()
    for key, part in node.fields(known).items():
        if key == "words":
            section.words.update(_words(part))
        elif key == "include":
            section.include.extend(_Entry(item.text(), item.where) for item in part.items())
        elif key == "templates":
            section.templates.extend(_templates(part))
        elif key == "rules":
            section.rules.extend(_templates(part, rules=True))
    return section


def _words(node: Node) -> dict[str, list[_Entry]]:
    words = {}
    for name, value in node.fields().items():
        if name == "class" or not _WORD.fullmatch(name):
            raise value.mistake(f"{name!r} cannot name words", "Use letters, digits and _")
        words[name] = [_Entry(item.text(), item.where) for item in value.items()]
        for item in words[name]:
            if set("{}") & set(item.text):
                raise MethodError(f"{item.where}: brace in {item.text!r}. Use none in words.")
    return words


def _templates(node: Node, rules: bool = False) -> list[_Entry]:
    """Checked entries of `templates` or `rules`, with `{class}` as `{}`."""
    entries = []
    for item in node.items():
        text = item.text().replace("{class}", "{}")
        fields = _FIELD.findall(text)
        named = [name for name in fields if name]
        if not text.strip():
            raise item.mistake("empty template", f"Write a sentence as {EXAMPLE}, or remove it")
        if set("{}") & set(_FIELD.sub("", text)):
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
        entries.append(_Entry(text, item.where))
    return entries


def _check_words_are_used(pool: _Pool) -> None:
    """Raise MethodError for words that no rule of the file names: most likely misspelt."""
    sections = [pool.common, pool.default or _Section(), *(s for _, s in pool.datasets.values())]
    used = {name for part in sections for rule in part.rules for name in _FIELD.findall(rule.text)}
    for part in sections:
        for name in sorted(set(part.words) - used):
            where, hint = part.words[name][0].where, did_you_mean(name, sorted(used - {""}))
            raise MethodError(f"{where}: no rule uses {{{name}}}. {hint}Rename or remove it.")
