"""Texts that come from other files than the pool: sentences of each class, lists, drawn words.

JSON files in the layouts in which they are published, and lists of words. docs/pools.md explains
them; `trainers.prompts.pool` makes templates of them.
"""

import json
import math
import os
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trainers.backbones.tokens import ClassTexts, is_text, spelling
from trainers.errors import MethodError, brief
from trainers.prompts.yaml_nodes import Node
from trainers.yaml_files import shown

FRAGMENT = "fragment"  # the placeholder of a joining rule
UNEQUAL = ("refuse", "cycle", "sample")
OPTIONS = {
    "descriptions": ("file", "join", "per_class", "unequal", "seed"),
    "random_words": ("file", "join", "count", "each", "seed"),
}
SIZE = 64 << 20  # bytes of a file; the sentences of ImageNet's classes have five million
MOST = 10_000  # teachers of one file
Lists = dict[str, dict[str, list[str]]]  # class name -> question, "" for none -> texts


@dataclass(frozen=True)
class Texts:
    """A file of texts and how they are used.

    Attributes:
        where: place in the pool, for messages.
        file: as the pool names it.
        count: texts of each class (`per_class`), or prompts of drawn words; 0: not said.
        unequal: one of `UNEQUAL`, for classes with fewer or more texts than others.
        seed: of what is drawn.
        each: words of a prompt.
    """

    where: str
    file: str
    count: int = 0
    unequal: str = "refuse"
    seed: int = 1
    each: int = 2


def read_options(node: Node, key: str) -> tuple[Texts, Node | None]:
    """One entry of `descriptions` or `random_words`, and its joining rules if there are any."""
    parts = {"file": node} if node.kind == "str" else node.fields(OPTIONS[key])
    if "file" not in parts:
        raise node.mistake("`file` is missing", "Write the path of a file, as file: texts.json")
    numbers = {"per_class": ("count", 1), "count": ("count", 1), "each": ("each", 1)}
    numbers["seed"] = ("seed", 0)
    found: dict[str, Any] = {
        name: _number(parts[option], least)
        for option, (name, least) in numbers.items()
        if option in parts
    }
    if "unequal" in parts:
        found["unequal"] = parts["unequal"].text()
        if found["unequal"] not in UNEQUAL:
            known = f"Write one of: {', '.join(UNEQUAL)}"
            raise parts["unequal"].mistake(f"unknown rule {found['unequal']!r}", known)
    if key == "random_words" and "count" not in parts:
        raise node.mistake("`count` is missing", "Say how many prompts there are to be")
    return Texts(node.where, parts["file"].text(), **found), parts.get("join")


def _number(node: Node, least: int) -> int:
    value = str(node.node.value)
    if node.kind != "int" or not value.isdecimal() or not least <= int(value) <= MOST:
        raise node.mistake(f"found {brief(value)}", f"Write a number from {least} to {MOST}")
    return int(value)


# ---- files -----------------------------------------------------------------------------------


def find(named: str, folder: Path, where: str) -> Path:
    """The file that a pool names, relative to the pool's folder."""
    path = folder / os.path.expanduser(named)
    if not os.path.isfile(path):
        raise MethodError(f"{where}: there is no file {shown(path)}. Correct the path.")
    return path.resolve()


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > SIZE:
            raise MethodError(f"{shown(path)}: larger than {SIZE >> 20} MiB. Use fewer texts.")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise MethodError(f"{shown(path)}: cannot be read: {reason}.") from error


