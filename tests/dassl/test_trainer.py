"""Whole runs: what is built, printed, written, tested and refused."""

import io
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import dassl
from dassl.engine import (
    TRAINER_REGISTRY,
    SimpleTrainer,
    build_trainer,
)
from dassl.utils import UserError, setup_logger

LINEAR = TRAINER_REGISTRY.get("LinearTrainer")


def files(folder) -> list[str]:
    """Return the relative paths of all files."""
    found = []
    for base, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(base, name), folder) for name in names]
    return sorted(re.sub(r"events\..*", "events", name) for name in found)


def metrics(folder) -> list[dict]:
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


# ---- construction


def test_order_of_construction(make_cfg):
    seen: dict[str, list[str]] = {}

    class Watch(LINEAR):  # type: ignore[misc, valid-type]
        def check_cfg(self, cfg):
            seen["check_cfg"] = list(vars(self))

        def build_data_loader(self):
            seen["data"] = list(vars(self))
            super().build_data_loader()

        def build_model(self):
            seen["model"] = list(vars(self))
            super().build_model()

    trainer = Watch(make_cfg())
    assert "device" not in seen["check_cfg"] and "cfg" not in seen["check_cfg"]
    assert {"cfg", "device", "epoch", "start_epoch", "max_epoch", "output_dir"} <= set(seen["data"])
    assert {"dm", "train_loader_x", "val_loader", "num_classes", "lab2cname"} <= set(seen["model"])
    assert "evaluator" not in seen["model"]
    assert trainer.best_result == -math.inf
    assert (trainer.epoch, trainer.max_epoch, trainer.num_classes) == (0, 4, 3)


def test_a_trainer_without_build_model_is_told_what_to_define(make_cfg):
    class Empty(SimpleTrainer):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must define build_model\(\)"):
        Empty(make_cfg())


def test_trainers_are_built_by_name(make_cfg, capsys):
    assert type(build_trainer(make_cfg())) is LINEAR
    assert capsys.readouterr().out.startswith("Loading trainer: LinearTrainer\n")
    with pytest.raises(UserError, match=r"do you mean \[LinearTrainer\]\?"):
        build_trainer(make_cfg("TRAINER.NAME", "LinerTrainer"))


# ---- a whole run

LINE = re.compile(
    r"epoch \[(\d)/4\] batch \[(\d)/3\] time \d+\.\d{3} \(\d+\.\d{3}\) "
    r"data \d+\.\d{3} \(\d+\.\d{3}\) loss \d+\.\d{4} \((\d+\.\d{4})\) "
    r"acc \d+\.\d{4} \(\d+\.\d{4}\) lr (\d\.\d{4}e-\d\d) eta 0:00:\d\d"
)


def test_a_run_prints_its_lines_and_writes_its_files(make_cfg, capsys):
    cfg = make_cfg("OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
    trainer = build_trainer(cfg)
    capsys.readouterr()
    trainer.train()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "No checkpoint found, train from scratch",
        f"Initialize tensorboard (log_dir={cfg.OUTPUT_DIR}/tensorboard)",
    ]
    found = [LINE.fullmatch(line) for line in lines if line.startswith("epoch [")]
    assert [m and (m[1], m[2]) for m in found] == [(e, b) for e in "1234" for b in "123"]
    # The trainer steps the schedule on the last batch: that line shows the next epoch's rate.
    assert [m[4] for m in found[:4] if m] == ["1.0000e-05"] * 2 + ["2.0000e-03"] * 2
    assert [line for line in lines if line.startswith("Checkpoint saved")] == [
        f"Checkpoint saved to {cfg.OUTPUT_DIR}/linear/model.pth.tar-{e}" for e in (1, 2, 3, 4)
    ]
    end = lines.index("Finish training")
    assert lines[end + 1 : end + 5] == [
        "Deploy the last-epoch model",
        "Evaluate on the *test* set",
        "=> result",
        "* total: 9",
    ]
    assert re.fullmatch(r"Elapsed: 0:00:\d\d", lines[-1])
    assert files(cfg.OUTPUT_DIR) == [
        "linear/checkpoint",
        *(f"linear/model.pth.tar-{e}" for e in (1, 2, 3, 4)),
        "metrics.jsonl",
        "tensorboard/events",
    ]


