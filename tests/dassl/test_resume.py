"""Training that was cut off and resumed equals training in one go, bit for bit."""

import json
import os
import shutil

import pytest
import torch

from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.utils import CheckpointError, UserError, set_random_seed

LINEAR = TRAINER_REGISTRY.get("LinearTrainer")


class CutOff(LINEAR):  # type: ignore[misc, valid-type]
    """Is killed in the middle of epoch 3."""

    def forward_backward(self, batch):
        if (self.epoch, self.batch_idx) == (2, 1):
            raise KeyboardInterrupt
        return super().forward_backward(batch)


class Scaled(LINEAR):  # type: ignore[misc, valid-type]
    """Has a gradient scaler whose scale doubles with every step."""

    def build_model(self):
        super().build_model()
        self.scaler = torch.amp.GradScaler(  # type: ignore[attr-defined]
            "cpu", init_scale=2.0, growth_interval=1
        )

    def model_backward_and_update(self, loss, names=None):
        self.optim.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()


class ScaledCutOff(CutOff, Scaled):
    """Both."""


def same(a, b) -> bool:
    """Return whether two checkpoints are equal bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return type(a) is type(b) and a == b


def load(folder, name="model.pth.tar-4"):
    return torch.load(os.path.join(folder, "linear", name), weights_only=True)


def records(folder):
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        return [{k: v for k, v in json.loads(x).items() if k != "seconds"} for x in file]


def run(kind, cfg, seed=1):
    set_random_seed(seed)
    trainer = kind(cfg)
    trainer.train()
    return trainer


WARM_UP = ("OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
LONG_WARM_UP = ("OPTIM.WARMUP_EPOCH", 3, "OPTIM.WARMUP_TYPE", "linear")
STEPS = ("OPTIM.LR_SCHEDULER", "multi_step", "OPTIM.STEPSIZE", (1, 3), "OPTIM.NAME", "adamw")


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (WARM_UP, (LINEAR, CutOff)),
        (LONG_WARM_UP, (LINEAR, CutOff)),
        (STEPS, (LINEAR, CutOff)),
        ((*WARM_UP, "DATALOADER.NUM_WORKERS", 2), (LINEAR, CutOff)),
        ((*WARM_UP, "TEST.FINAL_MODEL", "best_val"), (LINEAR, CutOff)),
        ((*WARM_UP, "TRAIN.CHECKPOINT_FREQ", 2), (LINEAR, CutOff)),
        (WARM_UP, (Scaled, ScaledCutOff)),
    ],
    ids=["warm-up", "cut in warm-up", "adamw", "workers", "best_val", "every 2", "scaler"],
)
def test_two_epochs_and_two_resumed_equal_four(make_cfg, tmp_path, options, kinds):
    whole_kind, cut_kind = kinds
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    one_go = run(whole_kind, make_cfg(*options, "OUTPUT_DIR", whole))
    cfg = make_cfg(*options, "OUTPUT_DIR", cut)
    with pytest.raises(KeyboardInterrupt):
        run(cut_kind, cfg)
    assert not os.path.exists(f"{cut}/linear/model.pth.tar-3")
    resumed = run(whole_kind, cfg, seed=99)

    assert resumed.start_epoch == 2
    assert same(load(whole), load(cut))
    assert records(whole) == records(cut)
    assert resumed.best_result == one_go.best_result
    assert sorted(os.listdir(f"{whole}/linear")) == sorted(os.listdir(f"{cut}/linear"))
    if "best_val" in options:
        assert same(load(whole, "model-best.pth.tar"), load(cut, "model-best.pth.tar"))
    if whole_kind is Scaled:
        assert load(cut)["scaler"]["scale"] == 2.0 * 2**12  # 4 epochs of 3 steps


def test_checkpoints_hold_momentum_rates_and_generators(make_cfg):
    cfg = make_cfg(*WARM_UP)
    run(LINEAR, cfg)
    saved = load(cfg.OUTPUT_DIR)
    assert [entry["momentum_buffer"].shape for entry in saved["optimizer"]["state"].values()] == [
        (3, 192),
        (3,),
    ]
    assert saved["scheduler"]["last_epoch"] == 1
    assert saved["scheduler"]["successor"]["last_epoch"] == 3
    assert set(saved["rng"]) == {"python", "numpy", "torch", "cuda"}
    assert saved["trainer"] == "LinearTrainer"


def test_a_better_epoch_before_the_cut_is_not_replaced_by_a_worse_one(make_cfg):
    class Scripted(CutOff):
        def test(self, split=None):
            return (50.0, 80.0)[self.epoch] if split == "val" else super().test(split)

    class Worse(LINEAR):  # type: ignore[misc, valid-type]
        def test(self, split=None):
            return 70.0 if split == "val" else super().test(split)

    cfg = make_cfg("TEST.FINAL_MODEL", "best_val")
    with pytest.raises(KeyboardInterrupt):
        run(Scripted, cfg)
    resumed = run(Worse, cfg)
    best = load(cfg.OUTPUT_DIR, "model-best.pth.tar")
    assert (best["epoch"], best["val_result"], resumed.best_result) == (2, 80.0, 80.0)


def test_the_best_model_comes_along_into_another_folder(make_cfg, tmp_path):
    class Falling(CutOff):
        def test(self, split=None):
            return 90.0 - self.epoch if split == "val" else super().test(split)

    class Worse(LINEAR):  # type: ignore[misc, valid-type]
        def test(self, split=None):
            return 70.0 if split == "val" else super().test(split)

    first, second = make_cfg("TEST.FINAL_MODEL", "best_val"), str(tmp_path / "second")
    with pytest.raises(KeyboardInterrupt):
        run(Falling, first)
    options = ("TEST.FINAL_MODEL", "best_val", "OUTPUT_DIR", second, "RESUME", first.OUTPUT_DIR)
    run(Worse, make_cfg(*options))
    assert load(second, "model-best.pth.tar")["epoch"] == 1
    os.remove(f"{first.OUTPUT_DIR}/linear/model-best.pth.tar")
    shutil.rmtree(second)
    run(Worse, make_cfg(*options))  # gone: the best of the epochs that are left
    assert load(second, "model-best.pth.tar")["epoch"] == 3


def test_metrics_after_the_resumed_epoch_are_dropped_even_if_the_last_line_is_torn(make_cfg):
    cfg = make_cfg("TRAIN.CHECKPOINT_FREQ", 2)
    with pytest.raises(KeyboardInterrupt):
        run(CutOff, cfg)
    with open(f"{cfg.OUTPUT_DIR}/metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"epoch": 3, "split": "train", "loss": 9}\n{"epoch": 3, "spl')
    run(LINEAR, cfg)
    found = [(r["epoch"], r["split"]) for r in records(cfg.OUTPUT_DIR)]
    assert found == [(1, "train"), (2, "train"), (3, "train"), (4, "train"), (4, "test")]
    assert records(cfg.OUTPUT_DIR)[2]["loss"] < 9


def test_a_finished_run_is_only_tested_again(make_cfg, capsys):
    cfg = make_cfg()
    first = run(LINEAR, cfg)
    before = load(cfg.OUTPUT_DIR), records(cfg.OUTPUT_DIR)
    capsys.readouterr()
    again = run(LINEAR, cfg, seed=7)
    out = capsys.readouterr().out
    assert f"Found checkpoint at {cfg.OUTPUT_DIR} (will resume training)\n" in out
    assert "epoch [" not in out and "* total: 9" in out
    assert same(before[0], load(cfg.OUTPUT_DIR))
    assert before[1] == records(cfg.OUTPUT_DIR)
    assert (again.epoch, again.start_epoch) == (first.epoch, 4)


def test_a_checkpoint_beyond_the_last_epoch_is_refused(make_cfg):
    run(LINEAR, make_cfg())
    with pytest.raises(UserError, match=r"at epoch 4, beyond OPTIM\.MAX_EPOCH 3"):
        run(LINEAR, make_cfg("OPTIM.MAX_EPOCH", 3))


def test_a_folder_without_pointer_means_from_scratch(make_cfg, capsys):
    cfg = make_cfg()
    run(LINEAR, cfg)
    os.remove(f"{cfg.OUTPUT_DIR}/linear/checkpoint")
    capsys.readouterr()
    assert run(LINEAR, cfg).start_epoch == 0
    assert "No checkpoint found, train from scratch" in capsys.readouterr().out


def test_resume_folder_is_used_and_must_hold_a_checkpoint(make_cfg, tmp_path):
    source, target = make_cfg(), str(tmp_path / "second")
    with pytest.raises(KeyboardInterrupt):
        run(CutOff, source)
    cfg = make_cfg("RESUME", source.OUTPUT_DIR, "OUTPUT_DIR", target)
    assert run(LINEAR, cfg).start_epoch == 2
    assert sorted(os.listdir(f"{target}/linear")) == [
        *("checkpoint", "model.pth.tar-3", "model.pth.tar-4"),
    ]
    empty = str(tmp_path / "empty")
    with pytest.raises(
        UserError, match=f'RESUME is "{empty}", but there is no checkpoint of linear'
    ):
        run(LINEAR, make_cfg("RESUME", empty, "OUTPUT_DIR", str(tmp_path / "third")))
    assert not os.path.exists(empty)


def test_a_checkpoint_of_another_trainer_is_refused(make_cfg):
    class OtherTrainer(LINEAR):  # type: ignore[misc, valid-type]
        pass

    cfg = make_cfg()
    run(LINEAR, cfg)
    TRAINER_REGISTRY.register(OtherTrainer, force=True)
    trainer = build_trainer(make_cfg("TRAINER.NAME", "OtherTrainer"))
    with pytest.raises(
        CheckpointError, match="written by the trainer LinearTrainer, not by OtherTrainer"
    ):
        trainer.train()


def test_a_checkpoint_of_another_shape_is_refused_and_nothing_is_changed(make_cfg):
    cfg = make_cfg()
    run(LINEAR, cfg)
    trainer = LINEAR(make_cfg("INPUT.SIZE", (6, 6)))
    before = trainer.model[2].weight.detach().clone()
    state = torch.get_rng_state()
    with pytest.raises(
        CheckpointError, match=r"2\.weight has shape \(3, 192\), expected \(3, 108\)"
    ):
        trainer.train()
    assert torch.equal(trainer.model[2].weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_damaged_checkpoint_stops_and_the_advice_works(make_cfg):
    cfg = make_cfg()
    with pytest.raises(KeyboardInterrupt):
        run(CutOff, cfg)
    path = f"{cfg.OUTPUT_DIR}/linear/model.pth.tar-2"
    whole = os.path.getsize(path)
    os.truncate(path, whole // 2)
    with pytest.raises(CheckpointError, match=r"truncated or damaged\. Move it away.*available: 1"):
        run(LINEAR, cfg)
    os.remove(path)
    assert run(LINEAR, cfg).start_epoch == 1
    shutil.rmtree(f"{cfg.OUTPUT_DIR}/linear")
    assert run(LINEAR, cfg).start_epoch == 0