def _json(path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twins = [key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1]
            raise MethodError(f"{shown(path)}: {twins[0]!r} is there twice. Keep one.")
        return found

    try:
        return json.loads(_read(path), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        if isinstance(error, MethodError):
            raise
        raise MethodError(f"{shown(path)}: no JSON: {error}.") from error


def _texts(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not value:
        raise MethodError(f"{where}: expected a list of texts, found {brief(value)}.")
    for place, text in enumerate(value):
        if not isinstance(text, str) or not text.strip() or not is_text(text):
            raise MethodError(f"{where}[{place}]: expected a text, found {brief(text)}.")
    return value


def _placeholder(text: str) -> str:
    """`{c}` and `{class}` as `{}`."""
    return text.replace("{class}", "{}").replace("{c}", "{}")


def shared_templates(path: Path) -> list[tuple[str, str]]:
    """Templates of a JSON list, with `{c}`, `{class}` or `{}` for the name, and their places."""
    found = []
    for i, text in enumerate(map(_placeholder, _texts(_json(path), shown(path)))):
        where = f"{shown(path)}[{i}]"
        if text.count("{}") != 1 or set("{}") & set(text.replace("{}", "")):
            example = "Write {}, {c} or {class} exactly once, and no other braces"
            raise MethodError(f"{where}: {brief(text)} is no template. {example}.")
        found.append((text, where))
    return found


@cache
def _described(path: Path, stamp: tuple[int, int]) -> Lists:
    """The texts of a file: {class: [text, ...]} or {class: {question: [text, ...]}}."""
    content, file = _json(path), shown(path)
    if not isinstance(content, dict) or not content:
        raise MethodError(
            f"{file}: expected a mapping from class names to lists of texts, found "
            f"{brief(content)}."
        )
    found: Lists = {}
    names: dict[str, str] = {}
    for name, value in content.items():
        twin = names.setdefault(spelling(name), name)
        if twin != name or not spelling(name):
            raise MethodError(f"{file}: {name!r} is the same class as {twin!r}. Keep one.")
        parts = value if isinstance(value, dict) else {"": value}
        found[name] = {
            question: [_placeholder(t) for t in _texts(texts, f"{file}, {name!r}")]
            for question, texts in parts.items()
        }
        for text in (text for texts in found[name].values() for text in texts):
            if set("{}") & set(text.replace("{}", "")):
                raise MethodError(
                    f"{file}, {name!r}: braces in {brief(text)}. Write the class name as {{}}, "
                    "{c} or {class}, and no other braces."
                )
        first = next(iter(found))
        if list(found[name]) != list(found[first]):
            raise MethodError(
                f"{file}: {name!r} has other questions than {first!r}: {list(found[name])} and "
                f"{list(found[first])}. Give all classes the same, in the same order."
            )
    return found


# ---- prompts ---------------------------------------------------------------------------------


def class_teachers(texts: Texts, folder: Path, join: str = "") -> list[ClassTexts]:
    """Teachers of which each has one text for each class: question by question, in file order.

    Args:
        folder: of the pool.
        join: a template with `{}` and `{fragment}`, where the texts are fragments.

    Raises:
        MethodError: no such file, a damaged one, or counts that differ and are refused.
    """
    path = find(texts.file, folder, texts.where)
    status = path.stat()
    lists = _described(path, (status.st_mtime_ns, status.st_size))
    teachers = []
    for question in next(iter(lists.values())):
        chosen = _equal({name: own[question] for name, own in lists.items()}, texts, shown(path))
        about = f", {question}" if question else ""
        for place in range(len(next(iter(chosen.values())))):
            name = f"{path.stem}{about}, text {place + 1}" + (f": {join}" if join else "")
            own = {name: many[place] for name, many in chosen.items()}
            if join:
                own = {name: join.replace("{fragment}", text) for name, text in own.items()}
            teachers.append(ClassTexts(name, own))
    return teachers


def _equal(lists: dict[str, list[str]], texts: Texts, file: str) -> dict[str, list[str]]:
    """The same number of texts for each class."""
    least, most = (rule(lists, key=lambda name: len(lists[name])) for rule in (min, max))
    fewest, largest = len(lists[least]), len(lists[most])
    count = texts.count or (fewest if texts.unequal == "sample" else largest)
    if texts.unequal == "refuse" and fewest < count:
        raise MethodError(
            f"{texts.where}: {file} has {fewest} texts for {least!r}, but "
            + (f"per_class is {count}" if texts.count else f"{largest} for {most!r}")
            + f". Write per_class: {fewest}, or unequal: cycle or sample."
        )
    if texts.unequal == "sample":
        return {name: _sampled(name, many, count, texts.seed) for name, many in lists.items()}
    return {name: [many[i % len(many)] for i in range(count)] for name, many in lists.items()}


def _sampled(name: str, many: list[str], count: int, seed: int) -> list[str]:
    """Texts in an order that seed and class name decide; again, if there are not enough."""
    order = random.Random(f"{seed} {spelling(name)}").sample(many, len(many))
    return [order[i % len(many)] for i in range(count)]


def random_fragments(texts: Texts, folder: Path) -> list[str]:
    """So many different groups of words of a list (a word a line), drawn with the seed.

    Raises:
        MethodError: no such file, or too few words.
    """
    path = find(texts.file, folder, texts.where)
    words = list(dict.fromkeys(line.strip() for line in _read(path).splitlines() if line.strip()))
    if bad := [word for word in words if set("{}") & set(word) or not is_text(word)]:
        raise MethodError(f"{shown(path)}: {bad[0]!a} is no word. Write one on each line.")
    if math.perm(len(words), texts.each) < 2 * texts.count:
        raise MethodError(
            f"{texts.where}: {shown(path)} has {len(words)} words, too few for {texts.count} "
            f"prompts with {texts.each} each. Add words, or use fewer prompts."
        )
    draw, found = random.Random(texts.seed), dict[str, None]()
    while len(found) < texts.count:
        found[" ".join(draw.sample(words, texts.each))] = None
    return list(found)
