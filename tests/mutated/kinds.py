"""The kinds of input that are mutated: valid ones, and the commands that read them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from yacs.config import CfgNode

import train
from dassl.config import clean_cfg
from runs.config import build_parser, setup_cfg
from runs.merging import flatten
from tools import doctor, export, pools, predict, protocol, study, tables

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"
# what tells a wrong setting: its key, or the name of what is not there
KEY = r"[A-Z_]+(\.[A-Z_0-9]+)+|SEED|no (dataset|trainer|pool|path)\b|the context|Csv: |Folder: "

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
        tuple(f"{BUILD} {MOPD} {SHAPES} --output-dir run --seed {seed}" for seed in (1, -1)),
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
    "exported prompt": File(
        *("export/prompt.json", "json", (), predict.main),
        ("--run export photo.png", "--run export photo.png --classes one,two"),
        KEY + "|of export|read from|export holds|in export",
    ),
    "train.py": Line(
        train.main,
        (
            f"{BUILD} {MOPD} {SHAPES} DATASET.NUM_SHOTS 2 OPTIM.LR 0.1 TRAINER.MOPD.POOL paper",
            f"{BUILD} {ZERO_SHOT} DATASET.NAME csv:data/dtd/images/list.csv DATASET.NUM_SHOTS 1",
        ),
    ),
    "KEY VALUE pairs": Line(train.main, (f"{BUILD} {MOPD} {SHAPES} PAIRS",)),
    "tools.protocol": Line(
        protocol.main,
        (
            "base2new --trainer CoOp --dataset shapes --seed 1 --shots 1 --data embedded "
            "--output out",
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
        ("results --format markdown --published CoOp", "results --runs --out out/table.txt",
         "results --format csv --paired CoOp/embedded"),
    ),
    "tools.pools": Line(
        pools.main,
        ("check paper good_pool.yaml", "show paper --dataset OxfordPets --classname pug"),
    ),
    "tools.predict": Line(
        predict.main,
        ("--run export photo.png --classes one,two --top 1 --batch 2 --out found.csv",),
    ),
    "tools.export": Line(
        export.main, ("--run export --out taken --classes one,two --data embedded",)
    ),
    "tools.doctor": Line(
        doctor.main,
        ("csv:data/dtd/images/list.csv --decode 0", "shapes --data embedded --decode 1"),
    ),
}  # fmt: skip


def words_of(command: str) -> list[str]:
    """The words of a command; PAIRS stands for every setting of a valid run that is not empty."""
    if not command.endswith("PAIRS"):
        return command.split()
    pairs = {key: str(value).replace(" ", "") for key, value in flatten(settings()).items()}
    more = [word for pair in pairs.items() if all(pair) for word in pair]
    return [*command.split()[:-1], *more]


@functools.cache
def settings() -> CfgNode:
    """The configuration of a valid run, without the knobs of other methods."""
    with contextlib.redirect_stdout(io.StringIO()):
        cfg = setup_cfg(build_parser().parse_args(f"{BUILD} {MOPD} {SHAPES}".split()))
    clean_cfg(cfg, "MoPD")
    return cfg
