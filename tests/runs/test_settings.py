"""The table of settings: whole, and the same for files, flags, pairs and studies."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from dassl.evaluation import EVALUATOR_REGISTRY
from dassl.utils import UserError
from runs.config import build_parser, default_cfg, setup_cfg
from runs.merging import Merging, flatten
from runs.settings import OTHERS, ROWS, method_rows, row_of
from tools import protocol
from tools import settings as page
from trainers.settings import TEXTS, UNKNOWN

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
DEFAULTS = flatten(default_cfg())
OURS = {TRAINER_REGISTRY.get(name).node() for name in TRAINER_REGISTRY.registered_names()
        if hasattr(TRAINER_REGISTRY.get(name), "node")}  # fmt: skip
# nodes of upstream's trainers, which nothing here reads
FOREIGN = {f"TRAINER.{node}." for node in get_cfg_default().TRAINER if node != "NAME"}


def configured(*words: str) -> CfgNode:
    """The configuration of a command line on `shapes`."""
    dataset = ("--dataset-config-file", str(CONFIGS / "datasets/shapes.yaml"))
    return setup_cfg(build_parser().parse_args([*dataset, *words]))


def outcome(merge) -> str:
    """What a key is after a setting, or that it is refused; any other error is one."""
    cfg = default_cfg()
    try:
        merge(Merging(cfg))
    except UserError as error:
        assert len(str(error)) < 1500
        return "refused"
    return repr(flatten(cfg))


def test_every_key_has_a_row_that_takes_its_default():
    for key, default in DEFAULTS.items():
        row = row_of(key)
        if any(key.startswith(section) for section in FOREIGN):
            assert row is UNKNOWN
            continue
        assert row.meaning and not row.meaning.endswith("."), key
        found = row.read(key, default, default)
        assert found == default and type(found) is type(default), key
        # a value that was written into a run's config.yaml reads as itself
        assert row.read(key, yaml.safe_load(yaml.safe_dump(found)), default) == found
    assert ROWS.keys() | method_rows().keys() <= DEFAULTS.keys()
    assert all(row.meaning for row in OTHERS.values())


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
some = st.sampled_from(
    [10**90, -(10**30), 2**32, 2**63, 0.0, -1, "1e3", "True", "{[]:1}", "inf", "(1, 2)", "x" * 5000]
)
finite = st.floats(allow_nan=False, allow_infinity=False)
lists = st.lists(st.booleans() | st.integers() | finite | st.text(max_size=9), max_size=4)
values = plain | some | lists | st.dictionaries(st.text(max_size=3), plain, max_size=2)


@given(key=st.sampled_from(sorted(DEFAULTS)), value=values)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_a_value_is_read_alike_from_a_file_and_from_the_command_line(key, value):
    tree: object = value
    for part in reversed(key.split(".")):
        tree = {part: tree}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.yaml"
        path.write_text(yaml.safe_dump(tree), encoding="utf-8")
        typed = outcome(lambda merging: merging.file(path))
    if isinstance(value, str) or row_of(key).kind_of(DEFAULTS[key]) not in TEXTS:
        text = outcome(lambda merging: merging.set(key, str(value), "command line"))
        assert typed == text
    elif not isinstance(value, bool | None):  # a text is in quotes where it could be a number
        assert typed == "refused"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--seed", "1e3"),
            "--seed: SEED is '1e3', expected a whole number up to 4294967295 such as -1",
        ),
        (
            ("--seed", "4294967296"),
            "--seed: SEED is 4294967296, expected a whole number up to 4294967295 such as -1",
        ),
        (
            ("--load-epoch", "-1"),
            "--load-epoch is -1, expected a whole number from 1 (default: the best one)",
        ),
        (
            ("--load-epoch", "last"),
            "--load-epoch is 'last', expected a whole number from 1 (default: the best one)",
        ),
        (
            ("--config-file", "a\0b"),
            "--config-file is 'a\\x00b', expected a path or name (default: none) without NUL "
            "characters",
        ),
        (
            ("--output-dir", "x" * 5000),
            f"--output-dir: OUTPUT_DIR is '{'x' * 79}... (5,002 characters), expected a path or "
            "name such as './output' of at most 4096 characters",
        ),
        (
            ("--transforms", "random_flop", "normalize"),
            "--transforms: INPUT.TRANSFORMS is ('random_flop', 'normalize'), expected a list out "
            "of: random_flip, random_resized_crop, normalize, instance_norm, random_crop, "
            "random_translation, center_crop, cutout, imagenet_policy, cifar10_policy, "
            "svhn_policy, randaugment, randaugment_fixmatch, randaugment2, gaussian_noise, "
            "colorjitter, randomgrayscale, gaussian_blur (default: images are resized), do you "
            'mean "random_flip"?',
        ),
        (
            ("SEED", "1" + "0" * 400),
            f"command line: SEED is '1{'0' * 78}... (403 characters), expected a whole number up "
            "to 4294967295 such as -1",
        ),
        (
            ("OPTIM.LR", "inf"),
            "command line: OPTIM.LR is inf, expected a number from 0 such as 0.0003",
        ),
        (
            ("OPTIM.LR", "{[]:1}"),
            "command line: OPTIM.LR is '{[]:1}', expected a number from 0 such as 0.0003",
        ),
        (
            ("USE_CUDA", "1"),
            "command line: USE_CUDA is '1', expected True or False such as True",
        ),
        (
            ("DATALOADER.TRAIN_X.BATCH_SIZE", "0"),
            "command line: DATALOADER.TRAIN_X.BATCH_SIZE is 0, expected a whole number from 1 "
            "such as 32",
        ),
        (
            ("INPUT.SIZE", "(32, 32, 3)"),
            "command line: INPUT.SIZE is (32, 32, 3), expected a list of 2 whole numbers from 1 "
            "or auto such as (224, 224)",
        ),
        (
            ("INPUT.RRCROP_SCALE", "(1, 0.5)"),
            "command line: INPUT.RRCROP_SCALE is (1, 0.5), expected a list of 2 numbers above 0 "
            "and up to 1, the smaller one first, such as (0.08, 1.0)",
        ),
        (
            ("TEST.SPLIT", "Val"),
            "command line: TEST.SPLIT is 'Val', expected one of: val, test (default: test), do "
            'you mean "val"?',
        ),
        (
            ("OPTIM.NAME", "sgd", "OPTIM.SGD_NESTEROV", "True", "OPTIM.SGD_DAMPNING", "1"),
            "OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0, which is 0.9, and "
            "OPTIM.SGD_DAMPNING 0, which is 1",
        ),
        (
            ("INPUT.NO_TRANSFORM", "True"),
            "INPUT.NO_TRANSFORM is True, but methods on CLIP read images as tensors of one size: "
            "set INPUT.NO_TRANSFORM False",
        ),
        (
            ("OPTIM.LR", "x" * 9999, "OPTIM"),
            "KEY VALUE pairs must come in twos, but these are: DATASET.NUM_SHOTS",
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_a_mistake_of_the_command_line_is_one_message(job, refused, tmp_path, words, message):
    # a flag of many words ends at the next flag
    flags, pairs = ((*words, "--no-train"), ()) if words[0].startswith("--") else ((), words)
    found = refused([*job("CoOp")[:-8], *flags, *job("CoOp")[-8:], *pairs])
    assert found.startswith(message) and (found == message or len(pairs) % 2)
    assert not (tmp_path / "run").exists() or not [*(tmp_path / "run").rglob("config.yaml")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("OPTIM: {LR: .inf}", "{}: OPTIM.LR is inf, expected a number from 0 such as 0.0003"),
        ("OPTIM: {LR: {a: 1}}", "{}: OPTIM.LR is {{'a': 1}}, expected a number from 0 such as "),
        ("OPTIM: {LR: '{{[]:1}}'}", "{}: OPTIM.LR is '{{{{[]:1}}}}', expected a number from 0 "),
        ("OPTIM: {MAX_EPOCH: true}", "{}: OPTIM.MAX_EPOCH is True, expected a whole number from"),
        ("OPTIM: {MAX_EPOCH: 2020-01-02}", "{}: OPTIM.MAX_EPOCH is datetime.date(2020, 1, 2), ex"),
        ("OPTIM:", "{}: OPTIM is a section, expected KEY: VALUE in it, found None"),
        ("TRAINER: {NAME: 3}", "{}: TRAINER.NAME is 3, expected a text (default: not given); put"),
        ("OUTPUT_DIR: ''", "{}: OUTPUT_DIR has no value, expected a path or name such as './outp"),
        ('OUTPUT_DIR: "a\\0b"', "{}: OUTPUT_DIR is 'a\\x00b', expected a path or name such as '"),
        ("INPUT: {TRANSFORMS: normalize}", "{}: INPUT.TRANSFORMS is 'normalize', expected a list "),
        ("TRAINER: {COOP: {CTX_INIT: [a]}}", "{}: TRAINER.COOP.CTX_INIT is ['a'], expected words"),
        ("PER_DATASET: 3", "{}: PER_DATASET is 3, expected a path or name (default: none); put "),
        ("PER_DATASET: a/b.yaml", "no such configuration file: {folder}/a/b.yaml"),
        ("{3: 4}", '{}: unknown key "3"'),
        (f"{{{'K' * 999}: 4}}", f'{{}}: unknown key "{"K" * 80}... (999 characters)"'),
        (f"'{'a' * 9999}'", f"{{}}: expected settings as KEY: VALUE, found '{'a' * 79}... (10,001"),
    ],
    ids=lambda value: value[:40],
)
def test_a_mistake_of_a_file_is_one_message(tmp_path, content, message):
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        configured("--config-file", str(path), "--trainer", "CoOp")
    assert str(error.value).startswith(message.format(path, folder=tmp_path))
    assert len(str(error.value)) < 600


def test_a_table_of_datasets_must_be_one(tmp_path):
    (tmp_path / "own.yaml").write_text("PER_DATASET: table.yaml")
    table = tmp_path / "table.yaml"
    for content, message in (
        ("- a", f"{table}: expected settings as KEY: VALUE, found ['a']"),
        ("Shapes: 3", f"{table}, Shapes: expected settings as KEY: VALUE, found 3"),
        ("Shapes: {OPTIM: {LR: -1}}", f"{table}, Shapes: OPTIM.LR is -1.0, expected a number "),
    ):
        table.write_text(content)
        with pytest.raises(UserError) as error:
            configured("--config-file", str(tmp_path / "own.yaml"), "--trainer", "CoOp")
        assert str(error.value).startswith(message)
    table.write_text("Digits: {OPTIM: {LR: 1}}")
    cfg = configured("--config-file", str(tmp_path / "own.yaml"), "--trainer", "CoOp")
    assert cfg.OPTIM.LR == 0.0003


@pytest.mark.parametrize(
    ("pairs", "key", "value"),
    [
        ("DATASET.NUM_SHOTS 0", "DATASET.NUM_SHOTS", 0),
        ("SEED -5", "SEED", -5),
        ("SEED 4294967295", "SEED", 2**32 - 1),
        ("OPTIM.STEPSIZE (-1,)", "OPTIM.STEPSIZE", (-1,)),
        ("OPTIM.STEPSIZE [3,5]", "OPTIM.STEPSIZE", (3, 5)),
        ("OPTIM.WARMUP_EPOCH -1", "OPTIM.WARMUP_EPOCH", -1),
        ("OPTIM.LR 0", "OPTIM.LR", 0.0),
        ("OPTIM.LR 1e30", "OPTIM.LR", 1e30),
        ("DATASET.VAL_PERCENT 0.5", "DATASET.VAL_PERCENT", 0.5),
        ("TRAIN.CHECKPOINT_FREQ -1", "TRAIN.CHECKPOINT_FREQ", -1),
        ("INPUT.TRANSFORMS ()", "INPUT.TRANSFORMS", ()),
        ("INPUT.PIXEL_MEAN [0,0,0]", "INPUT.PIXEL_MEAN", [0, 0, 0]),
        ("CACHE.LIMIT_GB 1e999", "CACHE.LIMIT_GB", float("inf")),
        ("USE_CUDA false", "USE_CUDA", False),
        ("TRAINER.MCD.N_STEP_F -4", "TRAINER.MCD.N_STEP_F", -4),
        ("TRAINER.COOP.CTX_INIT 3", "TRAINER.COOP.CTX_INIT", "3"),
    ],
)
def test_what_worked_works(pairs, key, value):
    found = flatten(configured("--trainer", "CoOp", *pairs.split()))[key]
    assert found == value and type(found) is type(value)


def test_the_seed_of_a_flag_wins_over_that_of_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("SEED: 3")
    words = ("--trainer", "CoOp", "--config-file", str(path))
    seeds = [configured(*words, *more).SEED for more in ((), ("--seed", "0"), ("--seed", "-1"))]
    assert seeds == [3, 0, -1]


# as the files of CoOp, CoCoOp and Dassl are written; what they set is taken from the papers
UPSTREAM = {
    "few shots": """
