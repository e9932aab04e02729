"""The command: runs that fail, are cut off and go on, and what is shown of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from PIL import Image

from runs.job_words import words_of
from runs.run_job import Seen, run_job, settings
from tools import protocol
from tools.studies import report
from tools.studies.file import read_study
from tools.studies.report import status
from tools.studies.state import failure, log_path, state
from tools.study import main

ROOT = Path(__file__).resolve().parents[3]
SHORT = {"OPTIM.MAX_EPOCH": 2, "TRAIN.CHECKPOINT_FREQ": 1}


def test_a_missing_file_lists_the_shipped_studies(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["status", str(tmp_path / "none.yaml")])
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert "no such study" in message and "embedded_base2new" in message


def results(folder: Path) -> dict[str, dict]:
    """All results below a folder, without what differs from run to run."""
    found = {}
    for path in folder.rglob("results.json"):
        content = json.loads(path.read_text())
        del content["seconds"], content["memory"]
        found[str(path.relative_to(folder))] = content
    return found


def test_a_failing_job_is_reported_and_the_others_are_done(write, data_root, tmp_path, capsys):
    path = write(
        protocols="fewshot", shots=1, seeds=1, config="embedded", opts=SHORT,
        datasets=["folder:no/such", "shapes"], methods=["ZeroshotCLIP"],
    )  # fmt: skip
    where = ["--data", str(data_root), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        main(["table", str(path), *where])
    assert "has no results yet: python -m tools.study run" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["run", str(path), *where])
    assert stop.value.code == 1
    shown = capsys.readouterr()
    assert "datasets that cannot be used: folder:no/such; jobs that need them: 1" in shown.out
    assert "2 jobs, 0 done before, 1 to do, 1 at a time" in shown.out
    assert "[2/2] fewshot shapes ZeroshotCLIP embedded, shots 1, seed 1: Shapes all" in shown.out
    study = read_study(path, data_root, tmp_path / "out")
    broken, good = study.jobs
    log = log_path(study, broken, failed=True)
    failed = failure(study, broken)
    assert failed.log == log and "no/such" in failed.error and failed.kind == "missing data"
    told = shown.err.splitlines()
    assert "1 of 2 jobs failed:" in told and f"    log: {log}" in told
    assert f"  {broken.name}: missing data, {failed.error}" in told
    assert (state(study, broken), state(study, good)) == ("failed", "done")
    lines = status(study).splitlines()
    assert lines[0].split() == ["protocol", "dataset", "method", "config", "shots", "seed", "1"]
    assert lines[2].split()[-1] == "failed" and lines[3].split()[-1] == "done"
    assert lines[5] == "2 jobs: 1 done, 1 failed" and lines[-1] == f"    log: {log}"
    main(["table", str(path), *where])
    shown = capsys.readouterr()
    assert "Shapes" in shown.out and "1 of 2 jobs are missing" in shown.err
    # other settings under the same name are not taken for done
    changed = (
        path.read_text()
        .replace(
            "protocols",
            "methods: {ZeroshotCLIP: {opts: {TRAINER.ZEROSHOTCLIP.POOL: mixed}}}\nprotocols",
        )
        .replace("methods:\n- ZeroshotCLIP\n", "")
    )
    path.write_text(changed.replace("- folder:no/such\n", ""))
    with pytest.raises(SystemExit):
        main(["run", str(path), *where])
    shown = capsys.readouterr().err
    assert "refused, error: " in shown and "POOL is 'single' there, 'mixed' here" in shown


def test_results_of_images_that_have_changed_since_are_not_taken_for_done(
    write, data_root, tmp_path, capsys
):
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "cow", "dog", "owl")):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (32, 32), (40 * number, i, 90)).save(folder / f"{i}.bmp")
    path = write(
        protocols="base2new", shots=1, seeds=1, config="embedded", opts=SHORT,
        datasets=[f"folder:{tmp_path / 'photos'}"], methods=["ZeroshotCLIP", "CoOp"],
    )  # fmt: skip
    where = ["--data", str(data_root), "--output", str(tmp_path / "out")]
    study = read_study(path, data_root, tmp_path / "out")
    for job in study.jobs:
        run_job(job)
    path.write_text(path.read_text().replace("opts:", "opts:\n  TEST.COMPUTE_CMAT: true"))
    main(["run", str(path), *where])
    shown = capsys.readouterr().out
    assert "2 jobs, 2 done before, 0 to do" in shown and "ZeroshotCLIP  embedded" in shown
    assert shown.count("Note: TEST.COMPUTE_CMAT is not done for results that exist") == 1
    new = tmp_path / "photos" / "test" / "owl" / "1.bmp"  # not of the training, nor of its test
    Image.new("RGB", (32, 32), (9, 9, 9)).save(new)
    with pytest.raises(SystemExit) as stop:
        main(["run", str(path), *where])
    table, shown = capsys.readouterr()
    assert stop.value.code == 1 and "2 of 2 jobs failed:" in shown
    assert "ZeroshotCLIP" not in table  # the old figures are not those of the study
    assert shown.count("was measured on other images or labels than") == 2
    assert shown.count("1 changed: ") == 2 and str(new) in shown


def test_settings_that_jobs_share_are_those_of_each_job(read):
    study = read(
        protocols={"base2new": {"datasets": ["shapes", "digits"]}, "xd": {"datasets": "shapes"}},
        methods=["ZeroshotCLIP", "CoOp", "MoPD"], seeds=[1, 2, 3], opts=SHORT,
    )  # fmt: skip
    seen = Seen()
    for job in study.jobs:
        for number, test in enumerate(job.evaluations()):
            source = "Shapes" if number and job.learns else ""
            assert seen.settings(job, test, source) == settings(job, test, source)
    assert len(seen._settings) < sum(len(job.evaluations()) for job in study.jobs)


def test_the_table_has_the_results_of_the_jobs_and_no_others(write, data_root, tmp_path, capsys):
    path = write(
        protocols="fewshot", shots=1, seeds=1, datasets="shapes", methods="ZeroshotCLIP", opts=SHORT
    )
    where = ["--data", str(data_root), "--output", str(tmp_path / "out")]
    (job,) = read_study(path, data_root, tmp_path / "out").jobs
    run_job(job)
    other = job.folder / "digits" / "all" / "results.json"  # of a study that had it as a target
    other.parent.mkdir(parents=True)
    told = json.loads(job.evaluations()[0].results.read_text())
    other.write_text(json.dumps(told | {"dataset": "Digits"}))
    capsys.readouterr()
    main(["table", str(path), *where])
    table = capsys.readouterr().out
    assert "Shapes" in table and "Digits" not in table


def test_work_does_what_is_open_and_watch_ends_when_nothing_is(
    write, data_root, tmp_path, capsys, monkeypatch
):
    path = write(
        protocols="fewshot", shots=1, seeds=1, datasets=["shapes", "digits"],
        methods="ZeroshotCLIP", opts=SHORT,
    )  # fmt: skip
    where = [str(path), "--data", str(data_root), "--output", str(tmp_path / "out")]
    first, second = read_study(path, data_root, tmp_path / "out").jobs
    waits = []

    class Clock:
        """Time in which the study is done."""

        time = time.time

        @staticmethod
        def sleep(seconds: float) -> None:
            waits.append(seconds)
            run_job(first)
            main(["work", *where])

    monkeypatch.setattr(report, "time", Clock)
    main(["status", *where, "--watch", "7"])
    monkeypatch.undo()
    shown = capsys.readouterr().out
    assert waits == [7] and "2 jobs: 2 to do" in shown and "2 jobs: 2 done" in shown
    assert "mine: 2 jobs, 1 done before, 1 to do, 1 at a time on CPU" in shown
    assert f"[2/2] {second.name}: Digits all" in shown
    assert "dataset" not in shown.partition("[2/2]")[2].partition("protocol")[0]  # no table
    main(["work", *where])
    assert "2 jobs, 2 done before, 0 to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--retries", "-1"], "--retries is -1, expected at least 0"),
        (["--jobs", "-1"], "--jobs is -1, expected at least 1"),
        (["--limit", "0"], "--limit is 0, expected minutes above 0"),
    ],
)
def test_work_refuses_numbers_that_make_no_sense(write, tmp_path, capsys, options, told):
    path = write(protocols="fewshot", datasets="shapes", methods="ZeroshotCLIP")
    with pytest.raises(SystemExit) as stop:
        main(["work", str(path), "--output", str(tmp_path / "out"), *options])
    assert stop.value.code == 1 and capsys.readouterr().err == f"error: {told}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("victim", ["the whole study", "a worker"])
def test_what_is_killed_at_random_goes_on_to_the_same_results(write, data_root, tmp_path, victim):
    path = write(
        protocols="xd", datasets="shapes", shots=2, seeds=1, methods="MoPD",
        opts={"OPTIM.MAX_EPOCH": 10, "TRAIN.CHECKPOINT_FREQ": 1},
    )  # fmt: skip
    (whole,) = read_study(path, data_root, tmp_path / "whole").jobs
    protocol.main(words_of(whole))
    study = read_study(path, data_root, tmp_path / "cut")
    (job,) = study.jobs

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "tools.study", "run", str(path)]
        return subprocess.Popen(
            [*command, "--data", str(data_root), "--output", str(tmp_path / "cut")],
            cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        )  # fmt: skip

    def wait_until(happened) -> None:
        deadline = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    for _ in range(2):
        with start() as process:
            wait_until(lambda: state(study, job) in ("running", "done"))
            time.sleep(random.uniform(0, 4))
            if victim == "a worker":
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
                with suppress(OSError):  # all that ended meanwhile
                    for pid in children.read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
                assert process.wait() == 0  # another worker has gone on with the job
                assert state(study, job) == "done"
            else:
                os.killpg(process.pid, signal.SIGKILL)
        wait_until(lambda: state(study, job) != "running")
        assert state(study, job) in ("to do", "stale", "done")
    with start() as process:
        assert process.wait() == 0
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    assert state(study, job) == "done"
