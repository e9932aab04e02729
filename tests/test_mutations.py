"""Whatever a user's file or command line holds, it is taken or refused in a clear message.

    MUTATIONS=2000 MUTATION_SEED=3 pytest tests/test_mutations.py

Valid inputs of each kind (tests/mutated/) are changed from a seed, and go through the real
commands. None may end in a traceback, hang, or write elsewhere. A failure tells kind, seed and
number, and keeps the input in the test's folder; -rP shows how many were taken.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

import train
from datasets.digits import Digits
from datasets.embedded import Drawing
from datasets.shapes import Shapes
from datasets.splits import PARTS
from inference import export
from runs import config, job_words, run_job
from runs.config import setup_cfg
from runs.folder import describe
from runs.run import run
from tests.datasets.conftest import touch
from tests.mutated.calls import Fault, Watch, call
from tests.mutated.kinds import (
    CLASSES,
    CONFIGS,
    KINDS,
    POOL,
    SPLIT,
    STUDY,
    TABLE,
    ZERO_SHOT,
    File,
    Line,
    settings,
    words_of,
)
from tests.mutated.mutate import mutate, mutate_words, place
from tests.tools.results.results_tree import world
from tools import doctor, study

COUNT = int(os.environ.get("MUTATIONS", "360"))
SEED = int(os.environ.get("MUTATION_SEED", "1"))
MEMORY = 16 << 30  # bytes; a mutated size must not take the machine down
LONGEST = 4000  # characters of a message
SAME = re.compile(r"(.)\1{40,}")  # shown short


@pytest.fixture(scope="module")
def data(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the embedded datasets, made."""
    out = tmp_path_factory.mktemp("first")
    for name in ("shapes", "digits"):
        words = f"--root {data_root} --output-dir {out} --no-train {ZERO_SHOT} --seed 1"
        train.main(f"{words} --dataset-config-file {CONFIGS}/datasets/{name}.yaml".split())
    return data_root


@pytest.fixture(scope="module")
def exported(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an exported prompt."""
    folder = tmp_path_factory.mktemp("exported")
    words = f"--eval-only --root {data} --output-dir {folder}/run {ZERO_SHOT} --seed 1"
    train.main(f"{words} --dataset-config-file {CONFIGS}/datasets/digits.yaml".split())
    return export(folder / "run", folder / "export")


@pytest.fixture
def work(
    data: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A working folder with valid files of all kinds; what is written beside it is noted."""
    folder = tmp_path / "work"
    for name in ("work", "home", "tmp", "cache"):
        (tmp_path / name).mkdir()
    images = folder / "data/dtd/images"
    touch(images, [path for items in SPLIT.values() for path, *_ in items])
    parts = [f"{part}/{wnid}/0.JPEG" for part in ("train", "val") for wnid in CLASSES]
    touch(folder / "data/imagenet/images", parts)
    world(folder / "results")
    (folder / "embedded").symlink_to(data)
    shutil.copytree(exported, folder / "export")
    Image.new("RGB", (40, 30)).save(folder / "photo.png")
    mopd = (CONFIGS / "trainers/MoPD/embedded.yaml").read_text()
    files = {"good.yaml": STUDY, "good_pool.yaml": POOL, "data/dtd/images/list.csv": TABLE}
    files |= {"settings.yaml": f"PER_DATASET: table.yaml\n{mopd}", "all.yaml": settings().dump()}
    files |= {"run/config.yaml": yaml.safe_dump(describe(settings()))}
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOPD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for made in (Shapes, Digits):
        monkeypatch.setattr(made, "drawings", lambda made=made: blank(made.names))
    # whose folders data and output are used where a mutation has taken the option away
    for module in (config, job_words, study, doctor):
        monkeypatch.setattr(module, "REPOSITORY", folder)
    for module in (train, run_job):
        monkeypatch.setattr(module, "run", build_only)
    Watch.start(tmp_path, data)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_DATA, before)
    Watch.folders = ()


def blank(names: Sequence[str]) -> Iterator[Drawing]:
    """Few images in place of an embedded dataset: a mutated --data has it made anew."""
    for part, label in product(PARTS, range(len(names))):
        yield part, label, np.zeros((32, 32, 3), np.uint8)


