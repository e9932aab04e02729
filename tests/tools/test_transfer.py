"""Few-shot, cross-dataset and domain protocols, tests on other datasets, and your own data."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import train
from datasets.own import run_name
from datasets.shapes import Shapes
from runs.config import build_parser, setup_cfg
from runs.jobs import Job
from runs.protocols import PROTOCOLS
from runs.run_job import check_contexts, settings
from tools import protocol

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1")
SCRIPTS = {
    "mopd": "MoPD", "coop": "CoOp", "zsclip": "ZeroshotCLIP", "zsclip2": "ZeroshotCLIP2",
    "cocoop": "CoCoOp", "kgcoop": "KgCoOp", "prograd": "ProGrad", "sipd": "SiPD",
}  # fmt: skip


@pytest.fixture
def call(data_root, tmp_path):
    """Run a protocol of a method on shapes with 1 shot: `call("xd", "CoOp", flag, ...)`."""

    def run(name: str, trainer: str, *more: str) -> list[dict]:
        return protocol.main(
            [
                *(name, "--trainer", trainer, "--dataset", "shapes", "--seed", "1"),
                *("--shots", "1", "--data", str(data_root), "--output", str(tmp_path / "out")),
                *more,
            ]
        )

    return run


@pytest.fixture
def refused(call, capsys, tmp_path):
    """As `call`, for what must be refused before anything is written; the message."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stop:
            call(*arguments)
        assert stop.value.code == 1
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err.removeprefix("error: ").strip()

    return run


@pytest.fixture(scope="session")
def birds(data_root, tmp_path_factory) -> Path:
    """Class folders with images of shapes, in train and test."""
    train.main(
        [
            *("--root", str(data_root), "--seed", "1", "--trainer", "ZeroshotCLIP", "--eval-only"),
            *("--dataset-config-file", str(ROOT / "configs/datasets/shapes.yaml")),
            *("--config-file", str(ROOT / "configs/trainers/ZeroshotCLIP/embedded.yaml")),
            *("--output-dir", str(tmp_path_factory.mktemp("make"))),
        ]
    )
    folder = tmp_path_factory.mktemp("own") / "birds"
    for split in ("train", "test"):
        for source in sorted((data_root / "shapes" / split).iterdir())[:4]:
            (folder / split / source.name).mkdir(parents=True)
            for image in sorted(source.iterdir())[:6]:
                shutil.copy(image, folder / split / source.name)
    return folder


def test_xd_tests_the_trained_model_on_the_other_dataset(call, data_root, tmp_path, capsys):
    shapes, digits = call("xd", "CoOp", *SHORT)
    run = tmp_path / "out/xd/shapes/CoOp/embedded/shots_1/seed1"
    names = {str(p.relative_to(run)) for p in run.rglob("*.json")}
    assert names == {"all/results.json", "digits/all/results.json"}
    assert digits == json.loads((run / "digits/all/results.json").read_text())
    assert (shapes["dataset"], shapes["source"]) == ("Shapes", "Shapes")
    assert (digits["dataset"], digits["source"]) == ("Digits", "Shapes")
    for found in (shapes, digits):
        assert (found["protocol"], found["config"], found["classes"]) == ("xd", "embedded", "all")
        assert found["settings"]["OPTIM.MAX_EPOCH"] == 2
    assert digits["checkpoint"] == shapes["checkpoint"] and digits["num_classes"] == 10
    rows = capsys.readouterr().out.strip().splitlines()[-2:]
    assert f"{shapes['accuracy']:.2f}" in rows[0] and f"{digits['accuracy']:.2f}" in rows[1]
    by_hand = train.main(
        [
            *("--root", str(data_root), "--seed", "1", "--trainer", "CoOp", "--eval-only"),
            *("--model-dir", str(run), "--load-epoch", "2"),
            *("--dataset-config-file", str(ROOT / "configs/datasets/digits.yaml")),
            *("--config-file", str(ROOT / "configs/trainers/CoOp/embedded.yaml")),
            *("--output-dir", str(tmp_path / "hand"), *SHORT, "DATASET.NUM_SHOTS", "1"),
        ]
    )
    same = ("correct", "total", "source", "checkpoint", "config_hash", "settings")
    assert {key: by_hand[key] for key in same} == {key: digits[key] for key in same}
    # only what is missing is done again
    (run / "digits/all/results.json").unlink()
    capsys.readouterr()
    again = call("xd", "CoOp", *SHORT)
    shown = capsys.readouterr().out
    assert [found["correct"] for found in again] == [shapes["correct"], digits["correct"]]
    assert shown.count("Results exist already") == 1 and "epoch [" not in shown


