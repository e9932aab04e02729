"""What every method must do. A new file in trainers/ is covered by being there."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY, SimpleTrainer
from runs.trained import TrainedRun
from trainers.errors import MethodError

ROOT = Path(__file__).resolve().parents[2]
METHODS = sorted(
    name
    for name in TRAINER_REGISTRY.registered_names()
    if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
)
SHIPPED = (
    *("CoCoOp", "CoOp", "KgCoOp", "MoPD", "ProGrad", "SiPD", "ZeroshotCLIP", "ZeroshotCLIP2"),
)
CHANCE = 100 / 20
# a method that starts from "a photo of a" is near zero-shot CLIP (48, 44) after two epochs
FLOOR = dict.fromkeys(SHIPPED, 35.0) | {"ProGrad": 1.5 * CHANCE}  # starts from zeros
LEARNING = [name for name in METHODS if TRAINER_REGISTRY.get(name).learns]


def arguments(method: str, data: Path, output: Path, *more: str, dataset: str = "shapes"):
    """Arguments of train.py for two epochs of two shots on base classes."""
    return [
        *("--root", str(data), "--seed", "1", "--trainer", method, "--output-dir", str(output)),
        *("--dataset-config-file", str(ROOT / f"configs/datasets/{dataset}.yaml")),
        *("--config-file", str(ROOT / f"configs/trainers/{method}/embedded.yaml")),
        *(word for word in more if word.startswith("--eval")),
        *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base"),
        *("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"),
        *(word for word in more if not word.startswith("--eval")),
    ]


def evaluate(method: str, data: Path, model: Path, output: Path, *more: str, dataset="shapes"):
    """Test the second epoch of a run."""
    words = arguments(method, data, output, *more, dataset=dataset)
    return train.main(["--eval-only", "--model-dir", str(model), "--load-epoch", "2", *words])


def floor(method: str) -> float:
    """Accuracy that two epochs reach at least, in percent."""
    return FLOOR.get(method, 1.5 * CHANCE)


def checkpoint(run: Path, epoch: int) -> dict[str, torch.Tensor]:
    path = run / f"prompt_learner/model.pth.tar-{epoch}"
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.fixture(scope="module", params=LEARNING)
def trained(request, data_root, tmp_path_factory):
    """A method that was trained for two epochs: its name, its folder, its results."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    return request.param, folder, train.main(arguments(request.param, data_root, folder))


def test_the_methods_of_this_project_are_among_them():
    assert set(SHIPPED) <= set(METHODS)


def test_training_moves_what_is_learned_and_the_base_classes_are_tested(trained):
    method, folder, results = trained
    first, second = checkpoint(folder, 1), checkpoint(folder, 2)
    assert first.keys() == second.keys()
    for name, value in second.items():
        assert value.dtype is torch.float32 and torch.isfinite(value).all()
        assert not torch.equal(value, first[name]), f"{name} did not move in the second epoch"
    assert results["trainer"] == method and results["classes"] == "base"
    assert results["num_classes"] == 20 and results["accuracy"] > floor(method)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert [line["split"] for line in lines] == ["train", "train", "test"]
    assert all(math.isfinite(line["loss"]) for line in lines[:2])


def test_the_model_tests_new_classes(trained, data_root):
    method, folder, _ = trained
    more = ("DATASET.SUBSAMPLE_CLASSES", "new")
    results = evaluate(method, data_root, folder, folder, *more)
    assert (results["classes"], results["epoch"], results["num_classes"]) == ("new", 2, 20)
    assert results["accuracy"] > floor(method)
    assert sorted(p.parent.name for p in folder.rglob("results.json")) == ["base", "new"]


def same_for_the_same_names(folder: Path, data: Path) -> None:
    """A trained method answers for its own class names, turned round, as it did before."""
    run = TrainedRun.of(folder)
    trainer = run.open(run.results["base"], data)
    names = list(trainer.dm.dataset.classnames)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, trainer.clip.embed_dim, generator=generator)
    features = torch.nn.functional.normalize(features, dim=-1)
    with torch.no_grad():
        before = trainer.predict(features)
        other = trainer.for_classes([*names[::-1], "a name that no class has"])
        turned = other.predict(features)
        again = trainer.predict(features)
    assert turned.shape == (3, 21) and torch.equal(before, again)
    # relative to logits of about 20
    torch.testing.assert_close(turned[:, :20].flip(1), before, rtol=1e-5, atol=1e-4)
    assert trainer.dm.dataset.classnames == names


def test_the_model_answers_for_other_class_names(trained, data_root):
    _, folder, _ = trained
    same_for_the_same_names(folder, data_root)


