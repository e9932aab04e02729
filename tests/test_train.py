"""train.py through its real `main([...])`: files, results, resume, and settings."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import train
from dassl.engine import SimpleTrainer
from runs.config import build_parser, setup_cfg
from runs.machine import peak_memory

ROOT = Path(__file__).resolve().parents[1]


def files(folder: Path) -> set[str]:
    """All files below a folder; the time stamp in TensorBoard's name is dropped."""
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {
        "tensorboard/events" if name.startswith("tensorboard/events.out") else name
        for name in names
    }


def stop_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    """Let training be cut off, as by Ctrl-C, before the epoch after `epochs`."""

    def before_epoch(self) -> None:
        if self.epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(SimpleTrainer, "before_epoch", before_epoch)


TRAINED = {
    "config.yaml",
    "log.txt",
    "metrics.jsonl",
    "tensorboard/events",
    "prompt_learner/checkpoint",
    "prompt_learner/model.pth.tar-1",
    "prompt_learner/model.pth.tar-2",
    "base/results.json",
}


@pytest.mark.parametrize("trainer", ["CoOp", "MoPD"])
def test_a_run_writes_exactly_its_files(job, tmp_path, trainer):
    train.main(job(trainer))
    assert files(tmp_path / "run") == TRAINED


def test_a_test_of_new_classes_adds_its_results_and_log(job, tmp_path):
    train.main(job("MoPD"))
    new = ("--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "2")
    results = train.main(job("MoPD", *new, "DATASET.SUBSAMPLE_CLASSES", "new"))
    added = {"new/results.json", "new/log.txt", "openworld.json"}
    assert files(tmp_path / "run") == TRAINED | added
    assert results["classes"] == "new" and results["epoch"] == 2


def test_zero_shot_writes_no_checkpoint(job, tmp_path):
    train.main(job("ZeroshotCLIP", "--eval-only"))
    assert files(tmp_path / "run") == {"config.yaml", "base/log.txt", "base/results.json"}


def test_results_say_what_was_measured_and_how(job, tmp_path):
    returned = train.main(job("MoPD", "PROTOCOL", "base2new"))
    results = json.loads((tmp_path / "run/base/results.json").read_text())
    assert results == returned
    expected = {
        "protocol": "base2new",
        "dataset": "Shapes",
        "classes": "base",
        "shots": 2,
        "seed": 1,
        "trainer": "MoPD",
        "backbone": "assets/shapes_clip.pt",
        "epoch": 2,
        "device": "cpu",
    }
    assert {key: results[key] for key in expected} == expected
    assert results["accuracy"] == 100 * results["correct"] / results["total"]
    assert 0 < results["macro_f1"] <= 100
    assert results["num_classes"] > 1 and results["total"] % results["num_classes"] == 0
    assert 0 < results["seconds"]["train"] < results["seconds"]["total"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    assert set(results["memory"]) == {"process_gib", "device_gib"}
    assert 0.1 < results["memory"]["process_gib"] <= round(peak, 3)
    assert results["memory"]["device_gib"] is None
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len(results["config_hash"]) == 12


def test_the_metrics_file_has_every_epoch_and_the_test(job, tmp_path):
    train.main(job("MoPD"))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert [(line["epoch"], line["split"]) for line in lines] == [
        (1, "train"),
        (2, "train"),
        (2, "test"),
    ]
    assert {"loss", "ce", "mpd", "mps", "acc", "lr", "seconds"} <= set(lines[0])


def test_checkpoints_are_small_and_hold_only_what_is_learned(job, tmp_path):
    train.main(job("MoPD"))
    path = tmp_path / "run/prompt_learner/model.pth.tar-2"
    checkpoint = torch.load(path, weights_only=True)
    assert set(checkpoint["state_dict"]) == {"ctx", "gate"}
    assert checkpoint["trainer"] == "MoPD" and checkpoint["epoch"] == 2
    assert path.stat().st_size < 100_000


def test_a_second_run_shows_the_results_and_changes_nothing(job, tmp_path, capsys):
    first = train.main(job("CoOp"))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    assert train.main(job("CoOp")) == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before
    shown = capsys.readouterr().out
    assert "Results exist already" in shown and f"{first['accuracy']:.2f}%" in shown


@pytest.mark.parametrize("trainer", ["CoOp", "MoPD"])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_stop_and_resume_equals_an_undisturbed_run(job, tmp_path, monkeypatch, trainer, workers):
    settings = ("OPTIM.MAX_EPOCH", "4", "DATALOADER.NUM_WORKERS", workers)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = train.main(job(trainer, *settings, output=whole))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train.main(job(trainer, *settings, output=cut))
    assert not (cut / "base/results.json").exists()
    resumed = train.main(job(trainer, *settings, output=cut))

    last = "prompt_learner/model.pth.tar-4"
    a, b = (torch.load(folder / last, weights_only=True) for folder in (whole, cut))
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name
    for x, y in zip(
        a["optimizer"]["state"].values(), b["optimizer"]["state"].values(), strict=True
    ):
        assert torch.equal(x["momentum_buffer"], y["momentum_buffer"])
    assert resumed["correct"] == expected["correct"]
    curves = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in (folder / "metrics.jsonl").open()
        ]
        for folder in (whole, cut)
    ]
    assert curves[0] == curves[1]
    assert files(whole) | {"log.txt"} >= {
        name for name in files(cut) if not name.startswith("log.txt-")
    }