def test_a_method_that_learns_nothing_is_only_tested(call, tmp_path):
    shapes, digits = call("xd", "ZeroshotCLIP")
    assert shapes["source"] is None and digits["source"] is None
    assert (shapes["total"], digits["total"]) == (1600, 1097)
    assert not list((tmp_path / "out").rglob("prompt_learner"))
    (alone,) = call("fewshot", "ZeroshotCLIP", "--dataset", "digits")
    assert alone["correct"] == digits["correct"]


def test_fewshot_has_a_run_for_each_number_of_shots(call, tmp_path):
    one, two = call("fewshot", "CoOp", "--shots", "1,2", *SHORT)
    assert [(r["shots"], r["classes"], r["protocol"]) for r in (one, two)] == [
        (1, "all", "fewshot"),
        (2, "all", "fewshot"),
    ]
    found = {str(p.parent.relative_to(tmp_path / "out")) for p in tmp_path.rglob("results.json")}
    assert found == {f"fewshot/shapes/CoOp/embedded/shots_{n}/seed1/all" for n in (1, 2)}


def test_the_usual_shots_and_targets():
    assert PROTOCOLS["fewshot"].shots == (1, 2, 4, 8, 16)
    assert {PROTOCOLS[name].shots for name in ("base2new", "xd", "dg")} == {(16,)}
    xd, dg = PROTOCOLS["xd"].targets["imagenet"], PROTOCOLS["dg"].targets["imagenet"]
    assert set(xd) == {
        "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101",
        "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101",
    } and len(xd) == 10  # fmt: skip
    assert dg == ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
    assert PROTOCOLS["dg"].targets["shapes"] == ("shapes_blurred", "shapes_negative")


