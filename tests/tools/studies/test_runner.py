"""Jobs side by side: which place each has, and how they end."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import threading
import time

import pytest
import torch

from runs.claims import FAILED, history, take
from tests.runs.hearts import stop_heart
from tools.studies import processes, runner
from tools.studies.processes import Seat, places
from tools.studies.report import status
from tools.studies.runner import Rules, Runner, run
from tools.studies.state import claim_path, log_folder, log_path, state


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


def test_each_worker_sees_its_own_gpu_and_two_run_at_a_time(read, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setenv("ODD_JOBS", str(tmp_path))
    study = read(protocols="base2new", datasets="shapes", seeds=[1, 2, 3, 4], methods={
        "CoOp": {"variants": [{"tag": "waits_for_two", "opts": {}}]}})  # fmt: skip
    failures = Runner(study, ["5", "7"]).run()
    seen = (tmp_path / "seen").read_text().split()
    assert sorted(seen[:2]) == ["5", "7"] and len(seen) == 4 and set(seen) == {"5", "7"}
    assert sorted((f.job.seed, f.error) for f in failures) == [
        (s, "error: no luck") for s in (1, 2, 3, 4)
    ]
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "mine: 4 jobs, 0 done before, 4 to do, 2 at a time on GPU 5, 7"
    assert re.fullmatch(
        r"\[1/4\] base2new shapes CoOp embedded-waits_for_two, shots 16, seed [12]: FAILED, "
        r"error: no luck \([\d:]+ (s|min|h), [\d:]+ (s|min|h) left\)",
        others[0],
    )
    assert len(others) == 4 and "left" not in others[3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_ends_all_jobs_first(read, tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setattr(processes, "GRACE_SECONDS", 300.0)  # however busy the machine is
    monkeypatch.setenv("ODD_JOBS", str(tmp_path))
    study = read(protocols="base2new", datasets="shapes", seeds=[1, 2], methods={
        "CoOp": {"variants": [{"tag": "is_interrupted", "opts": {}}]}})  # fmt: skip

    def interrupt() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        run(study)
    thread.join()
    assert stop.value.code == 130 and (tmp_path / "ended").exists()
    message = "interrupted: the same command continues where the jobs were\n"
    assert capsys.readouterr().err == message
    assert [state(study, job) for job in study.jobs] == ["to do", "to do"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_to_all_processes_kills_no_job(read, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setattr(processes, "GRACE_SECONDS", 300.0)
    monkeypatch.setenv("ODD_JOBS", str(tmp_path))
    study = read(protocols="base2new", datasets="shapes", seeds=1, methods={
        "CoOp": {"variants": [{"tag": "is_interrupted", "opts": {}}]}})  # fmt: skip
    (job,) = study.jobs
    claim = claim_path(study, job)

    def interrupt() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        for number in (history(claim).holder.owner["pid"], os.getpid()):  # as a scheduler does
            os.kill(number, signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        run(study)
    thread.join()
    assert stop.value.code == 130 and (tmp_path / "ended").exists()
    found = history(claim)
    assert (found.failures, found.deaths, found.running) == (0, 0, False)


@pytest.fixture
def outcomes(read, monkeypatch, tmp_path, capsys):
    """All that a runner says of jobs that `odd_jobs` does, one after another, by their tags."""
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setenv("ODD_JOBS", str(tmp_path))

    def run(*tags: str, **options) -> dict[str, list[str]]:
        methods = {"CoOp": {"variants": [{"tag": tag, "opts": {}} for tag in tags]}}
        study = read(protocols="fewshot", shots=1, datasets="shapes", seeds=1, methods=methods)
        Runner(study, [None], Rules(**options)).run()
        said: dict[str, list[str]] = {}
        for line in capsys.readouterr().out.splitlines()[1:]:
            name, _, outcome = line.partition(", shots 1, seed 1: ")
            outcome = outcome.removesuffix(", is tried again").rpartition(" (")[0]
            said.setdefault(name.rpartition("embedded-")[2], []).append(outcome)
        return said

    return run


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """A job takes no time until it says that it has begun, and a second at each look then."""
    looks = itertools.count()

    def seconds(seat: Seat) -> float:
        return next(looks) if (tmp_path / "begun").exists() else 0.0

    monkeypatch.setattr(Seat, "seconds", property(seconds))


KILLED = [
    "killed by signal 9",
    "FAILED, error: killed by signal 9, 2 times (as happens when the memory is full)",
]


def process_of(said: list[str]) -> str:
    """The process that says so; nothing is there that tells that its job is done."""
    return said[-1].rpartition("process ")[2]


def test_a_worker_does_job_after_job_and_one_that_cannot_go_on_is_replaced(outcomes):
    said = outcomes("a", "b", "dies", "c", "d", "fails", "e", "leaves_a_thread", "f", "g")
    assert said["dies"] == KILLED  # the second time is at the end
    told = "this job left threads (mine): the next one gets a new process"
    assert said["leaves_a_thread"][0].endswith(told)
    groups = ["a", "b"], ["c", "d", "fails"], ["e"], ["f", "g"]
    found = [{process_of(said[tag]) for tag in group} for group in groups]
    assert [len(processes) for processes in found] == [1] * 4 and len(set.union(*found)) == 4


def test_a_job_that_fails_is_tried_again_as_often_as_asked(outcomes):
    said = outcomes("fails", "a", retries=2)["fails"]
    assert len(said) == 3 and len(set(said)) == 3  # a new process each time
    assert [one.startswith("FAILED") for one in said] == [False, False, True]


def test_what_would_fail_again_is_not_tried_again(outcomes):
    said = outcomes("has_no_data", "is_refused", "needs_more_memory", retries=1)
    assert said["has_no_data"] == ["FAILED (missing data), error: no such folder"]
    assert said["is_refused"] == ["FAILED (refused), error: X is 1, expected 2"]
    why = "error: too little: a smaller batch needs less"
    assert said["needs_more_memory"] == [f"out of memory, {why}", f"FAILED (out of memory), {why}"]


def test_failures_are_told_by_their_kind_and_by_status_as_well(read, monkeypatch, capsys):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    tags = ("needs_more_memory", "has_no_data", "fails", "is_refused")
    methods = {"CoOp": {"variants": [{"tag": tag, "opts": {}} for tag in tags]}}
    study = read(protocols="fewshot", shots=1, datasets="shapes", seeds=[1, 2], methods=methods)
    with pytest.raises(SystemExit):
        run(study)
    told = capsys.readouterr().err.splitlines()
    names = [job.name for job in study.jobs[:4]]
    assert told[0] == "8 of 8 jobs failed:"
    reasons = {
        names[1]: "missing data, error: no such folder",
        names[0]: "out of memory, error: too little: a smaller batch needs less",
        names[3]: "refused, error: X is 1, expected 2",
    }
    lines = [f"  {name} and 1 more: {reason}" for name, reason in reasons.items()]
    assert told[-6::2] == lines
    logs = {f"    log: {log_path(study, job, failed=True)}" for job in study.jobs}
    assert set(told[-5::2]) < logs
    shown = status(study).splitlines()
    assert f"{names[1]}: missing data, error: no such folder" in shown


def test_a_worker_that_dies_before_its_children_takes_only_its_job_along(outcomes):
    found = outcomes("dies_before_its_child", "a", "b")
    assert found["dies_before_its_child"] == KILLED
    assert process_of(found["a"]) == process_of(found["b"])


@pytest.mark.parametrize("tag", ["sleeps", "hangs", "leaves_a_thread_that_is_waited_for"])
def test_a_job_beyond_the_limit_has_failed_even_if_it_does_not_end_when_asked(
    outcomes, clock, monkeypatch, tmp_path, tag
):
    monkeypatch.setattr(runner, "GRACE_SECONDS", math.inf if tag == "sleeps" else 3)
    if tag == "leaves_a_thread_that_is_waited_for":
        (tmp_path / "begun").touch()
    found = outcomes(tag, "a", minutes=0.1)
    said = "FAILED, error: it took longer than 0.1 minutes (--limit), and goes on if run again"
    assert found[tag] == [said]
    assert process_of(found["a"]).isdecimal() or found["a"] == [said]


def test_a_worker_that_ended_since_its_last_job_takes_none_along(outcomes, monkeypatch):
    start = Seat.start

    def kill_first(seat, job, task):
        if seat._process is not None:
            seat._process.send_signal(signal.SIGINT)  # it may end now, or while the job is sent
        start(seat, job, task)

    monkeypatch.setattr(Seat, "start", kill_first)
    found = outcomes("a", "b", "c")
    assert len({process_of(said) for said in found.values()}) == 3


def test_a_machine_on_which_all_fails_leaves_the_rest_to_others(read, monkeypatch, capsys):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setattr(runner, "QUICK_SECONDS", float("inf"))
    methods = {"CoOp": {"variants": [{"tag": "fails", "opts": {}}]}}
    study = read(protocols="base2new", datasets="shapes", seeds=[1, 2, 3, 4, 5], methods=methods)
    found = Runner(study, [None], Rules(pulls=True)).run()
    assert [f.job.seed for f in found] == [1, 2, 3]
    assert "no more are taken, 2 are left to other machines" in capsys.readouterr().out
    assert [state(study, job) for job in study.jobs] == ["failed"] * 3 + ["to do"] * 2


def test_a_broken_machine_does_not_use_up_the_tries_of_a_job(read, monkeypatch, capsys):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setattr(runner, "QUICK_SECONDS", float("inf"))
    methods = {"CoOp": {"variants": [{"tag": "fails", "opts": {}}]}}
    study = read(protocols="base2new", datasets="shapes", seeds=[1, 2, 3, 4], methods=methods)
    assert Runner(study, [None], Rules(pulls=True, retries=1)).run() == []
    assert "no more are taken, 4 are left to other machines" in capsys.readouterr().out
    found = [history(claim_path(study, job)).failures for job in study.jobs]
    assert found == [1, 1, 1, 0]


def test_jobs_that_are_refused_say_nothing_of_the_machine(read, monkeypatch):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setattr(runner, "QUICK_SECONDS", float("inf"))
    methods = {"CoOp": {"variants": [{"tag": "is_refused", "opts": {}}]}}
    study = read(protocols="base2new", datasets="shapes", seeds=[1, 2, 3, 4], methods=methods)
    assert len(Runner(study, [None], Rules(pulls=True)).run()) == 4


def test_what_others_do_is_left_to_them_or_waited_for(read, monkeypatch, capsys):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.01)
    study = read(protocols="base2new", datasets="shapes", seeds=[1, 2], methods="CoOp")
    theirs, ours = study.jobs
    log_folder(study).mkdir(parents=True)
    claim = take(claim_path(study, theirs))
    found = Runner(study, [None], Rules(pulls=True)).run()
    assert [f.job for f in found] == [ours]
    assert "1 jobs are done by other processes, and left to them" in capsys.readouterr().out
    assert [state(study, job) for job in study.jobs] == ["running", "failed"]
    assert claim is not None

    def give_back() -> None:
        while "waited for" not in said:
            said.append(capsys.readouterr().out.partition("and ")[2].strip())
            time.sleep(0.01)
        claim.end(FAILED)
        log_path(study, theirs, failed=True).write_text("error: no\n")

    said: list[str] = []
    thread = threading.Thread(target=give_back)
    thread.start()
    found = Runner(study, [None]).run()
    thread.join()
    assert {f.job: f.error for f in found}[theirs] == "error: no"


def test_a_job_whose_machine_died_is_taken_over_once_its_heart_has_stopped(
    read, monkeypatch, capsys
):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    study = read(protocols="base2new", datasets="shapes", seeds=1, methods="CoOp")
    (job,) = study.jobs
    log_folder(study).mkdir(parents=True)
    claim = take(claim_path(study, job))
    assert claim is not None
    stop_heart(claim.path, 0)  # it is another machine's, whose processes cannot be asked
    assert Runner(study, [None], Rules(pulls=True)).run() == []
    assert f"{job.name}: on gone (process {os.getpid()}) for " in status(study)
    stop_heart(claim.path)
    assert f"{job.name}: stale, nothing heard of gone (process {os.getpid()})" in status(study)
    assert [f.job for f in Runner(study, [None], Rules(pulls=True)).run()] == [job]
    assert "process " in log_path(study, job, failed=True).read_text()


def test_a_job_whose_processes_died_elsewhere_is_given_up_and_named(read, monkeypatch, capsys):
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    study = read(protocols="base2new", datasets="shapes", seeds=1, methods="CoOp")
    (job,) = study.jobs
    log_folder(study).mkdir(parents=True)
    for number in (1, 2):
        claim = take(claim_path(study, job))
        assert claim is not None and claim.number == number
        stop_heart(claim.path)
        assert state(study, job) == "stale"
    log_path(study, job).write_text("what it said\n")
    for _ in range(2):  # by whoever comes next as well
        (failure,) = Runner(study, [None], Rules(pulls=True)).run()
        assert failure.error == "error: 2 processes that did it have died"
        assert failure.log.read_text().startswith("what it said\n")
    assert state(study, job) == "failed"
