"""Settings: every shipped file, their order, types, and the published per-dataset values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from runs.config import build_parser, default_cfg, setup_cfg

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
# spec of the authors' scripts: ALPHA (w), BETA (w2), K, epochs
OFFICIAL = {
    "ImageNet": (0.8, 0.0005, 3, 25),
    "Caltech101": (0.8, 0.0005, 3, 100),
    "OxfordPets": (0.8, 0.5, 3, 25),
    "StanfordCars": (0.8, 0.1, 3, 100),
    "OxfordFlowers": (0.8, 0.1, 3, 100),
    "Food101": (0.5, 0.1, 2, 25),
    "FGVCAircraft": (0.8, 0.1, 2, 25),
    "SUN397": (0.8, 0.1, 2, 25),
    "DescribableTextures": (0.8, 0.1, 2, 25),
    "EuroSAT": (0.5, 0.1, 2, 100),
    "UCF101": (0.5, 0.1, 2, 25),
}


def settings(*argv: str):
    return setup_cfg(build_parser().parse_args(list(argv)))


def files(dataset: str = "shapes", trainer: str = "MoPD", config: str = "embedded") -> list[str]:
    return [
        *("--dataset-config-file", str(CONFIGS / f"datasets/{dataset}.yaml")),
        *("--config-file", str(CONFIGS / f"trainers/{trainer}/{config}.yaml")),
        *("--trainer", trainer),
    ]


def test_every_trainer_file_loads_and_starts_with_a_command_that_exists():
    paths = [p for p in (CONFIGS / "trainers").rglob("*.yaml") if p.name != "per_dataset.yaml"]
    found = {(p.parent.name, p.stem) for p in paths}
    ours = {p.parent.name for p in paths}
    assert len(ours) >= 8 and found == {(n, stem) for n in ours for stem in ("embedded", "vit_b16")}
    for path in paths:
        cfg = settings(*files("shapes", path.parent.name, path.stem))
        assert cfg.TRAINER.NAME in TRAINER_REGISTRY.registered_names()
        assert cfg.INPUT.PIXEL_MEAN == [0.48145466, 0.4578275, 0.40821073], path
        first = path.read_text().splitlines()[0]
        command = re.fullmatch(r"# bash (scripts/\w+/\w+\.sh) (\w+) \d.*", first)
        assert command and (ROOT / command[1]).is_file(), first
        assert (CONFIGS / f"datasets/{command[2]}.yaml").is_file(), first
        assert path.parent.name in (ROOT / command[1]).read_text()


def test_every_dataset_file_holds_only_a_registered_name():
    paths = sorted((CONFIGS / "datasets").glob("*.yaml"))
    assert {"shapes", "digits", "imagenet"} <= {p.stem for p in paths}
    for path in paths:
        content = yaml.safe_load(path.read_text())
        assert list(content) == ["DATASET"] and list(content["DATASET"]) == ["NAME"]
        assert content["DATASET"]["NAME"] == settings(*files(path.stem)).DATASET.NAME


def test_the_authors_settings_stand_in_the_table_of_datasets():
    table = yaml.safe_load((CONFIGS / "trainers/MoPD/per_dataset.yaml").read_text())
    assert set(OFFICIAL) <= set(table)
    for name, (alpha, beta, k, epochs) in OFFICIAL.items():
        assert table[name]["TRAINER"]["MOPD"] == {
            "ALPHA": alpha,
            "BETA": beta,
            "NUM_TEACHERS": k,
        }
        assert table[name]["OPTIM"] == {"MAX_EPOCH": epochs}


def test_only_a_file_that_names_the_table_uses_it(tmp_path):
    text = (CONFIGS / "trainers/MoPD/vit_b16.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(re.sub(r"PER_DATASET.*\n", "", text))
    cfg = settings(*files("imagenet")[:2], "--config-file", str(tmp_path / "mine.yaml"),
                   "--trainer", "MoPD")  # fmt: skip
    assert (cfg.TRAINER.MOPD.BETA, cfg.OPTIM.MAX_EPOCH) == (0.1, 100)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match="no such configuration file: .*per_dataset.yaml"):
        settings(*files("imagenet")[:2], "--config-file", str(tmp_path / "mine.yaml"))


def test_the_dataset_picks_its_settings_and_the_command_line_wins():
    cfg = settings(*files("imagenet", config="vit_b16"))
    assert (cfg.TRAINER.MOPD.BETA, cfg.OPTIM.MAX_EPOCH) == (0.0005, 25)
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 128 and cfg.OPTIM.LR == 0.002
    cfg = settings(*files("imagenet", config="vit_b16"), "TRAINER.MOPD.BETA", "0.3")
    assert (cfg.TRAINER.MOPD.BETA, cfg.OPTIM.MAX_EPOCH) == (0.3, 25)


def test_defaults_of_the_methods():
    cfg = default_cfg()
    assert dict(cfg.TRAINER.MOPD) == {
        "N_CTX": 4,
        "CTX_INIT": "a photo of a",
        "CSC": False,
        "CLASS_TOKEN_POSITION": "end",
        "PREC": "auto",
        "POOL": "paper",
        "NUM_TEACHERS": 3,
        "TEMPERATURE": 1.0,
        "ALPHA": 0.8,
        "BETA": 0.1,
        "GATE": "learned",
        "GATE_NOISE": 0.0,
        "GATE_WARMUP": 0,
        "GATE_COSINE": 0.0,
        "GATE_AGREEMENT": False,
    }
    assert dict(cfg.TRAINER.COCOOP) == {"N_CTX": 16, "CTX_INIT": "", "PREC": "auto"}
    assert dict(cfg.TRAINER.KGCOOP) == {
        "N_CTX": 4,
        "CTX_INIT": "a photo of a",
        "PREC": "auto",
        "W": 8.0,
        "POOL": "kgcoop",
    }
    assert dict(cfg.TRAINER.PROGRAD) == {
        "N_CTX": 16,
        "CTX_INIT": "template",
        "PREC": "auto",
        "POOL": "prograd",
        "T": 1.0,
        "LAMBDA": 1.0,
    }
    assert dict(cfg.TRAINER.SIPD) == {
        "N_CTX": 4,
        "CSC": False,
        "CTX_INIT": "a photo of a",
        "PREC": "auto",
        "CLASS_TOKEN_POSITION": "end",
        "POOL": "single",
        "TEACHER": 0,
        "TEMPERATURE": 1.0,
        "ALPHA": 0.8,
    }
    assert dict(cfg.TRAINER.ZEROSHOTCLIP2) == {"PREC": "auto", "POOL": "ensemble"}
    assert dict(cfg.TRAINER.COOP) == {
        "N_CTX": 16,
        "CSC": False,
        "CTX_INIT": "",
        "PREC": "auto",
        "CLASS_TOKEN_POSITION": "end",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [("True", "a photo of a"), ("False", ""), ("a sketch of a", "a sketch of a"), ("", "")],
)
def test_ctx_init_is_words_or_a_bool_on_the_command_line(value, expected):
    cfg = settings(*files(trainer="CoOp"), "TRAINER.COOP.CTX_INIT", value)
    assert expected == cfg.TRAINER.COOP.CTX_INIT


@pytest.mark.parametrize(("value", "expected"), [("true", "a photo of a"), ("false", "")])
def test_ctx_init_is_words_or_a_bool_in_a_file(tmp_path, value, expected):
    path = tmp_path / "coop.yaml"
    path.write_text(f"TRAINER:\n  COOP:\n    CTX_INIT: {value}\n")
    cfg = settings(*files(trainer="CoOp")[:2], "--config-file", str(path), "--trainer", "CoOp")
    assert expected == cfg.TRAINER.COOP.CTX_INIT


def test_whole_numbers_serve_as_decimal_ones_but_not_the_other_way():
    cfg = settings(*files(), "TRAINER.MOPD.ALPHA", "1", "OPTIM.LR", "1")
    assert cfg.TRAINER.MOPD.ALPHA == 1.0 and isinstance(cfg.OPTIM.LR, float)
    with pytest.raises(
        UserError, match="N_CTX is '4.5', expected a whole number from 1 to 512 such as 4"
    ):
        settings(*files(), "TRAINER.MOPD.N_CTX", "4.5")


def test_texts_stay_texts_even_if_they_look_like_numbers():
    cfg = settings(*files(), "OUTPUT_DIR", "1e3")
    assert cfg.OUTPUT_DIR == "1e3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TRAINER: {MOPDD: {ALPHA: 0.5}}", 'unknown section "TRAINER.MOPDD"'),
        ("TRAINER: {MOPD: {ALPHAA: 0.5}}", 'unknown key "TRAINER.MOPD.ALPHAA", do you mean'),
        ("OPTIM: 3", "OPTIM is a section, expected KEY: VALUE in it, found 3"),
        ("- a\n- b", "expected settings as KEY: VALUE"),
        ("OPTIM: {LR: [", ", line 1, column 14: not valid YAML, expected the node content"),
        ("OPTIM: {MAX_EPOCH: many}", "OPTIM.MAX_EPOCH is 'many', expected a whole number"),
    ],
)
def test_mistakes_in_a_file_name_the_file_and_the_key(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        settings("--config-file", str(path), "--trainer", "MoPD")
    assert str(path) in str(error.value) and message in str(error.value)


def test_no_trainer_or_dataset_lists_those_that_exist():
    with pytest.raises(UserError, match=r"no trainer is given \(--trainer\).*CoOp, .*MoPD"):
        settings()
    with pytest.raises(UserError, match="no dataset is given.*Shapes"):
        settings("--trainer", "MoPD")


def test_the_configuration_is_frozen():
    with pytest.raises(AttributeError):
        settings(*files()).OPTIM.LR = 1.0


@pytest.mark.parametrize(
    ("trainer", "key", "value", "advice"),
    [
        ("KgCoOp", "TRAINER.COOP.W", "8.0", "set TRAINER.KGCOOP.W"),
        ("KgCoOp", "TRAINER.COCOOP.PREC", "fp32", "set TRAINER.KGCOOP.PREC"),
        ("KgCoOp", "TRAINER.COOP.CSC", "True", "remove it"),
        ("KgCoOp", "TRAINER.COOP.ALPHA", "1.0", "remove it"),
        ("MoPD", "TRAINER.COOP.W", "0.8", "set TRAINER.MOPD.ALPHA"),
        ("MoPD", "TRAINER.COOP.W2", "0.1", "set TRAINER.MOPD.BETA"),
        ("MoPD", "TRAINER.COOP.N_CTX", "4", "set TRAINER.MOPD.N_CTX"),
        ("MoPD", "LOSS.num_prompts", "2", "set TRAINER.MOPD.NUM_TEACHERS"),
        ("MoPD", "LOSS.T", "2.0", "set TRAINER.MOPD.TEMPERATURE"),
        ("MoPD", "TRAINER.SIPD.TEACHER", "1", "remove it"),
        ("ProGrad", "LOSS.T", "2.0", "set TRAINER.PROGRAD.T"),
        ("ProGrad", "LOSS.LAMBDA", "0.8", "set TRAINER.PROGRAD.LAMBDA"),
        ("ProGrad", "LOSS.NAME", "prograd", "remove it"),
        ("ProGrad", "TRAINER.COOP.CLASS_TOKEN_POSITION", "front", "remove it"),
        ("CoCoOp", "TRAINER.COOP.N_CTX", "4", "set TRAINER.COCOOP.N_CTX"),
        ("ZeroshotCLIP2", "TRAINER.COOP.PREC", "fp32", "set TRAINER.ZEROSHOTCLIP2.PREC"),
        ("CoOp", "TRAINER.COOP.W", "8.0", "only the published code of KgCoOp, MoPD has it"),
    ],
)
def test_keys_that_mean_nothing_to_the_method_are_refused_with_ours(
    tmp_path, trainer, key, value, advice
):
    with pytest.raises(UserError) as error:
        settings(*files(trainer=trainer), key, value)
    told = f"this setting has no effect on {trainer} here:\n  {{}}: {key}: {advice}"
    assert str(error.value) == told.format("command line")
    tree: dict = {}
    node = tree
    for part in key.split(".")[:-1]:
        node = node.setdefault(part, {})
    node[key.split(".")[-1]] = yaml.safe_load(value)
    (tmp_path / "up.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(UserError) as error:
        settings(*files()[:2], "--config-file", str(tmp_path / "up.yaml"), "--trainer", trainer)
    assert str(error.value) == told.format(tmp_path / "up.yaml")


def test_all_keys_of_a_published_file_are_told_at_once(tmp_path):
    path = tmp_path / "rn50_ep100.yaml"
    path.write_text(
        "LOSS: {GM: False, NAME: prograd, ALPHA: 0.0, T: 1.0, LAMBDA: 1.0}\n"
        "TRAINER: {COOP: {N_CTX: 16, CTX_INIT: True}}\n"
    )
    with pytest.raises(UserError) as error:
        settings(*files()[:2], "--config-file", str(path), "--trainer", "ProGrad")
    assert str(error.value).splitlines() == [
        "these settings have no effect on ProGrad here:",
        f"  {path}: LOSS.GM: remove it",
        f"  {path}: LOSS.NAME: remove it",
        f"  {path}: LOSS.ALPHA: remove it",
        f"  {path}: LOSS.T: set TRAINER.PROGRAD.T",
        f"  {path}: LOSS.LAMBDA: set TRAINER.PROGRAD.LAMBDA",
        f"  {path}: TRAINER.COOP.N_CTX: set TRAINER.PROGRAD.N_CTX",
        f"  {path}: TRAINER.COOP.CTX_INIT: set TRAINER.PROGRAD.CTX_INIT",
    ]


def test_true_is_each_methods_own_start_of_the_context():
    for trainer, words in (
        ("CoOp", "a photo of a"), ("CoCoOp", "a photo of a"), ("ProGrad", "template"),
        ("KgCoOp", "a photo of a"),
    ):  # fmt: skip
        for value, start in (("True", words), ("true", words), ("False", "")):
            cfg = settings(*files(trainer=trainer), f"TRAINER.{trainer.upper()}.CTX_INIT", value)
            assert start == cfg.TRAINER[trainer.upper()].CTX_INIT