def test_all_missing_targets_are_named_before_anything_is_trained(refused, data_root):
    message = refused("xd", "CoOp", "--targets", "imagenet,digits,caltech101,folder:no/such")
    first, *lines = message.splitlines()
    assert first == "nothing is run, 3 target datasets cannot be used:"
    starts = [line.strip().partition(": ")[0] for line in lines if re.match(r"  \S", line)]
    assert starts == ["imagenet", "caltech101", "folder:no/such"]
    assert str(data_root / "imagenet") in message and str(data_root / "caltech-101") in message
    message = refused("xd", "CoOp", "--targets", "imagenet,digits,caltech")
    assert message.startswith('there is no dataset "caltech", do you mean "caltech101"? Known: ')
    message = refused("dg", "ZeroshotCLIP", "--targets", "imagenet")
    assert message.startswith("nothing is run, 1 target dataset cannot be used:\n  imagenet: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("xd", "--targets", "digits,shapes"), "shapes is trained on, and cannot be a target"),
        (("xd", "--targets", "digits,digits"), "the target digits is given twice"),
        (("base2new", "--targets", "digits"), "base2new tests on shapes only: give no targets"),
        (("dg", "--dataset", "digits"), "dg has no usual targets for digits (only for imagenet "),
        (("xd", "--", "TRAINER.COOP.CSC", "True"), "and other datasets have none: xd needs CSC"),
        (("fewshot", "--", "DATASET.SUBSAMPLE_CLASSES", "base"), "it tests all classes"),
        (("fewshot", "--tag", "a/b"), 'the tag is "a/b", expected letters, digits'),
        (
            ("fewshot", "--shots", "1,0"),
            "shots 0: expected a seed from 0 to 4294967295, and shots from 1",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_are_refused_before_anything_is_written(refused, arguments, message):
    name, *more = arguments
    assert message in refused(name, "CoOp", *more)


def test_shots_that_are_no_numbers_end_with_usage(call, capsys):
    with pytest.raises(SystemExit) as stop:
        call("fewshot", "CoOp", "--shots", "1,two")
    assert stop.value.code == 2
    assert "'1,two', expected a number, or some as 1,2,4" in capsys.readouterr().err


def test_contexts_of_single_classes_fit_fewshot(tmp_path):
    opts = ("TRAINER.COOP.CSC", "True")
    job = Job("fewshot", "CoOp", "shapes", 1, 1, tmp_path, tmp_path, opts=opts)
    check_contexts(job, settings(job, job.evaluations()[0]))


def test_a_tested_model_keeps_the_pool_of_its_training(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = '"a photo of a {}."'
    (tmp_path / "pool.yaml").write_text(
        f'datasets: {{Shapes: [{section}, "a {{}}."], Digits: [{section}]}}'
    )
    pool = ("TRAINER.MOPD.POOL", "pool.yaml", "TRAINER.MOPD.NUM_TEACHERS", "2")
    shapes, digits = call("xd", "MoPD", "--", *SHORT, *pool)
    for found in (shapes, digits):
        assert found["settings"]["POOL_SIZE"] == 2
    assert digits["settings"]["DATASET.SOURCE"] == "Shapes"
    assert "DATASET.SOURCE" not in shapes["settings"]
    assert digits["settings"]["POOL_DIGEST"] == shapes["settings"]["POOL_DIGEST"]


def vit_settings(*more: str):
    flags = [
        *("--trainer", "MoPD", "--eval-only", *more[:2]),
        *("--dataset-config-file", str(ROOT / "configs/datasets/digits.yaml")),
        *("--config-file", str(ROOT / "configs/trainers/MoPD/vit_b16.yaml"), *more[2:]),
    ]
    cfg = setup_cfg(build_parser().parse_args(flags))
    return cfg.DATASET.SOURCE, cfg.TRAINER.MOPD.BETA, cfg.OPTIM.MAX_EPOCH


def test_a_tested_model_keeps_the_settings_for_the_dataset_of_its_training(tmp_path):
    assert vit_settings("--model-dir", "") == ("", 0.1, 100)
    (tmp_path / "config.yaml").write_text("DATASET.NAME: ImageNet\n")
    assert vit_settings("--model-dir", str(tmp_path)) == ("ImageNet", 0.0005, 25)
    given = ("DATASET.SOURCE", "ImageNet")
    assert vit_settings("--model-dir", str(tmp_path / "copied"), *given) == ("ImageNet", 0.0005, 25)
    (tmp_path / "config.yaml").write_text("DATASET.NAME: Digits\n")
    assert vit_settings("--model-dir", str(tmp_path)) == ("", 0.1, 100)


def test_a_source_that_is_not_that_of_the_model_is_refused(job, capsys, tmp_path):
    (tmp_path / "config.yaml").write_text("DATASET.NAME: Digits\n")
    for flags, message in (
        ((), "DATASET.SOURCE is for --eval-only"),
        (("--eval-only", "--model-dir", str(tmp_path)), f"in {tmp_path} was trained on Digits"),
    ):
        with pytest.raises(SystemExit):
            train.main(job("CoOp", *flags, "DATASET.SOURCE", "ImageNet"))
        assert message in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("nothing")
    with pytest.raises(SystemExit):
        train.main(job("CoOp", "--eval-only", "--model-dir", str(tmp_path)))
    assert f"{tmp_path / 'config.yaml'} cannot be read" in capsys.readouterr().err


def test_a_dataset_for_tests_only_refuses_training_but_not_tests(
    job, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(Shapes, "test_only", True, raising=False)
    with pytest.raises(SystemExit) as stop:
        train.main(job("CoOp"))
    assert stop.value.code == 1 and not (tmp_path / "run").exists()
    assert "Shapes is only for testing, nothing is trained on it" in capsys.readouterr().err
    for flags in ((), ("--eval-only",)):
        with pytest.raises(SystemExit):
            train.main(job("ZeroshotCLIP", *flags))
        assert (
            "Shapes is always tested with all of its classes, so the results would be labelled "
            "wrongly: set DATASET.SUBSAMPLE_CLASSES to all, not base"
        ) in capsys.readouterr().err
    everything = job("ZeroshotCLIP", "DATASET.SUBSAMPLE_CLASSES", "all")
    assert train.main(everything)["source"] is None


def test_your_own_folder_is_a_dataset_of_every_protocol(call, birds, tmp_path, monkeypatch):
    monkeypatch.chdir(birds.parent)
    own = ("--dataset", "folder:birds", "--config", "embedded")
    base, new = call("base2new", "CoOp", *own, *SHORT)
    label = run_name(f"folder:{birds}")
    assert "birds" in label
    run = tmp_path / f"out/base2new/{label}/CoOp/embedded/shots_1/seed1"
    assert (run / "new/results.json").is_file()
    assert (base["dataset"], base["source"], base["num_classes"]) == (label, label, 2)
    assert base["settings"]["DATASET.PATH"] == str(birds) and new["total"] == 12
    _, other = call("xd", "ZeroshotCLIP", "--targets", "folder:birds")
    assert (other["dataset"], other["total"]) == (label, 24)
    assert (tmp_path / "out/xd/shapes/ZeroshotCLIP/embedded/shots_1/seed1" / label).is_dir()


def test_train_takes_your_own_folder_by_its_name(job, birds, tmp_path):
    found = train.main(job("CoOp", "DATASET.NAME", f"folder:{birds}"))
    assert (found["num_classes"], found["source"]) == (2, run_name(f"folder:{birds}"))


@pytest.mark.parametrize("method", sorted(SCRIPTS))
@pytest.mark.parametrize("name", ["fewshot", "xd", "dg"])
def test_every_method_has_a_script_for_every_protocol(method, name):
    lines = (ROOT / f"scripts/{method}/{name}.sh").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert f"bash scripts/{method}/{name}.sh DATASET SEED" in lines[1]
    assert lines[2:] == [f'exec bash "$(dirname "$0")/../run.sh" {name} {SCRIPTS[method]} "$@"']


def test_scripts_take_shots_targets_and_tag(data_root, tmp_path):
    variables = {"DATA": str(data_root), "OUTPUT": "runs", "PYTHON": sys.executable}
    variables |= {"TARGETS": "digits", "TAG": "short"}
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/zsclip/dg.sh"), "shapes", "3", "1,2"],
        cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {str(p.parent.relative_to(tmp_path)) for p in tmp_path.rglob("results.json")}
    run = "runs/dg/shapes/ZeroshotCLIP/embedded-short/shots_{}/seed3/{}all"
    assert found == {run.format(n, target) for n in (1, 2) for target in ("", "digits/")}


def test_a_script_says_its_own_name_when_called_wrongly(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/sipd/xd.sh"), "shapes"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("usage: xd.sh DATASET SEED [SHOTS]")


def make_rings(folder: Path, colours: tuple[str, ...]) -> None:
    for label, colour in enumerate(colours):
        for i in range(10):
            path = folder / colour / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (80 * label, 20 * i, 100)).save(path)


def test_changed_images_are_another_run(tmp_path, capsys):
    """Neither results nor a training that was cut off belong to other images."""
    data = tmp_path / "mine"
    make_rings(data, ("red_ring", "blue_ring", "gold_ring", "pink_ring"))
    words = [
        *("fewshot", "--trainer", "CoOp", "--dataset", f"folder:{data}", "--seed", "1"),
        *("--shots", "1", "--config", "embedded", "--output", str(tmp_path / "out")),
        *("OPTIM.MAX_EPOCH", "1", "TRAIN.CHECKPOINT_FREQ", "1"),
    ]
    (first,) = protocol.main(words)
    assert len(first["data"]) == 12
    capsys.readouterr()
    assert protocol.main(words) == [first]
    make_rings(data, ("cyan_ring",))
    with pytest.raises(SystemExit):
        protocol.main(words)
    label = first["dataset"]
    message = f"was measured on other images or labels than {label} has now: choose another output"
    assert message in capsys.readouterr().err
    (results,) = (tmp_path / "out").rglob("results.json")
    results.unlink()
    with pytest.raises(SystemExit):
        protocol.main(words)
    message = f"was trained on other images or labels than {label} has now: choose another output"
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("results.json"))