def test_metrics_hold_the_mean_of_each_loss_term_and_the_rate_used(make_cfg, capsys):
    cfg = make_cfg("OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
    build_trainer(cfg).train()
    printed = LINE.findall(capsys.readouterr().out)
    records = metrics(cfg.OUTPUT_DIR)
    assert [(r["epoch"], r["split"]) for r in records] == [
        *((e, "train") for e in (1, 2, 3, 4)),
        (4, "test"),
    ]
    assert set(records[0]) == {"epoch", "split", "loss", "acc", "lr", "seconds"}
    assert set(records[4]) == {"epoch", "split", "accuracy", "error_rate", "macro_f1"}
    means = [mean for _, batch, mean, _ in printed if batch == "3"]
    assert [f"{r['loss']:.4f}" for r in records[:4]] == means
    cosine = [0.5 * 0.002 * (1 + math.cos(math.pi * e / 4)) for e in (0, 1, 2)]
    assert [r["lr"] for r in records[:4]] == pytest.approx([1e-5, *cosine])
    assert records[4]["accuracy"] + records[4]["error_rate"] == 100


def test_a_trainer_adds_plain_values_of_its_own_to_the_metrics_of_an_epoch(make_cfg):
    class Adds(LINEAR):  # type: ignore[misc, valid-type]
        def epoch_metrics(self):
            return {"share": [0.25, 0.75], "of": self.epoch, "seconds": -1.0}

    cfg = make_cfg()
    Adds(cfg).train()
    records = metrics(cfg.OUTPUT_DIR)
    assert [(r["share"], r["of"]) for r in records[:4]] == [([0.25, 0.75], e) for e in range(4)]
    assert all(r["seconds"] >= 0 for r in records[:4]), "what the engine says stays"
    assert "share" not in records[4]


@pytest.mark.parametrize(("freq", "saved"), [(0, [4]), (1, [1, 2, 3, 4]), (3, [3, 4])])
def test_checkpoints_are_saved_at_the_frequency_and_at_the_end(make_cfg, freq, saved):
    cfg = make_cfg("TRAIN.CHECKPOINT_FREQ", freq, "TEST.NO_TEST", True)
    build_trainer(cfg).train()
    assert files(cfg.OUTPUT_DIR)[:-2] == [
        "linear/checkpoint",
        *(f"linear/model.pth.tar-{e}" for e in saved),
    ]
    assert [r["split"] for r in metrics(cfg.OUTPUT_DIR)] == ["train"] * 4


@pytest.mark.parametrize(("freq", "batches"), [(2, "222"), (4, "123" * 3), (3, "333")])
def test_print_frequency(make_cfg, capsys, freq, batches):
    build_trainer(make_cfg("TRAIN.PRINT_FREQ", freq, "OPTIM.MAX_EPOCH", 3)).train()
    found = re.findall(r"epoch \[\d/3\] batch \[(\d)/3\]", capsys.readouterr().out)
    assert "".join(found) == batches


def test_scalars_reach_tensorboard(make_cfg):
    points = []

    class Watch(LINEAR):  # type: ignore[misc, valid-type]
        def write_scalar(self, tag, scalar_value, global_step=None):
            points.append((tag, global_step))

    cfg = make_cfg("OPTIM.MAX_EPOCH", 2)
    Watch(cfg).train()
    train = [(f"train/{name}", step) for step in range(6) for name in ("loss", "acc", "lr")]
    assert points == train + [(f"test/{m}", 1) for m in ("accuracy", "error_rate", "macro_f1")]


# ---- test


def test_a_split_is_tested_or_refused_and_never_replaced(make_cfg, capsys):
    trainer = build_trainer(make_cfg())
    capsys.readouterr()
    for split, name, total in (("val", "val", 6), (None, "test", 9)):
        accuracy = trainer.test(split)
        out = capsys.readouterr().out
        assert out.startswith(f"Evaluate on the *{name}* set\n=> result\n* total: {total}\n")
        assert f"* accuracy: {accuracy:.1f}%" in out
    assert not trainer.model.training
    for split in ("train", "Val", "other"):
        with pytest.raises(UserError, match=f"TEST.SPLIT is {split}, expected one of: val, test"):
            trainer.test(split)
    trainer.val_loader = None
    with pytest.raises(UserError, match="TEST.SPLIT is val, but TinyPets has no such images"):
        trainer.test("val")
    assert capsys.readouterr().out == ""
    assert not os.path.exists(trainer.output_dir)


def test_an_epoch_without_a_batch_is_no_training(make_cfg, tmp_path):
    trainer = build_trainer(make_cfg())
    trainer.train_loader_x = []  # as where the sampler's last batch is the first, and not full
    with pytest.raises(UserError, match="No batch .* RandomSampler .*BATCH_SIZE 6. Lower it"):
        trainer.train()
    assert not list(tmp_path.rglob("model.pth.tar*"))


def test_a_split_that_is_not_there_is_refused_before_the_training(make_cfg, tmp_path):
    trainer = build_trainer(make_cfg("TEST.SPLIT", "Val"))
    with pytest.raises(UserError, match="TEST.SPLIT is Val, expected one of: val, test"):
        trainer.train()
    assert not list(tmp_path.rglob("model.pth.tar*"))


def test_an_empty_split_is_named(make_cfg):
    trainer = build_trainer(make_cfg())
    trainer.test_loader = []
    with pytest.raises(UserError, match="The test split of TinyPets is empty"):
        trainer.test()


# ---- zero-shot and test-only


@pytest.mark.parametrize("dataset", ["TinyPets", "TinyTestOnly"])
def test_a_trainer_with_no_model_is_only_tested(make_cfg, capsys, dataset):
    cfg = make_cfg("TRAINER.NAME", "NoTrainer", "DATASET.NAME", dataset)
    trainer = build_trainer(cfg)
    capsys.readouterr()
    trainer.train()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:4] == ["Finish training", "Evaluate on the *test* set", "=> result"]
    assert "* accuracy: 33.3%" in lines
    assert files(cfg.OUTPUT_DIR) == ["metrics.jsonl", "tensorboard/events"]
    assert metrics(cfg.OUTPUT_DIR)[0]["epoch"] == 0


