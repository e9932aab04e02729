"""Trackers get settings, curves and results of runs, and never end one."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import random
import sys
import threading
import types
from pathlib import Path

import pytest

import train
from runs.process_state import ProcessState
from runs.trackers import FILE

needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="wandb is not installed"
)
needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed"
)


class FakeRun:
    """What is used of a run of wandb; it notes its calls."""

    offline, url = False, "https://wandb.example/run"

    def __init__(self, calls: list, fails: set[str]):
        self.calls, self.fails = calls, fails
        self.summary = self

    def _note(self, name: str, *args, **kwargs) -> None:
        random.random()  # as what a package imports on first use
        self.calls.append((name, *args, *([kwargs] if kwargs else [])))
        if name in self.fails:
            raise RuntimeError(f"{name} has no network\nand more to say")

    def log(self, values, step):
        self._note("log", step, values)

    def update(self, values):
        self._note("update", values)

    def finish(self, exit_code):
        self._note("finish", exit_code)


@pytest.fixture
def fake(monkeypatch):
    """A module `wandb` that notes its calls; each whose name is in `fake.fails` raises."""
    module = types.ModuleType("wandb")
    module.calls, module.fails, module.run = [], set(), None
    module.Settings = lambda **known: known

    def init(**known):
        FakeRun(module.calls, module.fails)._note("init", known)
        return FakeRun(module.calls, module.fails)

    module.init = init
    module.teardown = lambda: module.calls.append(("teardown",))
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_INIT_TIMEOUT", raising=False)
    monkeypatch.delenv("WANDB_FINISH_TIMEOUT", raising=False)
    return module


def names(calls) -> list[str]:
    return [call[0] for call in calls]


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_record_and_result_reaches_the_tracker(fake, job, tmp_path, capsys):
    results = train.main(job("CoOp", "LOG.WANDB", "True", "CONFIG_LABEL", "embedded"))
    assert "wandb: mopd (https://wandb.example/run)" in capsys.readouterr().out
    assert names(fake.calls) == ["init", "log", "log", "log", "update", "finish", "teardown"]
    started = fake.calls[0][1]
    assert (started["project"], started["resume"]) == ("mopd", "allow")
    assert started["name"] == "run Shapes CoOp embedded 2 shots seed 1"
    assert started["config"]["OPTIM.MAX_EPOCH"] == 2
    assert not any(key.startswith("LOG.") for key in started["config"])
    ids = json.loads((tmp_path / "run" / FILE).read_text())
    assert ids == {"wandb": started["id"]}
    curves = [call[1:] for call in fake.calls[1:4]]
    assert curves == [
        (
            record["epoch"],
            {
                f"{record['split']}/{key}": value
                for key, value in record.items()
                if key not in ("epoch", "split")
            },
        )
        for record in records(tmp_path / "run")
    ]
    figures = fake.calls[4][1]
    assert figures["base/accuracy"] == results["accuracy"]
    assert figures["base/seconds_train"] == results["seconds"]["train"]
    assert not {"base/seed", "base/shots", "base/epoch"} & figures.keys()
    assert fake.calls[5] == ("finish", 0)


def test_a_run_that_goes_on_and_its_other_tests_continue_the_tracked_run(fake, job, tmp_path):
    train.main(job("CoOp", "LOG.WANDB", "mine", "OPTIM.MAX_EPOCH", "1"))
    first = fake.calls[0][1]
    (tmp_path / "run/base/results.json").unlink()  # as if it had been cut off before its end
    fake.calls.clear()
    train.main(job("CoOp", "LOG.WANDB", "mine", "OPTIM.MAX_EPOCH", "1"))
    assert fake.calls[0][1]["id"] == first["id"] and fake.calls[0][1]["project"] == "mine"
    assert [call[1] for call in fake.calls if call[0] == "log"] == [1]  # the test, no epoch
    fake.calls.clear()
    new = ("DATASET.SUBSAMPLE_CLASSES", "new", "OPTIM.MAX_EPOCH", "1", "LOG.WANDB", "mine")
    tested = ("--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "1")
    train.main(job("CoOp", *tested, *new))
    assert names(fake.calls) == ["init", "update", "finish", "teardown"]
    assert fake.calls[0][1]["id"] == first["id"] and "new/accuracy" in fake.calls[1][1]
    fake.calls.clear()
    train.main(job("CoOp", *tested, *new, output=tmp_path / "run" / "elsewhere"))
    assert fake.calls[0][1]["id"] == first["id"] and "Shapes/accuracy" in fake.calls[1][1]
    # which keeps its name, its settings (of the training) and its folder
    assert {**fake.calls[0][1], "config": None} == {**first, "config": None}
    assert fake.calls[0][1]["config"] == first["config"]
    assert first["config"]["DATASET.SUBSAMPLE_CLASSES"] == "base"
    fake.calls.clear()
    train.main(job("CoOp", *tested, *new, output=tmp_path / "other"))
    assert fake.calls[0][1]["id"] != first["id"]  # no part of the run


def test_what_a_tracker_draws_is_no_part_of_the_run(fake, job, tmp_path):
    plain = train.main(job("CoOp"))
    tracked = train.main(job("CoOp", "LOG.WANDB", "True", output=tmp_path / "tracked"))
    assert fake.calls and tracked["checkpoint"] == plain["checkpoint"]


@pytest.mark.parametrize(
    ("fails", "called"),
    [
        ("init", ["init", "teardown"]),
        ("log", ["init", "log", "finish", "teardown"]),
        ("update", ["init", "log", "log", "log", "update", "finish", "teardown"]),
        ("finish", ["init", "log", "log", "log", "update", "finish", "teardown"]),
    ],
)
def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(fake, job, capsys, fails, called):
    fake.fails = {fails}
    results = train.main(job("CoOp", "LOG.WANDB", "True"))
    shown = capsys.readouterr()
    assert results["accuracy"] > 0
    note = f"Note: wandb gets nothing more of this run ({fails} has no network)"
    assert shown.out.count("Note: wandb") == 1 and note in shown.out
    assert names(fake.calls) == called


def test_a_run_that_fails_is_marked_in_its_tracker(fake, job, refused):
    message = refused(job("CoOp", "LOG.WANDB", "True", "OPTIM.LR", "1e30"))
    assert "finite" in message or "too large" in message
    assert names(fake.calls)[:2] == ["init", "log"]
    assert fake.calls[-2:] == [("finish", 1), ("teardown",)]


def test_a_mistake_starts_no_tracked_run(fake, job, refused):
    refused(job("CoOp", "LOG.WANDB", "True", "TEST.SPLIT", "val", "DATASET.NAME", "Digit"))
    assert fake.calls == []


def test_a_package_that_is_missing_is_one_note(monkeypatch, job, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    train.main(job("ZeroshotCLIP", "--eval-only", "LOG.WANDB", "True", "LOG.MLFLOW", "True"))
    out = capsys.readouterr().out
    assert out.count("Note: LOG.WANDB needs wandb (pip install wandb): not tracked\n") == 1
    assert out.count("Note: LOG.MLFLOW needs mlflow (pip install mlflow): not tracked\n") == 1


def test_without_the_settings_nothing_is_loaded_and_the_identity_is_the_same(
    fake, job, tmp_path, capsys
):
    plain = train.main(job("ZeroshotCLIP", "--eval-only"))
    assert fake.calls == [] and not (tmp_path / "run" / FILE).exists()
    assert "WANDB_INIT_TIMEOUT" not in os.environ
    tracked = train.main(
        job("ZeroshotCLIP", "--eval-only", "LOG.WANDB", "x", output=tmp_path / "b")
    )
    assert tracked["config_hash"] == plain["config_hash"]
    assert tracked["settings"] == plain["settings"]
    train.main(job("ZeroshotCLIP", "--eval-only", "LOG.WANDB", "x"))
    told = "Note: LOG.WANDB gets nothing of results that exist\n"
    assert told in capsys.readouterr().out
    train.main(job("ZeroshotCLIP", "--eval-only", "LOG.WANDB", "x", output=tmp_path / "b"))
    assert told not in capsys.readouterr().out
    # a run that was begun without goes on with it
    (tmp_path / "run/base/results.json").unlink()
    train.main(job("ZeroshotCLIP", "--eval-only", "LOG.WANDB", "x"))


@pytest.fixture
def leaves(monkeypatch):
    """What stays of a job in a process for many jobs, after a first one that has loaded all."""
    monkeypatch.setattr(atexit, "register", atexit.register)
    monkeypatch.setattr(atexit, "unregister", atexit.unregister)
    hook = threading.excepthook
    state = ProcessState()
    yield state.left_over
    state.put_back()
    assert threading.excepthook is hook


@needs_wandb
def test_wandb_offline_keeps_the_run_in_its_folder(job, tmp_path, monkeypatch, capsys, leaves):
    monkeypatch.setenv("WANDB_MODE", "offline")
    train.main(job("CoOp", "LOG.WANDB", "True", "OPTIM.MAX_EPOCH", "1"))
    told = f"wandb: mopd (offline, in {tmp_path / 'run' / 'wandb'})"
    assert told in capsys.readouterr().out and leaves() == ""
    (run_id,) = json.loads((tmp_path / "run" / FILE).read_text()).values()
    (first,) = (tmp_path / "run/wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    content = first.read_bytes()
    for text in (b"train/loss", b"base/accuracy", b"OPTIM.MAX_EPOCH"):
        assert text in content, text
    new = ("DATASET.SUBSAMPLE_CLASSES", "new", "LOG.WANDB", "True", "OPTIM.MAX_EPOCH", "1")
    tested = ("--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "1")
    train.main(job("CoOp", *tested, *new))
    assert leaves() == ""
    files = (tmp_path / "run/wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb")
    (second,) = {file for file in files} - {first}
    assert b"new/accuracy" in second.read_bytes()


@needs_mlflow
def test_mlflow_in_a_folder_has_settings_curves_and_results(
    job, tmp_path, monkeypatch, capsys, leaves
):
    store = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # asked for by newer versions
    results = train.main(job("CoOp", "LOG.MLFLOW", "shapes"))
    (run_id,) = json.loads((tmp_path / "run" / FILE).read_text()).values()
    assert f"mlflow: shapes ({store}, run {run_id})" in capsys.readouterr().out
    assert leaves() == ""
    new = ("DATASET.SUBSAMPLE_CLASSES", "new", "LOG.MLFLOW", "shapes")
    tested = ("--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "2")
    other = train.main(job("CoOp", *tested, *new))
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["OPTIM.MAX_EPOCH"] == "2"
    assert run.data.metrics["base/accuracy"] == results["accuracy"]
    assert run.data.metrics["new/accuracy"] == other["accuracy"]
    losses = [(m.step, m.value) for m in client.get_metric_history(run_id, "train/loss")]
    told = [r for r in records(tmp_path / "run") if r["split"] == "train"]
    assert losses == [(record["epoch"], record["loss"]) for record in told]
    # where the tracked run is gone there is a new one
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "another").as_uri())
    (tmp_path / "run/new/results.json").unlink()
    train.main(job("CoOp", *tested, *new))
    (second,) = json.loads((tmp_path / "run" / FILE).read_text()).values()
    assert second != run_id and MlflowClient().get_run(second).info.status == "FINISHED"


@needs_wandb
def test_wandb_without_a_login_is_a_note(job, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    train.main(job("ZeroshotCLIP", "--eval-only", "LOG.WANDB", "True"))
    assert capsys.readouterr().out.count("Note: wandb gets nothing more of this run (") == 1


@needs_mlflow
def test_mlflow_without_its_server_is_a_note(job, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    train.main(job("ZeroshotCLIP", "--eval-only", "LOG.MLFLOW", "True"))
    assert capsys.readouterr().out.count("Note: mlflow gets nothing more of this run (") == 1
