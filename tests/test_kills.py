"""A command that is killed at a file event and started again ends as if it had never been killed.

Here at some events of each command; `KILLS=all` in the environment kills at each of them, at each
moment of tests/kills.py, and takes some minutes.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kills import MOMENTS, FileEvents, picked
from tools import tables

ROOT = Path(__file__).resolve().parents[1]
KILLS = os.environ.get("KILLS", "")
SOME = "3"  # kills of each command
SHORT = ("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1", "CACHE.DIR", "{folder}/cache")
STUDY = """
protocols: fewshot
datasets: shapes
shots: 1
seeds: 1
methods: [ZeroshotCLIP]
"""


def words_of_train(data: Path) -> list[str]:
    """Training with validation, and views in the cache."""
    return [
        *("--root", str(data), "--seed", "1", "--trainer", "MoPD"),
        *("--dataset-config-file", "configs/datasets/shapes.yaml"),
        *("--config-file", "configs/trainers/MoPD/embedded.yaml"),
        *("--output-dir", "{folder}/runs/one", *SHORT),
        *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base"),
        *("TEST.FINAL_MODEL", "best_val", "CACHE.VIEWS", "True"),
    ]


def words_of_protocol(data: Path) -> list[str]:
    """Training on base classes, then a test on new ones."""
    return [
        *("base2new", "--trainer", "CoOp", "--dataset", "shapes", "--seed", "1", "--shots", "2"),
        *("--data", str(data), "--output", "{folder}/runs", "--", *SHORT),
    ]


def words_of_study(data: Path) -> list[str]:
    """One job, in a process that outlives the study's."""
    file = data / "killed.yaml"
    file.write_text(STUDY)
    return ["run", str(file), "--data", str(data), "--output", "{folder}/runs"]


COMMANDS = {
    "train": words_of_train,
    "tools.protocol": words_of_protocol,
    # each kill takes a start of Python
    **({"tools.study": words_of_study} if KILLS else {}),
}


def results(folder: Path) -> dict[str, dict]:
    """All results below a folder, without times and memory."""
    found = {}
    for path in sorted(folder.rglob("results.json")):
        content = json.loads(path.read_text())
        found[str(path.relative_to(folder))] = {
            key: value for key, value in content.items() if key not in ("seconds", "memory")
        }
    return found


def metrics(folder: Path) -> list[dict]:
    """All lines of all metrics.jsonl, without times."""
    lines = [line for path in sorted(folder.rglob("metrics.jsonl")) for line in path.open()]
    return [{**json.loads(line), "seconds": None} for line in lines]


def table(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """The table of the runs below a folder, without times and places."""
    tables.main(["--runs", "--format", "csv", str(folder)])
    rows = csv.DictReader(capsys.readouterr().out.splitlines())
    return [{**row, "seconds": "", "folder": ""} for row in rows]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_killed_and_started_again_ends_as_one_that_was_not(
    command, data_root, tmp_path, capsys
):
    words = COMMANDS[command](data_root)
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", command, tmp_path, KILLS or SOME, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    killed = [line for line in lines if line["codes"][0] == -signal.SIGKILL]
    # one whose files are settled by now can have fewer events, and ends before the last of them
    assert len(lines) >= int(SOME) and len(killed) > len(lines) // 2
    whole = tmp_path / "whole/runs"
    for line in lines:
        shown = (tmp_path / f"{line['run']}.shown").read_text(errors="replace")
        assert line["codes"] in ([-signal.SIGKILL, 0], [0, 0]), (line, shown)
        again = tmp_path / line["run"] / "runs"
        assert results(again) == results(whole) != {}, line
        assert metrics(again) == metrics(whole), line
        assert table(again, capsys) == table(whole, capsys)


def test_events_are_those_below_the_folder_that_change_files(tmp_path):
    events = FileEvents(tmp_path)
    events("open", (str(tmp_path / "a"), "w", os.O_WRONLY | os.O_CREAT))
    events("open", (tmp_path / "a", "r", os.O_RDONLY))
    events("open", (3, "w", os.O_WRONLY))
    events("os.rename", (os.fsencode(tmp_path / "a"), str(tmp_path / "b"), -1, -1))
    events("os.remove", ("elsewhere", -1))
    events("os.listdir", (str(tmp_path),))
    assert events.seen == ["open a", "os.rename a"]


def test_kills_are_spread_over_the_events_or_are_all():
    events = ["os.mkdir a", "open a/b", "os.rename a/b", "os.remove a/c"]
    assert picked(events, "3") == [(1, "before"), (3, "after"), (4, "torn")]
    everything = picked(events, "all")
    assert everything[:5] == [(1, "before"), (1, "after"), *((2, moment) for moment in MOMENTS)]
    assert len(everything) == 9