def test_training_on_a_test_only_dataset_is_refused(make_cfg):
    trainer = build_trainer(make_cfg("DATASET.NAME", "TinyTestOnly"))
    assert 0 <= trainer.test() <= 100
    with pytest.raises(UserError, match="TinyTestOnly is test-only"):
        trainer.train()
    assert not os.path.exists(trainer.output_dir)


# ---- best on validation


class Scripted(LINEAR):  # type: ignore[misc, valid-type]
    """Validation accuracies as written down."""

    accuracies = (50.0, 80.0, 80.0, 70.0)

    def test(self, split=None):
        return self.accuracies[self.epoch] if split == "val" else super().test(split)


def test_the_first_best_epoch_is_kept_and_deployed(make_cfg, capsys):
    cfg = make_cfg("TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", 0)
    trainer = Scripted(cfg)
    trainer.train()
    folder = f"{cfg.OUTPUT_DIR}/linear"
    assert sorted(os.listdir(folder)) == ["checkpoint", "model-best.pth.tar", "model.pth.tar-4"]
    best = torch.load(f"{folder}/model-best.pth.tar", weights_only=True)
    assert (best["epoch"], best["val_result"], best["best_result"]) == (2, 80.0, 80.0)
    with open(f"{folder}/checkpoint", encoding="utf-8") as file:
        assert file.read() == "model.pth.tar-4\n"
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, best["state_dict"][name])
    out = capsys.readouterr().out
    assert "Finish training\nDeploy the model with the best val performance\nLoad " in out
    assert "(epoch=2, val_result=80.0)" in out


def test_without_test_no_best_model_is_chosen(make_cfg):
    cfg = make_cfg("TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", True)
    build_trainer(cfg).train()
    assert "linear/model-best.pth.tar" not in files(cfg.OUTPUT_DIR)


def test_the_best_epoch_is_never_chosen_on_test_images(make_cfg):
    trainer = build_trainer(make_cfg("TEST.FINAL_MODEL", "best_val"))
    trainer.val_loader = None
    with pytest.raises(UserError, match="best_val needs validation images, and TinyPets has none"):
        trainer.train()
    with pytest.raises(UserError, match="last_step or best_val, but got best"):
        build_trainer(make_cfg("TEST.FINAL_MODEL", "best")).train()


