"""Whatever a user's file or command line holds, it is taken or refused in a clear message.

    MUTATIONS=2000 MUTATION_SEED=3 pytest tests/test_mutations.py

Valid inputs of each kind are mutated from a seed (tests/mutations.py), and go through the real
commands. None may end in a traceback, hang, or write elsewhere. A failure tells kind, seed and number,
and keeps the input in the test's folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml
from yacs.config import CfgNode

import train
from runs import run_job
from dassl.config import clean_cfg
from runs.config import build_parser, setup_cfg
from runs.folder import describe
from runs.merging import flatten
from runs.run import run
from tests.datasets.conftest import touch
from tests.mutations import mutate, mutate_words, place
from tests.tools.results.results_tree import world
from tools import doctor, pools, protocol, study, tables

COUNT = int(os.environ.get("MUTATIONS", "300"))
SEED = int(os.environ.get("MUTATION_SEED", "1"))
REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"
HANGS = 60  # seconds; the slowest takes about one
MEMORY = 8 << 30  # bytes beyond what the process has
LONGEST = 4000  # characters of a message
SAME = re.compile(r"(.)\1{40,}")  # shown short
KEY = r"[A-Z_]+(\.[A-Z_0-9]+)+|SEED|no (dataset|trainer) "  # of a configuration

SHAPES = f"--dataset-config-file {CONFIGS}/datasets/shapes.yaml"
ZERO_SHOT = f"--trainer ZeroshotCLIP --config-file {CONFIGS}/trainers/ZeroshotCLIP/embedded.yaml"
MOPD = f"--trainer MoPD --config-file {CONFIGS}/trainers/MoPD/embedded.yaml"
BUILD = "--root embedded --seed 1 --output-dir out"

DATASET = """DATASET:
  NAME: Shapes
  NUM_SHOTS: 2
  SUBSAMPLE_CLASSES: base
INPUT:
  TRANSFORMS: [random_flip, normalize]
"""
PER_DATASET = """Shapes:
  OPTIM: {MAX_EPOCH: 25, LR: 0.002}
  TRAINER: {MOPD: {ALPHA: 0.8, BETA: 0.5, NUM_TEACHERS: 3}}
Digits:
  OPTIM: {MAX_EPOCH: 50}
  TRAINER: {MOPD: {ALPHA: 0.5, BETA: 0.1, NUM_TEACHERS: 2}}
"""
POOL = """description: Photos and sketches.
include: [single]
words:
  media: [a picture, a sketch]
  size: ["", "small "]
templates:
  - "this is a {}."
rules:
  - "{media} of a {size}{}."
datasets:
  OxfordPets:
    words:
      relations: [classified, labeled]
    rules:
      - "{media} of a pet, {relations} as {}."
  food101:
    - "a plate of {}."
default:
  - "some kind of {class}."
"""
STUDY = """description: MoPD against CoOp.
protocols:
  base2new: {datasets: [shapes, digits]}
  xd: {targets: [digits], seeds: [1]}
datasets: shapes
methods:
  CoOp:
  MoPD:
    config: embedded
    variants:
      - {tag: "", opts: {}}
      - {tag: k2, opts: {TRAINER.MOPD.NUM_TEACHERS: 2}}