DATALOADER:
  TRAIN_X: {BATCH_SIZE: 32}
  TEST: {BATCH_SIZE: 100}
  NUM_WORKERS: 8
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  PIXEL_STD: [0.26862954, 0.26130258, 0.27577711]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  NAME: "sgd"
  LR: 0.002
  MAX_EPOCH: 50
  LR_SCHEDULER: "cosine"
  WARMUP_EPOCH: 1
  WARMUP_TYPE: "constant"
  WARMUP_CONS_LR: 1e-5
TRAIN: {PRINT_FREQ: 5}
MODEL: {BACKBONE: {NAME: "RN50"}}
TRAINER: {COOP: {N_CTX: 4, CTX_INIT: "", CSC: True, CLASS_TOKEN_POSITION: "middle"}}
""",
    "domains": """
DATALOADER:
  TRAIN_X: {SAMPLER: "RandomDomainSampler", BATCH_SIZE: 30, N_DOMAIN: 3}
  TRAIN_U: {SAME_AS_X: False, SAMPLER: RandomSampler, BATCH_SIZE: 448}
  TEST: {BATCH_SIZE: 200}
INPUT:
  SIZE: [32, 32]
  PIXEL_MEAN: [0.5, 0.5, 0.5]
  PIXEL_STD: [0.5, 0.5, 0.5]
  TRANSFORMS: ["random_flip", "random_crop", "normalize"]
