"""Mutations of valid inputs: seeded, so that each can be made again from its number.

A file is changed in its bytes, its lines, its values or its keys, or something else stands in its
place; a command line is changed word by word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

from tests.mutated.values import (
    JSON_VALUES,
    KEYS,
    STANDS_FOR_A_FILE,
    TEXTS,
    UNSPEAKABLE,
    YAML_VALUES,
)


class Mutation(NamedTuple):
    """What was done, in words, and the file's content: bytes, or one of `STANDS_FOR_A_FILE`."""

    what: str
    content: bytes | str


def place(path: Path, content: bytes | str) -> None:
    """Write a mutated file."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "a folder":
        path.mkdir()
    elif content.startswith(("a link", "/")):
        path.symlink_to(
            {"a link to nothing": "nothing", "a link to itself": path.name}.get(content, content)
        )


def mutate(random: Random, original: bytes, syntax: str) -> Mutation:
    """Change a file.

    Args:
        random: decides what is done.
        original: the valid content, in UTF-8.
        syntax: yaml, json, csv or words (a text of lines with words).
    """
    levels = (_file, _bytes, _encoding, _lines, _values, _keys, _spelling)
    (level,) = random.choices(levels, (1, 4, 2, 4, 10, 6, 4))
    return level(random, original, syntax)


def _file(random: Random, original: bytes, syntax: str) -> Mutation:
    found = random.choice(STANDS_FOR_A_FILE)
    return Mutation(f"file: {found} in its place", found)


def _bytes(random: Random, original: bytes, syntax: str) -> Mutation:
    at = random.randrange(len(original))
    end = at + random.randint(1, 8)
    junk = random.choice(
        (b"\0", b"\xff", b"\x80", b"\xc3", b"\t", b"\r", b"\x1b", b"\n", b":", b'"')
    )
    changed = {
        "flip": original[:at]
        + bytes([original[at] ^ 1 << random.randrange(8)])
        + original[at + 1 :],
        "delete": original[:at] + original[end:],
        "insert": original[:at] + random.choice((junk, random.randbytes(4))) + original[at:],
        "cut off": original[:at],
        "repeat": original[:at] + original[at:end] * 3 + original[end:],
        "empty": random.choice((b"", b"\n", b" ", b"\0" * 100)),
    }
    how = random.choices(tuple(changed), (4, 3, 4, 2, 2, 1))[0]
    return Mutation(f"bytes: {how} at {at}", changed[how])


def _encoding(random: Random, original: bytes, syntax: str) -> Mutation:
    text = original.decode()
    changed = {
        "byte order mark": b"\xef\xbb\xbf" + original,
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-be"),
        "UTF-32": text.encode("utf-32"),
        "Latin-1": _splice(random, text, "\xe9").encode("latin-1", "replace"),
        "surrogate": _splice(random, text, "\ud800").encode("utf-8", "surrogatepass"),
        "Windows line ends": original.replace(b"\n", b"\r\n"),
        "old Mac line ends": original.replace(b"\n", b"\r"),
        "line separators": text.replace("\n", "\u2028").encode(),
    }
    how = random.choice(tuple(changed))
    return Mutation(f"encoding: {how}", changed[how])


def _lines(random: Random, original: bytes, syntax: str) -> Mutation:
    lines = original.decode().splitlines()
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    how = random.choice(
        ("drop", "twice", "swap", "indent", "flatten", "tab", "tail", "join", "empty")
    )
    line = lines[at]
    if how == "drop":
        del lines[at]
    elif how == "swap":
        lines[at], lines[other] = lines[other], lines[at]
    elif how == "join":
        lines[at : at + 2] = [" ".join(lines[at : at + 2])]
    else:
        lines[at : at + 1] = {
            "twice": [line, line],
            "indent": [" " * random.randint(1, 5) + line],
            "flatten": [line.lstrip()],
            "tab": ["\t" + line.lstrip()],
            "tail": [line + random.choice((" ", ",", ":", " #", "\\", '"', ";"))],
            "empty": ["", "", line],
        }[how]
    return Mutation(f"lines: {how}, line {at + 1}", ("\n".join(lines) + "\n").encode())


def _spelling(random: Random, original: bytes, syntax: str) -> Mutation:
    """What means the same, mostly."""
    text = original.decode()
    changed = {
        "blank lines": text.replace("\n", "\n\n", random.randint(1, 3)),
        "blanks at the end": text + "  \n \n",
        "no last line end": text.rstrip("\n"),
        "Windows line ends": text.replace("\n", "\r\n"),
        "byte order mark": "\ufeff" + text,
    }
    if syntax == "yaml":
        changed |= {"comment": f"# caf\xe9: {{\n{text}#", "document": f"---\n{text}...\n"}
        changed["dumped"] = yaml.safe_dump(yaml.safe_load(text), default_flow_style=True)
    if syntax == "json":
        changed["dumped"] = json.dumps(json.loads(text), sort_keys=True)
    how = random.choice(tuple(changed))
    return Mutation(f"spelling: {how}", changed[how].encode())


def _values(random: Random, original: bytes, syntax: str) -> Mutation:
    text = original.decode()
    spans = _spans(text, syntax)[0]
    start, end = random.choice(spans)
    choice = {"yaml": YAML_VALUES, "json": JSON_VALUES}.get(syntax, TEXTS)
    value = random.choice(choice)
    if syntax in ("yaml", "json") and random.random() < 0.3:
        value = json.dumps(random.choice(TEXTS))
    here = [(start, end)]
    if random.random() < 0.4:  # wherever it is, as the name of a class
        here = sorted({span for span in spans if text[slice(*span)] == text[start:end]})
    return _replaced("value", text, here, value)


def _keys(random: Random, original: bytes, syntax: str) -> Mutation:
    text = original.decode()
    if syntax in ("yaml", "json") and random.random() < 0.5:
        return _nesting(random, text, syntax)
    keys = _spans(text, syntax)[1]
    start, end = random.choice(keys)
    other = random.choice(keys)
    key = text[start:end]
    nasty = random.choice(KEYS if syntax == "yaml" else TEXTS)
    near = [_typo(random, key), key.swapcase(), text[slice(*other)]]
    return _replaced("key", text, [(start, end)], random.choice((*near, nasty)))


def _nesting(random: Random, text: str, syntax: str) -> Mutation:
    """Move a part of a tree to where it does not belong."""
    tree = yaml.safe_load(text) if syntax == "yaml" else json.loads(text)
    parts = list(_parts(tree))
    holder, key = random.choice(parts)
    value = holder[key]
    how = random.choice(("drop", "wrap in a list", "wrap in a mapping", "unwrap", "move"))
    if how == "drop":
        del holder[key]
    elif how == "move":  # within what is there, so never into itself
        other, place = random.choice(parts)
        holder[key], other[place] = None, json.loads(json.dumps(value, default=str))
    else:
        inner = (
            next(iter(value.values() if isinstance(value, dict) else value), None)
            if (isinstance(value, dict | list))
            else None
        )
        holder[key] = {
            "wrap in a list": [value],
            "wrap in a mapping": {str(key): value},
            "unwrap": inner,
        }[how]
    dump: Callable[[Any], str] = yaml.safe_dump if syntax == "yaml" else json.dumps
    return Mutation(f"nesting: {how}, {key!r}", dump(tree).encode())


def _parts(tree: Any) -> Any:
    """Each (mapping or list, key) of a tree."""
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _parts(tree[key])


def _spans(text: str, syntax: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Where values and where keys are in a text."""
    if syntax == "csv":
        cells = [match.span() for match in re.finditer(r"[^,\n]+", text)]
        header = text.index("\n")
        return [span for span in cells if span[0] > header], [s for s in cells if s[1] <= header]
    if syntax == "words":
        return (
            [match.span() for match in re.finditer(r"(?<= ).+|^.+", text, re.MULTILINE)],
            [match.span() for match in re.finditer(r"^\S+", text, re.MULTILINE)],
        )
    values, keys = [], []

    def visit(node: yaml.Node) -> None:
        values.append((node.start_mark.index, node.end_mark.index))
        if isinstance(node, yaml.SequenceNode):
            for item in node.value:
                visit(item)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                keys.append((key.start_mark.index, key.end_mark.index))
                visit(value)

    visit(yaml.compose(text, Loader=yaml.SafeLoader))
    return values, keys or values