def build_only(args: Any) -> dict[str, Any]:
    """In place of a run: all but the training and the test, as with --no-train."""
    args.no_train = True
    if args.model_dir and args.eval_only:  # there is none, since nothing was trained
        setup_cfg(args)
    else:
        run(args)
    return {"epoch": 1}


class Trial(NamedTuple):
    """A mutated input: what to write, what to call, and what a refusal must name (one of)."""

    what: str
    content: bytes | str | None
    words: list[str]
    names: tuple[str, ...]


def trial(kind: str, number: int, seed: int = SEED) -> Trial:
    """One mutation; the same for the same kind, seed and number."""
    random = Random(f"{kind} {seed} {number}")
    one = KINDS[kind]
    words = words_of(random.choice(one.commands))
    if isinstance(one, Line):
        what, words, near = mutate_words(random, words)
        return Trial(what, None, words, near)
    originals = one.originals or (Path(one.path).read_text(),)
    what, content = mutate(random, random.choice(originals).encode(), one.syntax)
    return Trial(what, content, words, (Path(one.path).name,))


def valid(kind: str) -> Iterator[Trial]:
    """The inputs of a kind as they are."""
    one = KINDS[kind]
    originals: tuple[str | None, ...] = (None,)
    if isinstance(one, File):
        originals = one.originals or (Path(one.path).read_text(),)
    for command, original in product(one.commands, originals):
        words = words_of(command)
        yield Trial("nothing", None if original is None else original.encode(), words, ())


def check(kind: str, one: Trial) -> bool:
    """Whether a mutated input is taken.

    Raises:
        Fault: as `call`, or it is refused without a clear message.
    """
    file = KINDS[kind] if isinstance(KINDS[kind], File) else None
    before, kept = set(Path().iterdir()), None
    if file and one.content is not None:
        path = Path(file.path)
        kept = path.read_bytes() if path.is_file() else None
        path.unlink(missing_ok=True)
        place(path, one.content)
    try:
        code, told = call(KINDS[kind].main, one.words)
    finally:
        if file:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if kept is not None:
                path.write_bytes(kept)
        new = set(Path().iterdir()) - before
        for one_more in new:
            shutil.rmtree(one_more) if one_more.is_dir() else one_more.unlink()
    if Path("executed") in new:
        raise Fault("the file has run code")
    if code == 0:
        return True
    faults = {
        f"ends with code {code}": code not in (1, 2),
        "says nothing of an error": "error: " not in told,
        f"says it in {len(told):,} characters": len(told) > LONGEST,
        "does not name it": not names_it(told, one.names, file.names if file else ""),
    }
    for fault, found in faults.items():
        if found:
            raise Fault(f"{fault}: {told:.500}")
    return False


def names_it(told: str, names: tuple[str, ...], pattern: str) -> bool:
    """Whether a message names what was mutated."""
    forms = {form for name in names for form in (name or '""', repr(name)[1:-1], name.strip(" -"))}
    found = any(form[:20] in told for form in forms if form)
    return found or bool(pattern and re.search(pattern, told))


@pytest.mark.parametrize("kind", KINDS)
def test_each_mutated_input_is_taken_or_refused_in_a_clear_message(kind, work, tmp_path):
    for original in valid(kind):
        assert check(kind, original)
    count, taken, faults = max(1, COUNT // len(KINDS)), 0, []
    for number in range(count):
        one = trial(kind, number)
        try:
            taken += check(kind, one)
        except Fault as fault:
            place = f"{kind}, seed {SEED}, number {number}"
            faults.append(f"{place}: {one.what}\n{fault}\n{keep(one, tmp_path / f'{number}')}")
    print(f"{kind}: {taken} taken, {count - taken - len(faults)} refused")
    if faults:
        told = SAME.sub(r"\1...\1", "\n\n".join(faults))
        pytest.fail(f"{len(faults)} of {count}\n\n{told}", pytrace=False)
    assert 0 < taken < count, f"all {'taken' if taken else 'refused'}: the test says nothing"


def keep(one: Trial, folder: Path) -> str:
    """Write a mutated input to a folder; what the report says of it."""
    folder.mkdir()
    (folder / "words.json").write_text(json.dumps(one.words))
    if isinstance(one.content, bytes):
        (folder / "content").write_bytes(one.content)
    return f"  words: {one.words}\n  content: {one.content!r:.2000}\n  both in {folder}"
