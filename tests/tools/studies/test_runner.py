"""Jobs side by side: which place each has, and how they end."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import sys
import threading
import time

import pytest
import torch

from tools.studies import processes, runner
from tools.studies.processes import Seat, places
from tools.studies.runner import Runner, run
from tools.studies.state import state


@pytest.mark.parametrize(
    ("visible", "count", "jobs", "expected"),
    [
        (None, 0, 0, [None]),
        (None, 0, 3, [None] * 3),
        ("", 0, 0, [None]),
        ("0,1", 0, 0, [None]),  # no GPU, whatever is said
        (None, 2, 0, ["0", "1"]),
        ("5,7", 2, 0, ["5", "7"]),
        ("5,7", 2, 3, ["5", "7", "5"]),
        (None, 4, 1, ["0"]),
    ],
)
def test_one_job_for_each_gpu_unless_told_otherwise(monkeypatch, visible, count, jobs, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert places(jobs) == expected


def test_each_job_sees_its_own_gpu_and_two_run_at_a_time(read, tmp_path, monkeypatch, capsys):
    fake = tmp_path / "python"
    # stands for a job: says what it sees, waits until both of its pair have begun, and fails
    fake.write_text(
        f"#!/bin/sh\necho $CUDA_VISIBLE_DEVICES >> {tmp_path}/seen\n"
        'case "$*" in *"--seed=1 "*|*"--seed=2 "*) begun=2;; *) begun=4;; esac\n'
        f"for i in $(seq 6000); do [ $(wc -l < {tmp_path}/seen) -ge $begun ] && break\n"
        "sleep 0.05\ndone\necho error: no\necho luck\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(fake))
    study = read(protocols="base2new", datasets="shapes", methods="CoOp", seeds=[1, 2, 3, 4])
    failures = Runner(study, ["5", "7"], fresh=True).run()
    seen = (tmp_path / "seen").read_text().split()
    assert sorted(seen[:2]) == ["5", "7"] and sorted(seen) == ["5", "5", "7", "7"]
    assert sorted((f.job.seed, f.error) for f in failures) == [
        (s, "error: no luck") for s in (1, 2, 3, 4)
    ]
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "mine: 4 jobs, 0 done before, 4 to do, 2 at a time on GPU 5, 7"
    assert re.fullmatch(
        r"\[1/4\] base2new shapes CoOp embedded, shots 16, seed [12]: FAILED, error: no luck "
        r"\([\d:]+ (s|min|h), [\d:]+ (s|min|h) left\)",
        others[0],
    )
    assert len(others) == 4 and "left" not in others[3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_ends_all_jobs_first(read, tmp_path, monkeypatch, capsys, number):
    fake = tmp_path / "python"
    # stands for a job: works until it is interrupted
    fake.write_text(
        f"#!{sys.executable}\nimport pathlib, time\n"
        f"try:\n    pathlib.Path('{tmp_path}/begun').touch()\n    time.sleep(600)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path('{tmp_path}/ended').touch()\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(processes.sys, "executable", str(fake))
    monkeypatch.setattr(processes, "GRACE_SECONDS", 300.0)  # however busy the machine is
    study = read(protocols="base2new", datasets="shapes", methods="CoOp", seeds=[1, 2])

    def interrupt() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        run(study, fresh=True)
    thread.join()
    assert stop.value.code == 130 and (tmp_path / "ended").exists()
    message = "interrupted: the same command continues where the jobs were\n"
    assert capsys.readouterr().err == message
    assert [state(study, job) for job in study.jobs] == ["to do", "to do"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.fixture
def outcomes(read, monkeypatch, tmp_path, capsys):
    """What a runner says of jobs that `odd_jobs` does, one after another, by their tags."""
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setenv("ODD_JOBS", str(tmp_path))

    def run(*tags: str, **options) -> dict[str, str]:
        methods = {"CoOp": {"variants": [{"tag": tag, "opts": {}} for tag in tags]}}
        study = read(protocols="fewshot", shots=1, datasets="shapes", seeds=1, methods=methods)
        Runner(study, [None], **options).run()
        lines = capsys.readouterr().out.splitlines()[1:]
        said = [line.partition("FAILED, ")[2].rpartition(" (")[0] for line in lines]
        return dict(zip(tags, said, strict=True))

    return run


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """A job takes no time until it says that it has begun, and a second at each look then."""
    looks = itertools.count()

    def seconds(seat: Seat) -> float:
        return next(looks) if (tmp_path / "begun").exists() else 0.0

    monkeypatch.setattr(Seat, "seconds", property(seconds))


def test_a_worker_does_job_after_job_and_one_that_cannot_go_on_is_replaced(outcomes):
    found = outcomes("a", "b", "dies", "c", "d", "fails", "e", "leaves_a_thread", "f", "g")
    assert found["dies"] == "killed by signal 9"
    told = "this job left threads (mine): the next one gets a new process"
    assert found["leaves_a_thread"].endswith(told)
    first, second, third, fourth = (
        {found[tag] for tag in group}
        for group in (["a", "b"], ["c", "d", "fails"], ["e"], ["f", "g"])
    )
    assert len(first | second | third | fourth) == 4
    assert all(one.startswith("process ") for one in first | second | third | fourth)


def test_a_worker_that_dies_before_its_children_takes_only_its_job_along(outcomes):
    found = outcomes("dies_before_its_child", "a", "b")
    assert found["dies_before_its_child"] == "killed by signal 9"
    assert found["a"] == found["b"] and found["a"].startswith("process ")


@pytest.mark.parametrize("tag", ["sleeps", "hangs", "leaves_a_thread_that_is_waited_for"])
def test_a_job_beyond_the_limit_has_failed_even_if_it_does_not_end_when_asked(
    outcomes, clock, monkeypatch, tmp_path, tag
):
    monkeypatch.setattr(runner, "GRACE_SECONDS", math.inf if tag == "sleeps" else 3)
    if tag == "leaves_a_thread_that_is_waited_for":
        (tmp_path / "begun").touch()
    found = outcomes(tag, "a", minutes=0.1)
    said = "it took longer than 0.1 minutes (--limit), and goes on if run again"
    assert found[tag] == said
    assert found["a"].startswith("process ") or found["a"] == said


def test_a_worker_that_ended_since_its_last_job_takes_none_along(outcomes, monkeypatch):
    start = Seat.start

    def kill_first(seat, job, log):
        if seat._process is not None:
            seat._process.send_signal(signal.SIGINT)  # it may end now, or while the job is sent
        start(seat, job, log)

    monkeypatch.setattr(Seat, "start", kill_first)
    found = outcomes("a", "b", "c")
    assert len(set(found.values())) == 3
    assert all(one.startswith("process ") for one in found.values())


def test_each_worker_sees_its_own_gpu(read, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    started = []
    real = processes.subprocess.Popen

    def popen(words, env, **options):
        started.append((words[3:], env["CUDA_VISIBLE_DEVICES"]))
        return real([sys.executable, "-c", "raise SystemExit(7)"], **options)

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    study = read(protocols="base2new", datasets="shapes", methods="CoOp", seeds=[1, 2, 3])
    failures = Runner(study, ["5", "7"]).run()
    assert [f.error for f in failures] == ["it wrote nothing"] * 3
    assert [words[0] for words, _ in started] == ["runs.worker"] * 3
    assert {gpu for _, gpu in started} == {"5", "7"}