# ---- numbers that are not finite


class Diverging(LINEAR):  # type: ignore[misc, valid-type]
    """The named term becomes NaN at epoch 2, batch 3."""

    how = "loss"

    def forward_backward(self, batch):
        now = (self.epoch, self.batch_idx) == (1, 2)
        if now and self.how == "loss":
            self.model_backward_and_update(torch.tensor(math.nan, requires_grad=True))
        if now and self.how == "trainer":
            raise FloatingPointError("mpd is NaN.")
        terms = super().forward_backward(batch)
        return terms | {"ce": math.inf, "mpd": torch.tensor(math.nan)} if now else terms


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("loss", "Loss is infinite or NaN!"),
        ("term", "Loss is infinite or NaN! (ce = inf, mpd = nan)"),
        ("trainer", "mpd is NaN."),
    ],
)
def test_a_loss_that_is_not_finite_stops_with_the_place_and_saves_nothing(make_cfg, how, text):
    cfg = make_cfg()
    trainer = Diverging(cfg)
    trainer.how = how
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    assert str(error.value).startswith(f"{text} At epoch 2/4, batch 3/3. Training stops")
    assert "linear/model.pth.tar-1" in files(cfg.OUTPUT_DIR)
    assert "linear/model.pth.tar-2" not in files(cfg.OUTPUT_DIR)
    assert [r["epoch"] for r in metrics(cfg.OUTPUT_DIR)] == [1]


def test_a_step_may_return_nothing(make_cfg):
    class Silent(LINEAR):  # type: ignore[misc, valid-type]
        def forward_backward(self, batch):
            super().forward_backward(batch)

    cfg = make_cfg("OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", True)
    Silent(cfg).train()
    assert set(metrics(cfg.OUTPUT_DIR)[0]) == {"epoch", "split", "lr", "seconds"}


# ---- terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_one_bar_and_plain_lines_go_to_the_log(
    make_cfg, monkeypatch, capsys
):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    cfg = make_cfg("OPTIM.MAX_EPOCH", 2)
    trainer = build_trainer(cfg)
    with setup_logger(cfg.OUTPUT_DIR):
        trainer.train()
    with open(f"{cfg.OUTPUT_DIR}/log.txt", encoding="utf-8") as file:
        log = file.read()
    assert len(re.findall(r"^epoch \[\d/2\] batch \[\d/3\] .* eta", log, re.MULTILINE)) == 6
    assert "\r" not in log
    out = capsys.readouterr().out
    assert "epoch [" not in out
    assert f"Checkpoint saved to {cfg.OUTPUT_DIR}/linear/model.pth.tar-2\n" in out
    shown = terminal.getvalue()
    assert "train: 100%" in shown
    # The rate in use, not that of the next epoch: half of 0.002 in the last of two epochs.
    assert re.search(r"6/6 \[.*loss=\d\.\d{3}, acc=\d+\.\d{3}, lr=1\.0e-03\]", shown)
    assert "test:" in shown


def test_without_a_terminal_nothing_is_drawn(make_cfg, capsys):
    build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1)).train()
    assert capsys.readouterr().err == ""


# ---- import


def test_importing_the_engine_loads_no_heavy_or_optional_package():
    code = (
        "import sys, logging, dassl.engine, dassl.config; "
        "heavy = {'sklearn', 'tensorboard', 'gdown', 'wilds', 'clip'}; "
        "print(sorted(heavy & set(sys.modules)), logging.root.manager.disable)"
    )
    root = Path(dassl.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=root,
    )
    assert done.stdout == "[] 0\n"


def test_parse_batches_move_to_the_device(make_cfg):
    trainer = build_trainer(make_cfg())
    batch = {k: torch.zeros(2, device="cpu") for k in ("img", "label", "domain")}
    trainer.device = torch.device("meta")
    assert [x.device.type for x in trainer.parse_batch_train(batch)] == ["meta"] * 3
    assert [x.device.type for x in trainer.parse_batch_test(batch)] == ["meta"] * 2


def test_one_gpu_per_job_no_parallel_wrapper(make_cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert type(build_trainer(make_cfg())._models["linear"]) is nn.Sequential