def test_where_training_images_are_kept_changes_no_bit(job, tmp_path, capsys):
    crop = ("INPUT.TRANSFORMS", "('random_resized_crop', 'random_flip', 'normalize')")
    ways = {
        "decoded each time": ("DATALOADER.MEMORY_MB", "0"),
        "in memory": (),
        "on the device": ("INPUT.DEVICE_AUGMENT", "True"),
    }
    weights, said, shown = [], [], []
    for name, way in ways.items():
        train.main(job("CoOp", "TEST.NO_TEST", "True", *crop, *way, output=tmp_path / name))
        shown.append([x for x in capsys.readouterr().out.splitlines() if x.startswith("Keeping")])
        path = tmp_path / name / "prompt_learner/model.pth.tar-2"
        weights.append(torch.load(path, weights_only=True)["state_dict"]["ctx"])
        said.append(yaml.safe_load((tmp_path / name / "config.yaml").read_text()))
    device = "cpu"
    assert shown == [
        [],
        ["Keeping 40 decoded training images in memory (0.1 MiB)"],
        [f"Keeping 40 decoded training images on {device} (0.1 MiB)"],
    ]
    if device == "cpu":
        assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    assert said[0] == said[1] and "INPUT.DEVICE_AUGMENT" not in said[0]
    assert said[2] == said[0] | {"INPUT.DEVICE_AUGMENT": True}


def test_time_counts_all_sittings(job, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train.main(job("CoOp"))
    results = train.main(job("CoOp"))
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    spent = [line["seconds"] for line in lines if line["split"] == "train"]
    assert len(spent) == 2 and results["seconds"]["train"] == pytest.approx(sum(spent), abs=1e-3)
    assert results["seconds"]["total"] > sum(spent)


def test_seed_zero_is_a_seed(job):
    arguments = job("CoOp", "--seed", "0")
    assert setup_cfg(build_parser().parse_args(arguments)).SEED == 0


def test_same_seed_same_result_other_seed_other_shots(job, tmp_path):
    outputs = [tmp_path / name for name in "abc"]
    for output, seed in zip(outputs, ("1", "1", "2"), strict=True):
        train.main(job("MoPD", "--seed", seed, output=output))
    last = "prompt_learner/model.pth.tar-2"
    a, b, c = (torch.load(o / last, weights_only=True)["state_dict"] for o in outputs)
    assert torch.equal(a["ctx"], b["ctx"]) and torch.equal(a["gate"], b["gate"])
    assert not torch.equal(a["ctx"], c["ctx"])


def test_the_folder_says_its_settings_and_only_those_of_the_method(job, tmp_path):
    train.main(job("MoPD", "TRAINER.MOPD.ALPHA", "0.5"))
    settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert settings["TRAINER.MOPD.ALPHA"] == 0.5
    assert settings["OPTIM.MAX_EPOCH"] == 2 and settings["SEED"] == 1
    assert not any(key.startswith("TRAINER.COOP") for key in settings)
    assert not {"OUTPUT_DIR", "DATASET.ROOT"} & set(settings)


def test_no_train_builds_and_writes_no_results(job, tmp_path):
    arguments = job("CoOp")
    arguments.insert(0, "--no-train")
    assert train.main(arguments) is None
    assert files(tmp_path / "run") == {"log.txt"}


def test_an_unseeded_run_goes_on_with_the_images_it_began_with(job, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train.main(job("CoOp", "--seed", "-1"))
    first = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["SEED"]
    results = train.main(job("CoOp", "--seed", "-1"))
    assert results["seed"] == first >= 0
    other = train.main(job("CoOp", "--seed", "-1", output=tmp_path / "other"))
    assert other["seed"] != first


def test_a_torn_line_of_metrics_does_not_stop_a_run(job, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            train.main(job("CoOp"))
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "spl')
    assert train.main(job("CoOp"))["epoch"] == 2


def test_a_resumed_run_that_is_cut_off_continues_from_its_own_checkpoints(
    job, tmp_path, monkeypatch, capsys
):
    train.main(job("CoOp"))
    more = ("--resume", str(tmp_path / "run"), "OPTIM.MAX_EPOCH", "4")
    (tmp_path / "run/config.yaml").unlink()  # else the other number of epochs is refused
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train.main(job("CoOp", *more, output=tmp_path / "next"))
    capsys.readouterr()
    train.main(job("CoOp", *more, output=tmp_path / "next"))
    shown = capsys.readouterr().out
    assert f"Found checkpoint at {tmp_path / 'next'}" in shown and "epoch [4/4]" in shown
    assert "epoch [3/4]" not in shown


def test_notebooks_can_call_main_again_and_again(job, tmp_path, capsys):
    for name in "ab":
        train.main(job("ZeroshotCLIP", "--eval-only", output=tmp_path / name))
    logs = [(tmp_path / name / "base/log.txt").read_text() for name in "ab"]
    assert all(log.count("=> result") == 1 for log in logs), "a log got another job's lines"
    capsys.readouterr()
    print("after")
    assert capsys.readouterr().out == "after\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count the parent's")
def test_memory_is_that_of_the_process_not_of_the_one_that_started_it():
    code = "from runs.machine import process_peak; print(process_peak() / 2**30)"
    parent = bytearray(2**29)
    parent[::4096] = bytes(len(parent[::4096]))  # every page is in use
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (
        0.01 < float(done.stdout) < 0.5 < resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )


def test_memory_of_the_gpu_is_the_most_that_torch_had_allocated(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.cuda, "max_memory_allocated", lambda device: asked.append(device) or 3 * 2**29
    )
    gpu = torch.device("cuda", 1)
    assert peak_memory(gpu)["device_gib"] == 1.5
    assert asked == [gpu]