seeds: [1, 2]
shots: 16
opts: {OPTIM.MAX_EPOCH: 10, CACHE.VIEWS: True}
"""
CLASSES = {"n01440764": "tench", "n01443537": "goldfish", "n02123045": "tabby cat"}
WORDS = "".join(f"{wnid} {name}\n" for wnid, name in CLASSES.items())
SPLIT = {
    part: [
        [f"{name}/{part}{i}.jpg", label, name] for label, name in enumerate("abc") for i in range(3)
    ]
    for part in ("train", "val", "test")
}
TABLE = "path,label,classname,split\n" + "".join(
    f"{path},{label},{name},{part}\n" for part in SPLIT for path, label, name in SPLIT[part]
)


class File(NamedTuple):
    """A file, and the commands that read it: words behind `main`."""

    path: str  # below the working folder
    syntax: str
    originals: tuple[str, ...]
    main: Callable[[list[str]], Any]
    commands: tuple[str, ...]
    names: str = ""  # what a message may name it by, beside its path


class Line(NamedTuple):
    """A command and its words."""

    main: Callable[[list[str]], Any]
    commands: tuple[str, ...]


def settings() -> CfgNode:
    """The configuration of a valid run."""
    with contextlib.redirect_stdout(io.StringIO()):
        return setup_cfg(build_parser().parse_args(f"{BUILD} {MOPD} {SHAPES}".split()))


def pairs() -> str:
    """Every setting of a run as a KEY VALUE pair; those that are not empty, and have no blank."""
    cfg = settings()
    clean_cfg(cfg, "MoPD")
    found = {key: str(value).replace(" ", "") for key, value in flatten(cfg).items()}
    return " ".join(f"{key} {value}" for key, value in found.items() if value)


def tree() -> str:
    """The same as the text of a file."""
    cfg = settings()
    clean_cfg(cfg, "MoPD")
    return cfg.dump()


RESULTS = "results/base2new/shapes/CoOp/embedded/shots_16/seed1/base/results.json"
KINDS: dict[str, File | Line] = {
    "trainer file": File(
        *("mine.yaml", "yaml"),
        ((CONFIGS / "trainers/MoPD/embedded.yaml").read_text(),),
        train.main,
        (f"{BUILD} --trainer MoPD --config-file mine.yaml {SHAPES}",),
        KEY,
    ),
    "all settings": File(
        *("all.yaml", "yaml", (), train.main),
        (f"{BUILD} --trainer MoPD --config-file all.yaml {SHAPES}",),
        KEY,
    ),
    "dataset file": File(
        *("mine.yaml", "yaml", (DATASET,), train.main),
        (f"{BUILD} {ZERO_SHOT} --dataset-config-file mine.yaml",),
        KEY,
    ),
    "table of settings": File(
        *("table.yaml", "yaml", (PER_DATASET,), train.main),
        (f"{BUILD} --trainer MoPD --config-file settings.yaml {SHAPES}",),
        KEY,
    ),
    "settings of a run": File(
        *("run/config.yaml", "yaml", (), train.main),
        (f"{BUILD} {MOPD} {SHAPES} --output-dir run",),
        "run holds a run",
    ),
    "pool": File(
        *("pool.yaml", "yaml", (POOL, '- "a photo of a {}."\n- "a sketch of a {}."\n'), pools.main),
        ("check pool.yaml", "show pool.yaml --dataset OxfordPets --classname pug"),
    ),
    "study": File(
        *("study.yaml", "yaml", (STUDY,), study.main),
        ("status study.yaml --data embedded --output out",),
    ),
    "split file": File(
        *("data/dtd/split_zhou_DescribableTextures.json", "json", (json.dumps(SPLIT, indent=1),)),
        train.main,
        (f"{BUILD} {ZERO_SHOT} --root data DATASET.NAME DescribableTextures",),
    ),
    "list of own data": File(
        *("data/dtd/images/list.csv", "csv", (TABLE, TABLE.replace(",", ";")), train.main),
        (f"{BUILD} {ZERO_SHOT} DATASET.NAME csv:data/dtd/images/list.csv",),
    ),
    "class names": File(
        *("data/imagenet/classnames.txt", "words", (WORDS,), train.main),
        (f"{BUILD} {ZERO_SHOT} --root data DATASET.NAME ImageNet",),
    ),
    "results": File(
        *(RESULTS, "json", (), tables.main),
        ("results", "results --runs", "results --format csv", "results --runs --format csv"),
    ),
    "train.py": Line(
        train.main,
        (
            f"{BUILD} {MOPD} {SHAPES} DATASET.NUM_SHOTS 2 OPTIM.LR 0.1 TRAINER.MOPD.POOL paper",
            f"{BUILD} {ZERO_SHOT} DATASET.NAME csv:data/dtd/images/list.csv DATASET.NUM_SHOTS 1",
        ),
    ),
    "KEY VALUE pairs": Line(train.main, (f"{BUILD} {MOPD} {SHAPES} {pairs()}",)),
    "tools.protocol": Line(
        protocol.main,
        (
            "base2new --trainer CoOp --dataset shapes --seed 1 --shots 1 --data embedded --output out",
            "xd --trainer MoPD --dataset shapes --seed 1 --targets digits --tag a --data embedded "
            "--output out --shots=2 -- OPTIM.LR 0.1 TRAINER.MOPD.GATE uniform",
        ),
    ),
    "tools.study": Line(
        study.main,
        (
            "status good.yaml --data embedded --output out",
            "table good.yaml --output results -- --format csv --runs",
        ),
    ),
    "tools.tables": Line(
        tables.main,
        ("results --format markdown --published CoOp", "results --runs --out out/table.txt"),
    ),
    "tools.pools": Line(
        pools.main,
        ("check paper good_pool.yaml", "show paper --dataset OxfordPets --classname pug"),
    ),
    "tools.doctor": Line(
        doctor.main,
        ("csv:data/dtd/images/list.csv --decode 0", "shapes --data embedded --decode 1"),
    ),
}  # fmt: skip


class Hang(BaseException):
    """Raised after `HANGS` seconds."""


class Fault(Exception):
    """What is wrong with the end of a command."""


class Watch:
    """Notes what is written outside of some folders; the interpreter keeps it for ever."""

    folders: tuple[str, ...] = ()
    found: list[str] = []
    _added = False
    _paths = {"os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.rename": 2, "os.truncate": 1}
    _paths |= {"os.link": 2, "os.symlink": 2, "os.chmod": 1, "shutil.rmtree": 1}

    @classmethod
    def start(cls, *folders: Path) -> None:
        cls.folders = (*(os.path.realpath(folder) for folder in folders), "/dev/null")
        cls.found = []
        if not cls._added:
            sys.addaudithook(cls._look)
            cls._added = True

    @classmethod
    def _look(cls, event: str, args: tuple) -> None:
        if not cls.folders:
            return
        if event == "socket.connect":
            raise OSError("no network in this test")
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        count = bool(args[2] & writes) if event == "open" and args[2] else cls._paths.get(event, 0)
        for path in args[:count]:
            if isinstance(path, int):
                continue
            place = os.path.realpath(os.fsdecode(path))
            if not any(place == one or place.startswith(f"{one}/") for one in cls.folders):
                cls.found.append(f"{event} {place}")


@pytest.fixture(scope="module")
def data(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the embedded datasets, made."""
    out = tmp_path_factory.mktemp("first")
    for name in ("shapes", "digits"):
        words = f"--root {data_root} --output-dir {out} --no-train {ZERO_SHOT} --seed 1"
        train.main(f"{words} --dataset-config-file {CONFIGS}/datasets/{name}.yaml".split())
    return data_root


