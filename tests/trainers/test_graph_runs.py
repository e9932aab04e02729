"""Whole trainings by graphs, and with figures that are read later: same results, same files.

There is no GPU here: steps are captured by `cpu_graphs`, in the place of torch's CUDA graphs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from dassl.engine import SimpleTrainer, TrainerX
from tests.trainers.cpu_graphs import METHODS, REFUSED, TAKEN, same
from trainers.base import PromptTrainer

SHORT = ("DATALOADER.TRAIN_X.BATCH_SIZE", "8", "TRAIN.PRINT_FREQ", "3")


@pytest.fixture
def curves(monkeypatch) -> list[tuple[str, float, int | None]]:
    """The points that are written for TensorBoard."""
    points: list[tuple[str, float, int | None]] = []
    monkeypatch.setattr(TrainerX, "write_scalar", lambda self, *point: points.append(point))
    return points


def metrics(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def checkpoint(folder: Path, epoch: int = 2) -> dict[str, Any]:
    path = folder / f"prompt_learner/model.pth.tar-{epoch}"
    return torch.load(path, weights_only=False)


def lines_of(text: str) -> list[str]:
    """The printed lines of steps, without times."""
    found = [line for line in text.splitlines() if line.startswith("epoch [")]
    return [line[: line.index(" time ")] + line[line.index(" loss ") :][:-15] for line in found]


@pytest.fixture(scope="module", params=METHODS)
def plain(request, data_root, tmp_path_factory):
    """A method that was trained as on a CPU: its name, its folder, its curves, what it printed."""
    method, folder = request.param, tmp_path_factory.mktemp(request.param)
    points: list[tuple[Any, ...]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainerX, "write_scalar", lambda self, *point: points.append(point))
        train.main(words(method, data_root, folder))
    return method, folder, points, (folder / "log.txt").read_text()


def words(method: str, data: Path, folder: Path, *more: str) -> list[str]:
    """Arguments for two epochs of 40 images in steps of 8 (CoCoOp: 16)."""
    configs = Path(__file__).resolve().parents[2] / "configs"
    return [
        *("--root", str(data), "--seed", "1", "--trainer", method, "--output-dir", str(folder)),
        *("--dataset-config-file", str(configs / "datasets/shapes.yaml")),
        *("--config-file", str(configs / f"trainers/{method}/embedded.yaml")),
        *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base"),
        *("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1", "CACHE.VIEWS", "True"),
        *SHORT,
        *(("DATALOADER.TRAIN_X.BATCH_SIZE", "16") if method == "CoCoOp" else ()),
        *more,
    ]


def equal_runs(plain, folder: Path, points: Any) -> None:
    _, first, expected, log = plain
    assert same(checkpoint(folder), checkpoint(first))
    assert metrics(folder) == metrics(first)
    assert points == expected
    assert lines_of((folder / "log.txt").read_text()) == lines_of(log) != []


def test_figures_that_are_read_later_are_the_same(plain, data_root, tmp_path, held_back, curves):
    train.main(words(plain[0], data_root, tmp_path))
    equal_runs(plain, tmp_path, curves)


def test_steps_of_a_graph_give_the_same_run(plain, data_root, tmp_path, on_cpu, curves, capsys):
    train.main(words(plain[0], data_root, tmp_path))
    equal_runs(plain, tmp_path, curves)
    shown = capsys.readouterr().out
    assert shown.count(TAKEN) == 1 and REFUSED not in shown
    batches = len({step for name, _, step in curves if name == "train/lr"})
    assert (on_cpu.captures, on_cpu.replays) == (1, batches)


def test_a_cut_off_run_goes_on_with_a_graph(plain, data_root, tmp_path, on_cpu, monkeypatch):
    def cut_off(self) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SimpleTrainer, "before_epoch", cut_off)
        train.main(words(plain[0], data_root, tmp_path))
    train.main(words(plain[0], data_root, tmp_path))
    assert on_cpu.captures == 2
    assert same(checkpoint(tmp_path), checkpoint(plain[1]))
    assert metrics(tmp_path) == metrics(plain[1])


def test_a_gate_that_warms_up_is_captured_once_more(data_root, tmp_path, request):
    more = ("TRAINER.MOPD.GATE_WARMUP", "1", "TEST.FINAL_MODEL", "best_val")
    train.main(words("MoPD", data_root, tmp_path / "plain", *more))
    on_cpu = request.getfixturevalue("on_cpu")
    train.main(words("MoPD", data_root, tmp_path / "graph", *more))
    assert on_cpu.captures == 2
    assert same(checkpoint(tmp_path / "graph"), checkpoint(tmp_path / "plain"))
    found = metrics(tmp_path / "graph")
    assert found == metrics(tmp_path / "plain")
    loads = [sum(line["gate_load"]) for line in found if line["split"] == "train"]
    assert loads == pytest.approx([12, 3])
    assert [line["split"] for line in found] == ["train", "val"] * 2 + ["test"]


@pytest.mark.parametrize("precision", ["bf16", "amp"])
def test_half_precision_is_captured_as_well(precision, data_root, tmp_path, request):
    more = ("TRAINER.MOPD.PREC", precision)
    train.main(words("MoPD", data_root, tmp_path / "plain", *more))
    on_cpu = request.getfixturevalue("on_cpu")
    train.main(words("MoPD", data_root, tmp_path / "graph", *more))
    assert on_cpu.captures == 1
    assert same(checkpoint(tmp_path / "graph"), checkpoint(tmp_path / "plain"))
    assert metrics(tmp_path / "graph") == metrics(tmp_path / "plain")


@pytest.mark.parametrize("which", ["held_back", "on_cpu"])
def test_what_is_not_finite_is_named_with_its_batch_and_nothing_is_saved(
    which, data_root, tmp_path, request, monkeypatch, capsys
):
    request.getfixturevalue(which)
    as_they_are = PromptTrainer.image_features

    def broken(self, input):
        now = (self.epoch, self.batch_idx) == (1, 3)
        return as_they_are(self, input) * (torch.nan if now and self.prompt_learner.training else 1)

    monkeypatch.setattr(PromptTrainer, "image_features", broken)
    more = ("TEST.FINAL_MODEL", "best_val", "TRAIN.PRINT_FREQ", "100")
    with pytest.raises(SystemExit) as stop:
        train.main(words("MoPD", data_root, tmp_path, *more))
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert "Loss is infinite or NaN! (loss = nan, ce = nan, mpd = nan, mps = nan)" in message
    assert "At epoch 2/2, batch 4/5. Training stops and this epoch is not saved." in message
    assert [(line["epoch"], line["split"]) for line in metrics(tmp_path)] == [
        (1, "train"),
        (1, "val"),
    ]
    best = torch.load(tmp_path / "prompt_learner/model-best.pth.tar", weights_only=False)
    assert best["epoch"] == 1
    assert not (tmp_path / "prompt_learner/model.pth.tar-2").exists()