OPTIM: {NAME: "sgd", LR: 0.05, STEPSIZE: [20], MAX_EPOCH: 50, LR_SCHEDULER: single_step}
TRAIN: {COUNT_ITER: "train_u", PRINT_FREQ: 50}
TEST: {FINAL_MODEL: best_val}
TRAINER:
  DAEL: {STRONG_TRANSFORMS: ["randaugment2", "normalize"]}
  FIXMATCH: {STRONG_TRANSFORMS: ["random_flip", "randaugment_fixmatch", "normalize"]}
""",
}


@pytest.mark.parametrize("content", UPSTREAM.values(), ids=UPSTREAM)
def test_files_in_the_way_of_upstream_load(tmp_path, content):
    path = tmp_path / "upstream.yaml"
    path.write_text(content)
    cfg = configured("--trainer", "CoOp", "--config-file", str(path))
    given = Merging(default_cfg())
    given.file(path)
    assert len(given.given) >= 16 and cfg.OPTIM.MAX_EPOCH == 50


@pytest.fixture
def guest(monkeypatch):
    """A trainer whose node is its own, with all kinds of defaults."""

    class Guest:
        @classmethod
        def extend_cfg(cls, cfg):
            node = {"CTX_INIT": False, "DEPTH": 9, "RATE": 0.1, "LAYERS": (1,), "FREE": None}
            cfg.TRAINER.GUEST = CfgNode({**node, "WORDS": CfgNode({"CTX_INIT": "an icon of"})})

    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "Guest", Guest)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("CTX_INIT", "True", True),
        ("CTX_INIT", "false", False),
        ("CTX_INIT", "a photo of a", "a photo of a"),
        ("CTX_INIT", "", ""),
        ("WORDS.CTX_INIT", "True", "an icon of"),
        ("WORDS.CTX_INIT", "a", "a"),
        ("DEPTH", "-9", -9),
        ("RATE", "inf", float("inf")),
        ("LAYERS", "['a', 0.5]", ("a", 0.5)),
        ("LAYERS", "()", ()),
        ("FREE", "3", 3),
        ("FREE", "words", "words"),
    ],
)
def test_a_guests_own_node_is_read_by_the_kind_of_its_defaults(guest, key, text, value):
    cfg = configured("--trainer", "Guest", f"TRAINER.GUEST.{key}", text)
    found = flatten(cfg)[f"TRAINER.GUEST.{key}"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("DEPTH", "9.5", "is '9.5', expected a whole number such as 9"),
        ("RATE", "fast", "is 'fast', expected a number such as 0.1"),
        ("LAYERS", "1", "is '1', expected a list such as (1,)"),
        ("FREE", "{}", "is '{}', expected a plain value (default: none)"),
    ],
)
def test_another_kind_in_a_guests_node_is_refused(guest, key, text, message):
    with pytest.raises(UserError) as error:
        configured("--trainer", "Guest", f"TRAINER.GUEST.{key}", text)
    assert str(error.value) == f"command line: TRAINER.GUEST.{key} {message}"


def test_a_name_that_a_plugin_registers_is_known(monkeypatch):
    with pytest.raises(UserError, match="TEST.EVALUATOR is 'Mine', expected one of: Class"):
        configured("--trainer", "CoOp", "TEST.EVALUATOR", "Mine")
    monkeypatch.setitem(EVALUATOR_REGISTRY._obj_map, "Mine", object)
    assert configured("--trainer", "CoOp", "TEST.EVALUATOR", "Mine").TEST.EVALUATOR == "Mine"


def test_seeds_of_a_protocol_are_read_by_the_same_row(tmp_path, capsys):
    words = ["base2new", "--trainer", "CoOp", "--dataset", "shapes", "--output", str(tmp_path)]
    for seed, message in (
        ("1e3", "--seed: SEED is '1e3', expected a whole number up to 4294967295 (default: none)"),
        ("-1", "seed -1, shots 16: expected a seed from 0 to 4294967295, and shots from 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            protocol.main([*words, "--seed", seed])
        assert stop.value.code == 1
        assert capsys.readouterr().err == f"error: {message}\n"


def test_the_page_of_settings_is_up_to_date():
    assert (ROOT / "docs/settings.md").read_text() == page.page(), (
        "python -m tools.settings > docs/settings.md"
    )