def _replaced(kind: str, text: str, spans: list[tuple[int, int]], value: str) -> Mutation:
    old, parts, last = text[slice(*spans[0])], [], 0
    for start, end in spans:
        parts += [text[last:start], value]
        last = end
    changed = "".join([*parts, text[last:]])
    what = f"{kind}: {old!r:.80} becomes {value!r:.80}, {len(spans)} times"
    return Mutation(what, changed.encode("utf-8", "surrogatepass"))


def _splice(random: Random, text: str, more: str) -> str:
    at = random.randrange(len(text))
    return text[:at] + more + text[at:]


def _typo(random: Random, word: str) -> str:
    """A word with a letter lost, doubled, changed or added."""
    at = random.randrange(len(word) + 1)
    more = random.choice(("", word[at : at + 1] * 2, "x", "_", ".", " "))
    return word[:at] + more + word[at + 1 :]


def mutate_words(random: Random, words: list[str]) -> tuple[str, list[str], tuple[str, ...]]:
    """Change a command line.

    Returns:
        What was done; the new words; and the words by one of which a message must name it.
    """
    at, other = random.randrange(len(words)), random.randrange(len(words))
    # flags with a value
    flags = [i for i, pair in enumerate(pairwise(words)) if [w[:2] == "--" for w in pair] == [1, 0]]
    flag = random.choice([i for i in flags if words[i] != "--"] or [at])
    nasty = random.choice([text for text in TEXTS if text not in UNSPEAKABLE])
    swapped = list(words)
    swapped[at], swapped[other] = words[other], words[at]
    changed = {
        "nasty": _with(words, at, 1, nasty),
        "typo": _with(words, at, 1, _typo(random, words[at])),
        "case": _with(words, at, 1, words[at].swapcase()),
        "other": _with(words, at, 1, words[other]),
        "drop": _with(words, at, 1),
        "insert": _with(words, at, 0, nasty),
        "twice": _with(words, at, 0, words[at]),
        "swap": swapped,
        "pair twice": _with(words, flag, 0, *words[flag : flag + 2]),
        "--flag=value": _with(words, flag, 2, "=".join(words[flag : flag + 2])),
    }
    (how,) = random.choices(tuple(changed), (10, 4, 1, 2, 2, 1, 1, 2, 3, 3))
    return f"words: {how}", changed[how], (*words, *changed[how])


def _with(words: list[str], at: int, count: int, *new: str) -> list[str]:
    """Words with others in place of some."""
    return [*words[:at], *new, *words[at + count :]]
