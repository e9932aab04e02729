"""Prompt pools: YAML files with the hard prompts of the teachers.

    load_pool("paper", "OxfordPets")       the 12 templates of the MoPD paper for one dataset
    load_pool("my_pool.yaml", "shapes")    a file of your own

docs/pools.md explains the format. Nothing heavy is imported here, so that a mistake in a pool is
found before CLIP is loaded.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

from trainers.backbones.paths import REPOSITORY
from trainers.backbones.tokens import CLIP, EXAMPLE, ClassTexts, identity
from trainers.errors import MethodError
from trainers.prompts import class_texts
from trainers.prompts.class_texts import FRAGMENT
from trainers.prompts.pool_file import FIELD, JOIN, Entry, Section, read_pool
from trainers.prompts.yaml_nodes import did_you_mean
from trainers.yaml_files import shown

POOLS = REPOSITORY / "configs" / "pools"
MAX_TEMPLATES = 10_000  # of one rule: more is a mistake, and would fill the memory

_NAME = "qzq"  # stands for a class, where prompts are compared


def load_pool(name: str, dataset: str, clean: Callable[[str], str] = CLIP.clean) -> list[str]:
    """Templates of a pool for one dataset: H strings, each with exactly one `{}`, or `ClassTexts`.

    Args:
        name: a name under configs/pools (with or without .yaml), or a path to a YAML file
            (relative to the working folder, then to the repository root).
        dataset: registry name (`OxfordPets`) or config name (`oxford_pets`).
        clean: a prompt as the tokenizer of the model reads it; OpenAI's drops case and repeated
            blanks. Templates that are the same there are the same teacher, and refused.

    The order is fixed: included pools, `templates`, `rules`, `shared`, `descriptions`,
    `random_words`; first of the common part, then of the dataset's section. Within a rule the last
    word changes fastest. `keep` chooses among all. `{class}` is returned as `{}`. Raises
    MethodError for every mistake in the file, or if it has nothing for the dataset.
    """
    first: dict[tuple[str, ...], Entry] = {}
    for entry in _entries(find_pool(name), dataset, ()):
        # twins are the same teacher
        twin = first.setdefault(_meaning(entry.text, clean), entry)
        if twin is not entry:
            raise MethodError(
                f"{entry.where}: duplicate template {entry.text!r}, "
                f"the same prompt as {twin.text!r} in {twin.where}. Remove one of the two."
            )
    return [entry.text for entry in first.values()]


def pool_digest(pool: Sequence[str]) -> str:
    """Digest of all texts of a pool, those of each class included."""
    return hashlib.sha256("\n".join(map(identity, pool)).encode()).hexdigest()[:12]


def pool_sections(name: str) -> list[str]:
    """Datasets that a pool has sections for, and `default` if it serves others as well."""
    pool = read_pool(find_pool(name))
    others = pool.default is not None or not pool.datasets
    return [dataset for dataset, _ in pool.datasets.values()] + ["default"] * others


def pool_description(name: str) -> str:
    """The `description` of a pool, empty if it has none."""
    return read_pool(find_pool(name)).description


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


# ---- what a file gives


def _entries(path: Path, dataset: str, chain: tuple[Path, ...]) -> Iterator[Entry]:
    """Expanded templates of a file for one dataset; `chain` are the files that include it."""
    pool, entries = read_pool(path), _all_entries(path, dataset, chain)
    if not pool.keep:
        return entries
    found = list(entries)
    for number, where in pool.keep:
        if number >= len(found):
            raise MethodError(
                f"{where}: there is no template {number} for dataset {dataset!r}, only 0 to "
                f"{len(found) - 1}. Remove it."
            )
    return iter([found[number] for number, _ in pool.keep])


def _all_entries(path: Path, dataset: str, chain: tuple[Path, ...]) -> Iterator[Entry]:
    """The same, whatever `keep` says."""
    pool = read_pool(path)
    section, chain = pool.section(dataset), (*chain, path)
    words = pool.common.words | section.words
    parts = (pool.common, section)
    if all(part.is_empty for part in parts):
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
        yield from _from_files(part, words, dataset, path.parent)


def _from_files(
    part: Section, words: dict[str, list[Entry]], dataset: str, folder: Path
) -> Iterator[Entry]:
    """Templates and class-wise texts from other files than the pool."""
    for link in part.shared:
        file = class_texts.find(link.text, folder, link.where)
        yield from (Entry(*found) for found in class_texts.shared_templates(file))
    words = words | {FRAGMENT: [Entry(f"{{{FRAGMENT}}}", "")]}
    for source in part.descriptions:
        joins = [one for join in source.joins for one in _expand(join, words, dataset)]
        for join in joins or [Entry("", "")]:
            for teacher in class_texts.class_teachers(source.texts, folder, join.text):
                yield Entry(teacher, source.texts.where)
    for source in part.random_words:
        fragments = class_texts.random_fragments(source.texts, folder)
        joins = source.joins or [Entry(JOIN, source.texts.where)]
        for join in (one for each in joins for one in _expand(each, words, dataset)):
            for text in fragments:
                yield Entry(join.text.replace(f"{{{FRAGMENT}}}", text), source.texts.where)


def _expand(rule: Entry, words: dict[str, list[Entry]], dataset: str) -> Iterator[Entry]:
    """All combinations of the words that a rule names; a template names none."""
    names = list(dict.fromkeys(name for name in FIELD.findall(rule.text) if name))
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
        yield Entry(_put(rule.text, chosen), rule.where)


def _put(text: str, words: dict[str, str]) -> str:
    """Replace `{name}` by its word; the placeholder `{}` stays."""
    return FIELD.sub(lambda match: words.get(match[1], match[0]), text)


def _meaning(text: str, clean: Callable[[str], str]) -> tuple[str, ...]:
    """What a tokenizer reads of a template, or of all its texts."""
    texts = [text]
    if isinstance(text, ClassTexts):  # in whatever order a file has its classes
        texts = [one for _, one in sorted(text.texts.items())]
    return tuple(clean(one.replace("{}", _NAME)) for one in texts)