def test_contexts_of_single_classes_answer_for_no_others(data_root, tmp_path):
    csc = ("TRAINER.COOP.CSC", "True", "OPTIM.MAX_EPOCH", "1")
    train.main(arguments("CoOp", data_root, tmp_path, *csc))
    run = TrainedRun.of(tmp_path)
    trainer = run.open(run.results["base"], data_root)
    with pytest.raises(MethodError, match="CSC True learns a context for each class"):
        trainer.for_classes(["cat", "dog"])


def test_the_model_loads_into_another_dataset_with_other_classes(trained, data_root, tmp_path):
    method, folder, _ = trained
    more = ("DATASET.SUBSAMPLE_CLASSES", "all")
    results = evaluate(method, data_root, folder, tmp_path, *more, dataset="digits")
    assert (results["dataset"], results["num_classes"]) == ("Digits", 10)
    assert results["checkpoint"] and results["total"] > 1000


def test_a_run_that_was_cut_off_continues_bit_for_bit(trained, data_root, tmp_path, monkeypatch):
    method, folder, whole = trained

    def cut_off(self) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SimpleTrainer, "before_epoch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train.main(arguments(method, data_root, tmp_path / "run"))
    assert not (tmp_path / "run/base/results.json").exists()
    results = train.main(arguments(method, data_root, tmp_path / "run"))
    for key in ("accuracy", "macro_f1", "correct", "config_hash"):
        assert results[key] == whole[key]
    cut, uncut = checkpoint(tmp_path / "run", 2), checkpoint(folder, 2)
    assert cut.keys() == uncut.keys()
    assert all(torch.equal(cut[name], uncut[name]) for name in cut)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in LEARNING])
def test_a_method_that_learns_nothing_is_tested_on_base_and_new(method, data_root, tmp_path):
    for classes in ("base", "new"):
        more = ("--eval-only", "DATASET.SUBSAMPLE_CLASSES", classes)
        results = train.main(arguments(method, data_root, tmp_path, *more))
        assert results["classes"] == classes and results["accuracy"] > floor(method)
    same_for_the_same_names(tmp_path, data_root)


def bad_values(method: str) -> list[tuple[str, str]]:
    """A bad value for every knob of which one can be told: numbers, choices, files, bools."""
    found = []
    for key, default in TRAINER_REGISTRY.get(method).defaults.items():
        if isinstance(default, bool):
            found.append((key, "maybe"))
        elif isinstance(default, int):
            found.append((key, "-1"))
        elif isinstance(default, float):
            found += [(key, "-1.0"), (key, "1e999")]
        elif key != "CTX_INIT":  # any words are a start
            found.append((key, "no_such_thing"))
    return found


@pytest.mark.parametrize(
    ("method", "key", "value"), [(name, *bad) for name in METHODS for bad in bad_values(name)]
)
def test_a_bad_knob_is_refused_by_name(method, key, value, data_root, tmp_path, refused):
    node = TRAINER_REGISTRY.get(method).node()
    more = (f"TRAINER.{node}.{key}", value)
    message = refused(arguments(method, data_root, tmp_path / "run", *more))
    named = "pool 'no_such_thing'" if key == "POOL" else f"TRAINER.{node}.{key}"
    assert named in message
    assert not (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_misspelt_knob_is_refused_with_the_right_one(method, data_root, tmp_path, refused):
    node = f"TRAINER.{TRAINER_REGISTRY.get(method).node()}"
    message = refused(arguments(method, data_root, tmp_path, f"{node}.PRECC", "fp32"))
    assert f'unknown key "{node}.PRECC", do you mean "{node}.PREC"?' in message


@pytest.mark.parametrize("method", SHIPPED)
def test_it_has_configurations_a_script_and_a_description_of_its_knobs(method):
    trainer = TRAINER_REGISTRY.get(method)
    scripts = set()
    for config in ("vit_b16", "embedded"):
        first = (ROOT / f"configs/trainers/{method}/{config}.yaml").read_text().splitlines()[0]
        scripts.add(re.fullmatch(r"# bash (scripts/\w+/base2new\.sh) \w+ 1", first)[1])
    (script,) = scripts
    assert f"base2new {method} " in (ROOT / script).read_text()
    for key in trainer.defaults:
        assert f"`{key}`" in trainer.__doc__ or "as CoOp" in trainer.__doc__, key
    assert f"\n## {method}" in (ROOT / "docs/methods.md").read_text()
    assert f"| {method} |" in (ROOT / "README.md").read_text()
