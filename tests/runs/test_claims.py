"""Claims: one process has a job, and takes over where another one has died."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.engine.metrics_log import MetricsLog
from dassl.utils import GUARDS, atomic_open
from runs import claims
from runs.claims import FAILED, GIVEN_BACK, LIMIT, Claim, ClaimLost, file_time, history, reset, take
from tests.runs.hearts import stop_heart

ROOT = Path(__file__).resolve().parents[2]
RACER = """
import os, sys, time
from pathlib import Path
from runs.claims import take
base, count = Path(sys.argv[1]), int(sys.argv[2])
go = base.with_name("go")
for _ in range(count - 1):
    if not os.fork():
        break
while not go.exists():
    time.sleep(0.001)
if take(base):
    with open(base.with_name("winners"), "a") as file:
        file.write(f"{os.getpid()}\\n")
open(base.with_name(f"raced-{os.getpid()}"), "w").close()
while not base.with_name("stop").exists():  # who has ended has lost its claim
    time.sleep(0.01)
"""
SLEEPER = """
import sys
from pathlib import Path
from dassl.utils import write_json
from runs.claims import take
base = Path(sys.argv[1])
with take(base).beating():
    print("claimed", flush=True)
    sys.stdin.readline()
    write_json({}, base.with_name("result.json"))
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_claim_is_held_by_one_process_and_tells_which(tmp_path):
    claim = take(tmp_path / "job")
    assert claim is not None and take(tmp_path / "job") is None
    assert names(tmp_path) == ["job.claim-1"]  # no draft, no file of the time
    found = history(tmp_path / "job")
    assert found.running and found.holder is not None and found.holder.number == 1
    assert found.holder.owner["pid"] == os.getpid()
    assert found.holder.owner["host"] == platform.node()
    claim.remove()
    assert names(tmp_path) == [] and history(tmp_path / "job") == claims.History()


@pytest.mark.parametrize("before", [False, True])
def test_of_fifty_processes_one_wins(tmp_path, before):
    base = tmp_path / "job"
    if before:  # one to take over from
        assert take(base) is not None
        stop_heart(tmp_path / "job.claim-1")
    racers = subprocess.Popen(
        [sys.executable, "-c", RACER, str(base), "50"], cwd=ROOT, start_new_session=True
    )
    time.sleep(0.2)
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 300
    while sum(name.startswith("raced-") for name in names(tmp_path)) < 50:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (tmp_path / "stop").touch()
    racers.wait()
    assert len((tmp_path / "winners").read_text().split()) == 1
    assert (tmp_path / f"job.claim-{1 + before}").exists()
    assert not (tmp_path / f"job.claim-{2 + before}").exists()


def asleep(base: Path) -> subprocess.Popen[str]:
    """A process that has claimed a job, and is stopped."""
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(base)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert sleeper.stdout is not None and sleeper.stdout.readline() == "claimed\n"
    sleeper.send_signal(signal.SIGSTOP)
    return sleeper


def test_a_heart_that_stopped_is_taken_over_once_and_who_wakes_finds_it_gone(tmp_path):
    base = tmp_path / "job"
    sleeper = asleep(base)
    assert take(base) is None  # it may wake up in time
    stop_heart(tmp_path / "job.claim-1", LIMIT - 5)
    assert take(base) is None
    stop_heart(tmp_path / "job.claim-1", 10)
    taker = take(base)
    assert taker is not None and taker.number == 2 and take(base) is None
    sleeper.send_signal(signal.SIGCONT)
    _, told = sleeper.communicate("go on\n")
    assert sleeper.returncode == 1 and "another process has taken this job over" in told
    assert names(tmp_path) == ["job.claim-1", "job.claim-2"]  # no result, no half of one
    assert not taker.lost()
    taker.remove()
    assert names(tmp_path) == []