@pytest.fixture
def work(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
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
    mopd = (CONFIGS / "trainers/MoPD/embedded.yaml").read_text()
    files = {"good.yaml": STUDY, "good_pool.yaml": POOL, "data/dtd/images/list.csv": TABLE}
    files |= {"settings.yaml": f"PER_DATASET: table.yaml\n{mopd}", "all.yaml": tree()}
    files |= {"run/config.yaml": yaml.safe_dump(describe(settings()))}
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOPD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for module in (train, run_job):
        monkeypatch.setattr(module, "run", build_only)
    Watch.start(tmp_path, data)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_AS, before)
    Watch.folders = ()


def build_only(args: Any) -> dict[str, Any]:
    """In place of a run: all but the training and the test, as with --no-train."""
    args.no_train = True
    if args.model_dir and args.eval_only:  # there is none, since nothing was trained
        setup_cfg(args)
    else:
        run(args)
    return {"epoch": 1}


def call(main: Callable[[list[str]], Any], words: list[str]) -> tuple[int, str]:
    """Exit code of a command, and what it says on stderr; on a console that takes UTF-8 only.

    Raises:
        Fault: it has ended in a traceback, hung, or written elsewhere.
    """
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    Watch.found.clear()
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANGS)
    code, wrong = 0, ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words) if main is pools.main else main(words) and 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except (Exception, Hang):
        wrong = traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    told = err.buffer.getvalue().decode()
    if main is doctor.main:  # which writes a report
        told = told or f"error: {out.buffer.getvalue().decode()}"
    if "Traceback (most recent" in told:
        wrong = told
    if wrong or Watch.found:
        raise Fault(wrong or f"has written {Watch.found}")
    return int(code or 0), told


def _hangs(*_: object) -> None:
    raise Hang(f"has not ended after {HANGS} s")


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
    words = random.choice(one.commands).split()
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
        words = command.split()
        yield Trial("nothing", None if original is None else original.encode(), words, ())


def check(kind: str, one: Trial) -> bool:
    """Whether a mutated input is taken.

    Raises:
        Fault: as `call`, or it is refused without a clear message.
    """
    file = KINDS[kind] if isinstance(KINDS[kind], File) else None
    kept = None
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
        for name in ("out", "executed"):
            shutil.rmtree(name, ignore_errors=True)
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
    forms = {form for name in names for form in (name, repr(name)[1:-1], name.strip(" -"))}
    return any(form[:20] in told for form in forms if form) or bool(
        pattern and re.search(pattern, told)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_mutated_input_is_taken_or_refused_in_a_clear_message(kind, work, tmp_path, capsys):
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
    with capsys.disabled():
        print(f"\n{kind}: {taken} taken, {count - taken - len(faults)} refused", end=" ")
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
