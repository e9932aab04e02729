"""Figures of steps that are read later: the same values, fewer transfers, errors in their place."""

import json
import math
import re

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.engine.step_reports import StepReports
from dassl.utils import set_random_seed

LINEAR = TRAINER_REGISTRY.get("LinearTrainer")


class OnDevice(LINEAR):  # type: ignore[misc, valid-type]
    """Returns tensors, of every kind, and one number; NaN where it is told."""

    holds_back = True
    bad: tuple[int, int] | None = None
    raises: tuple[int, int] | None = None
    error: Exception = FloatingPointError("overflow")

    def forward_backward(self, batch):
        now = (self.epoch, self.batch_idx)
        if now == self.raises:
            raise self.error
        terms = super().forward_backward(batch)
        loss = torch.tensor(math.nan if now == self.bad else terms["loss"], requires_grad=True)
        return {
            "loss": loss,
            "acc": torch.tensor([terms["acc"]], dtype=torch.float64),
            "count": torch.tensor(2**24 + 1 + self.batch_idx),
            "zero": torch.tensor(-0.0),
            "plain": 0.1,
        }


class AtOnce(OnDevice):
    holds_back = False


def train(kind, cfg, capsys):
    """The curves, the printed lines without times, and the metrics of a run."""
    points = []

    class Watch(kind):
        def write_scalar(self, *point):
            points.append(point)

    set_random_seed(1)
    Watch(cfg).train()
    with open(f"{cfg.OUTPUT_DIR}/metrics.jsonl", encoding="utf-8") as file:
        records = [json.loads(line) | {"seconds": 0} for line in file]
    line = r"^(epoch \[.*?\]) time .*?\) data .*?\) (.*) eta"
    return points, re.findall(line, capsys.readouterr().out, re.MULTILINE), records


@pytest.mark.parametrize("freq", [1, 2, 3, 100])
def test_all_that_is_told_is_the_same(make_cfg, tmp_path, capsys, freq):
    words = ("TRAIN.PRINT_FREQ", freq, "OUTPUT_DIR")
    later = train(OnDevice, make_cfg(*words, str(tmp_path / "later")), capsys)
    at_once = train(AtOnce, make_cfg(*words, str(tmp_path / "now")), capsys)
    assert later == at_once
    points, shown, records = later
    assert len(shown) == {1: 12, 2: 4, 3: 4, 100: 12}[freq]
    assert records[0]["count"] == 2**24 + 2 and records[0]["plain"] == pytest.approx(0.1)
    assert math.copysign(1, records[0]["zero"]) == 1
    assert len([point for point in points if point[0] == "train/loss"]) == 12


@pytest.mark.parametrize(("freq", "reads"), [(1, [1, 1, 1, 0]), (2, [2, 1]), (3, [3, 0]), (9, [3])])
def test_the_device_is_read_every_print_freq_steps(make_cfg, monkeypatch, freq, reads):
    found, read = [], StepReports.read

    def counted(self):
        steps = read(self)
        found.append(len(steps))
        return steps

    monkeypatch.setattr(StepReports, "read", counted)
    OnDevice(make_cfg("TRAIN.PRINT_FREQ", freq, "OPTIM.MAX_EPOCH", 1)).train()
    assert found == reads


def test_steps_are_read_with_one_transfer(make_cfg, monkeypatch):
    transfers = []
    tolist = torch.Tensor.tolist

    def counted(self):
        transfers.append(len(self))
        return tolist(self)

    trainer = OnDevice(make_cfg("OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True))
    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    trainer.train()
    assert transfers.count(3 * 4) == 1  # three steps of four tensors


@pytest.mark.parametrize("bad", [(1, 0), (1, 1), (1, 2)])
def test_the_first_batch_that_is_not_finite_is_named(make_cfg, bad, tmp_path, capsys):
    trainer = OnDevice(make_cfg("TEST.FINAL_MODEL", "best_val", "TRAIN.PRINT_FREQ", 100))
    trainer.bad = bad
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    where = f"At epoch 2/4, batch {bad[1] + 1}/3."
    assert str(error.value).startswith(f"Loss is infinite or NaN! (loss = nan) {where}")
    assert sorted(path.name for path in tmp_path.rglob("*.tar*")) == [
        "model-best.pth.tar",
        "model.pth.tar-1",
    ]
    lines = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 1]  # train and val
    assert "epoch [2/4]" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [
        FloatingPointError("gradients overflow"),
        RuntimeError("device-side assert"),
        OverflowError("large"),
    ],
)
def test_an_error_that_follows_from_a_nan_names_the_nan(make_cfg, error):
    trainer = OnDevice(make_cfg("TRAIN.PRINT_FREQ", 100))
    trainer.bad, trainer.raises, trainer.error = (0, 1), (0, 2), error
    with pytest.raises(FloatingPointError, match=r"\(loss = nan\) At epoch 1/4, batch 2/3\."):
        trainer.train()


def test_an_error_without_a_nan_stays_what_it_is(make_cfg):
    trainer = OnDevice(make_cfg("TRAIN.PRINT_FREQ", 100))
    trainer.raises, trainer.error = (0, 2), RuntimeError("device-side assert")
    with pytest.raises(RuntimeError, match="^device-side assert$"):
        trainer.train()


def test_a_trainer_that_returns_numbers_is_told_of_at_once(make_cfg, capsys):
    class Numbers(LINEAR):  # type: ignore[misc, valid-type]
        holds_back = True

        def forward_backward(self, batch):
            shown = capsys.readouterr().out
            assert (f"batch [{self.batch_idx}/3]" in shown) == (self.batch_idx > 0)
            return super().forward_backward(batch)

    Numbers(make_cfg("TRAIN.PRINT_FREQ", 100, "OPTIM.MAX_EPOCH", 1)).train()


def test_on_a_cpu_every_step_is_read(make_cfg):
    assert not build_trainer(make_cfg()).holds_back