def test_a_process_that_is_stopped_has_no_heart_and_finds_its_job_taken(tmp_path, monkeypatch):
    base = tmp_path / "job"
    sleeper = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, str(base)], cwd=ROOT, text=True,
        env={**os.environ, "MOPD_HEARTBEAT": "0.05"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert sleeper.stdout is not None and sleeper.stdout.readline() == "claimed\n"
    deadline = time.monotonic() + 120

    def wait_until(happened) -> None:
        while not happened():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    path = tmp_path / "job.claim-1"
    first = os.stat(path).st_mtime_ns
    wait_until(lambda: os.stat(path).st_mtime_ns > first)  # it beats
    sleeper.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(claims, "LIMIT", 0.45)
    wait_until(lambda: not history(base).running)
    assert history(base).deaths == 1
    assert take(base) is not None
    monkeypatch.undo()
    sleeper.send_signal(signal.SIGCONT)
    _, told = sleeper.communicate("go on\n")
    assert sleeper.returncode == 1 and "another process has taken this job over" in told
    assert names(tmp_path) == ["job.claim-1", "job.claim-2"]
    assert history(base).running


def test_a_process_that_wakes_in_time_keeps_its_job(tmp_path):
    base = tmp_path / "job"
    sleeper = asleep(base)
    stop_heart(tmp_path / "job.claim-1", LIMIT - 30)
    assert take(base) is None
    sleeper.send_signal(signal.SIGCONT)
    assert sleeper.communicate("go on\n") == ("", "") and sleeper.returncode == 0
    assert names(tmp_path) == ["job.claim-1", "result.json"]


def test_a_process_of_this_machine_that_has_ended_need_not_be_waited_for(tmp_path):
    base = tmp_path / "job"
    call = f"from pathlib import Path; from runs.claims import take; take(Path({str(base)!r}))"
    subprocess.run([sys.executable, "-c", call], cwd=ROOT, check=True)
    found = history(base)
    assert not found.running and found.deaths == 1
    if os.path.exists("/proc/self/stat"):
        claim = take(base)
        assert claim is not None and claim.number == 2


def test_clocks_of_machines_may_differ(tmp_path, monkeypatch):
    base = tmp_path / "job"
    clock = time.time
    for hours in (-1, 1):
        monkeypatch.setattr(time, "time", lambda hours=hours: clock() + 3600 * hours)
        claim = take(base)
        assert claim is not None
        stop_heart(claim.path, 0)  # its process cannot be asked
        since = json.loads(claim.path.read_text())["since"]
        assert abs(since - file_time(tmp_path)) < 1800  # no clock of a machine
        assert history(base).running and take(base) is None
        stop_heart(claim.path)
        assert not history(base).running  # an hour is no age of a heart, nor does it hide one
        stop_heart(claim.path, -2 * LIMIT)
        monkeypatch.undo()
        assert history(base).running and take(base) is None
        claim.remove()


def test_a_heart_beats_while_a_job_runs_and_guards_what_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.01)
    claim = take(tmp_path / "job")
    assert claim is not None
    stop_heart(claim.path)
    assert not history(tmp_path / "job").running
    before = list(GUARDS)
    log = MetricsLog(str(tmp_path), 0)
    with claim.beating():
        deadline = time.monotonic() + 60
        while not history(tmp_path / "job").running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        log.write(1, "train", {"loss": 1.0})
        with atomic_open(tmp_path / "kept") as file:
            file.write("kept")
        assert Claim.current is claim
        (tmp_path / "job.claim-2").touch()
        with pytest.raises(ClaimLost, match="has taken this job over"):
            log.write(2, "train", {"loss": 0.5})
        with pytest.raises(ClaimLost), atomic_open(tmp_path / "kept") as file:
            file.write("changed")
    assert before == GUARDS and Claim.current is None
    assert (tmp_path / "kept").read_text() == "kept"
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    claim.end(FAILED)  # says nothing of a claim that is lost
    assert os.stat(claim.path).st_mtime > FAILED


@given(st.lists(st.sampled_from(["failed", "given back", "died", "reset"]), max_size=6))
def test_claims_tell_how_often_a_job_was_tried(tmp_path_factory, ends):
    base = tmp_path_factory.mktemp("claims") / "job"
    failures = deaths = 0
    for end in ends:
        if end == "reset":
            reset(base)
            failures = deaths = 0
            continue
        claim = take(base)
        assert claim is not None
        if end == "died":
            stop_heart(claim.path)
        else:
            claim.end(FAILED if end == "failed" else GIVEN_BACK)
        failures += end == "failed"
        deaths += end == "died"
    found = history(base)
    assert (found.failures, found.deaths, found.running) == (failures, deaths, False)
    claim = take(base)
    assert claim is not None
    found = history(base)
    assert (found.failures, found.deaths, found.running) == (failures, deaths, True)
    reset(base)  # not while it runs
    assert history(base).running and (history(base).failures, history(base).deaths) == (
        failures,
        deaths,
    )
    claim.remove()
    assert names(base.parent) == []


@pytest.mark.parametrize("error", [PermissionError(1, "no links"), OSError(5, "lost answer")])
def test_without_links_a_claim_is_made_all_the_same(tmp_path, monkeypatch, error):
    link = os.link

    def refuse(source, target):
        if error.errno == 5:  # it is made, and the answer does not come
            link(source, target)
        raise error

    monkeypatch.setattr(os, "link", refuse)
    claim = take(tmp_path / "job")
    assert claim is not None and take(tmp_path / "job") is None
    assert json.loads(claim.path.read_text())["pid"] == os.getpid()
    claim.end(FAILED)
    reset(tmp_path / "job")
    assert history(tmp_path / "job").failures == 0
    assert names(tmp_path) == ["job.claim-1", "job.claim-2"]


def test_the_time_is_that_of_the_file_system(tmp_path):
    (tmp_path / "before").touch()
    now = file_time(tmp_path)
    (tmp_path / "after").touch()
    before, after = (os.stat(tmp_path / name).st_mtime for name in ("before", "after"))
    assert before <= now <= after and names(tmp_path) == ["after", "before"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(Exception, match="cannot write .*missing.*: No such file or directory"):
        take(tmp_path / "missing" / "job")
