"""Workers that are submitted: what is asked for, how they end, and how they are ended."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import threading
import time

import pytest

from dassl.utils import UserError
from runs.claims import history, take
from tools import study as command
from tools.studies import processes, runner, slurm, workers
from tools.studies.parameters import Parameters, read_parameters
from tools.studies.processes import Seat
from tools.studies.runner import Rules, Runner
from tools.studies.slurm import known_parameters
from tools.studies.state import claim_path, give_up, log_folder, state
from tools.studies.submitted import Worker
from tools.studies.workers import Submitted, shown

FAKES = {
    # keeps what is submitted, and says so as sbatch does, or refuses it
    "sbatch": """cat "$1" > {folder}/script; pwd > {folder}/place
[ -e {folder}/refuse ] && {{ echo "sbatch: error: Invalid account" >&2; exit 1; }}
echo "Submitted batch job $(cat {folder}/number)" """,
    "srun": "exit 1",
    "squeue": "cat {folder}/queue",
    "scancel": 'echo "$@" > {folder}/cancelled',
}

SENT_TO_ALL = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The commands of a Slurm that runs nothing: `script`, `cancelled`, `queue`, `number` in it."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in FAKES.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text.format(folder=folder)}\n")
        path.chmod(0o755)
    (folder / "number").write_text("12")
    (folder / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def call(write, data_root, tmp_path, capsys):
    """Call `tools.study` on a study of four jobs: its exit code, stdout and stderr."""
    path = write(protocols="base2new", datasets="shapes", seeds=[1, 2, 3, 4], methods="CoOp")

    def run(name: str, *words: str) -> tuple[int, str, str]:
        place = ["--data", str(data_root), "--output", str(tmp_path / "out")]
        code = 0
        try:
            command.main([name, str(path), *place, *words])
        except SystemExit as stop:
            code = stop.code
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def jobs(read, monkeypatch, tmp_path):
    """A study of jobs that `odd_jobs` does, one for each tag and seed."""
    monkeypatch.setattr(processes, "COMMAND", "tests.tools.studies.odd_jobs")
    monkeypatch.setenv("ODD_JOBS", str(tmp_path))

    def make(*tags: str, seeds=(1,)):
        methods = {"CoOp": {"variants": [{"tag": tag, "opts": {}} for tag in tags]}}
        return read(protocols="base2new", datasets="shapes", seeds=[*seeds], methods=methods)

    return make


@pytest.fixture
def signals():
    """The handlers of a process, put back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("texts", "given", "other"),
    [
        ([], {}, {}),
        (["partition=gpu,time=60"], {"partition": "gpu", "time": 60}, {}),
        (["partition=gpu", "time=60"], {"partition": "gpu", "time": 60}, {}),
        (["gres=gpu:a100:1"], {"gres": "gpu:a100:1"}, {}),
        (["exclude=n1,n2,qos=low"], {"exclude": "n1,n2", "qos": "low"}, {}),
        (["mem=16GB, cpus_per_task=8"], {"mem": "16GB", "cpus_per_task": 8}, {}),
        (["exclusive=True,use_srun=false"], {"exclusive": True, "use_srun": False}, {}),
        (["account=0012"], {"account": "0012"}, {}),
        (
            ["setup=export A=1,B=2", "setup=module load cuda"],
            {"setup": ["export A=1,B=2", "module load cuda"]},
            {},
        ),
        (["x.licenses=a:2,x.hold=true"], {}, {"licenses": "a:2", "hold": True}),
        (["max_num_timeout=0"], {"max_num_timeout": 0}, {}),
    ],
)
def test_parameters_are_read(texts, given, other):
    found = read_parameters(texts, known_parameters("slurm"))
    assert found == Parameters(given, other)
    # also of the same type: True is no 1
    assert [type(v) for v in found.given.values()] == [type(v) for v in given.values()]


@pytest.mark.parametrize(
    ("texts", "on", "told"),
    [
        (["gpu"], "slurm", "--slurm gpu: 'gpu', expected KEY=VALUE, as in partition=gpu,time=240"),
        ([""], "slurm", "'', expected KEY=VALUE"),
        (["=gpu"], "slurm", "'=gpu', expected KEY=VALUE"),
        (["partition=,time=5"], "slurm", "'partition=', expected KEY=VALUE"),
        (["partion=gpu"], "slurm", 'no parameter partion, do you mean "partition"? there'),
        (["licenses=a"], "slurm", "other options of sbatch: x.NAME=VALUE"),
        (["x.=a"], "slurm", "x. names no option of sbatch"),
        (["time=4:00:00"], "slurm", "time is 4:00:00, expected a whole number of minutes from 1"),
        (["time=240,"], "slurm", "time is 240,, expected a whole number of minutes from 1"),
        (["signal_delay_s=-1"], "slurm", "signal_delay_s is -1, expected a whole number from 0"),
        (["qos=a", "qos=b"], "slurm", "qos is given twice, a and b"),
        (["nodes=2"], "slurm", "nodes is not to be set, a worker is one process"),
        (["time=2"], "slurm", "2 minutes leave no time for a job"),
        (["time=10,signal_delay_s=600"], "slurm", "a worker ends 600 s (signal_delay_s) and 60 s"),
        (["partition=gpu"], "local", "no parameter partition; there are max_num_timeout, "),
    ],
)
def test_parameters_that_are_wrong_are_refused_before_anything_is_submitted(
    call, cluster, tmp_path, texts, on, told
):
    words = [word for text in texts for word in ("--slurm", text)]
    code, out, err = call("run", "--on", on, *words)
    assert code == 1 and told in err and err.startswith("error: --slurm")
    assert not (tmp_path / "out").exists() and not (cluster / "script").exists()


@pytest.mark.parametrize("words", [["--workers", "2"], ["--slurm", "time=5"], ["--follow"]])
def test_what_is_for_submitted_workers_needs_on(call, words):
    code, _, err = call("run", *words)
    assert code == 1
    assert err == f"error: {words[0]} is for workers that are submitted, with --on slurm\n"


def test_without_submitit_or_slurm_the_message_says_what_to_do(call, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    code, _, err = call("run", "--on", "slurm")
    assert code == 1 and "no Slurm here" in err and "--on local" in err
    monkeypatch.setitem(sys.modules, "submitit", None)
    code, _, err = call("run", "--on", "local")
    assert code == 1
    assert err == "error: --on needs submitit, which is not installed: pip install submitit\n"
    assert not (tmp_path / "out").exists()


def test_one_array_is_submitted_and_its_ids_are_kept(call, cluster, tmp_path):
    code, out, err = call(
        *("run", "--on", "slurm", "--workers", "3", "--retries", "2"),
        *("--slurm", "partition=gpu,time=60,gres=gpu:1,cpus_per_task=4,x.licenses=a"),
        *("--slurm", "setup=module load cuda"),
    )
    assert (code, err) == (0, "")
    script = (cluster / "script").read_text()
    for line in ("--array=0-2%3", "--partition=gpu", "--time=60", "--gres=gpu:1", "--licenses=a"):
        assert f"#SBATCH {line}\n" in script
    assert "#SBATCH --job-name=mine\n" in script and "#SBATCH --signal=USR2@90\n" in script
    assert "\nmodule load cuda\n" in script
    # srun takes the processors over only if told
    srun = next(line for line in script.splitlines() if line.startswith("srun"))
    assert "--cpus-per-task=4" in srun
    folder = tmp_path / "out" / "studies" / "mine"
    kept = json.loads((folder / "workers.json").read_text())
    assert kept == {"workers": [{"on": "slurm", "id": f"12_{n}", "host": ""} for n in range(3)]}
    assert "3 workers submitted to Slurm as 12_[0-2], 60 minutes each\n" in out
    place = f"{tmp_path / 'mine.yaml'} --data"
    assert f"python -m tools.study status {place}" in out and "no GPU" not in out
    assert f"python -m tools.study cancel {place}" in out
    from submitit.helpers import DelayedSubmission

    worker = DelayedSubmission.load(folder / "workers" / "12_1_submitted.pkl").function
    assert isinstance(worker, Worker) and worker.rules == Rules(retries=2, pulls=True)
    assert worker.seconds == 60 * 60 - 90 - 60
    assert worker.checkpoint().function == worker


def test_no_more_workers_than_jobs_are_submitted_and_those_that_ended_are_forgotten(
    call, cluster, tmp_path
):
    code, out, _ = call("run", "--on", "slurm", "--workers", "9", "--slurm", "time=60")
    assert code == 0 and "4 workers submitted to Slurm as 12_[0-3]" in out
    assert "no GPU is asked for" in out
    (cluster / "number").write_text("15")
    (cluster / "queue").write_text("12_1 RUNNING\n12_2 COMPLETING\n12_3 PENDING\n")
    code, out, _ = call("run", "--on", "slurm")
    assert code == 0 and "1 worker submitted to Slurm as 15, 240 minutes each" in out
    kept = json.loads((tmp_path / "out/studies/mine/workers.json").read_text())["workers"]
    assert [worker["id"] for worker in kept] == ["12_1", "12_3", "15"]


def test_what_sbatch_refuses_is_told_once(call, cluster, tmp_path):
    (cluster / "refuse").touch()
    code, _, err = call("run", "--on", "slurm", "--workers", "2")
    assert code == 1 and err == "error: nothing is submitted: sbatch: error: Invalid account\n"
    assert not (tmp_path / "out/studies/mine/workers.json").exists()


def test_workers_that_are_queued_or_running_are_cancelled(call, cluster):
    call("run", "--on", "slurm", "--workers", "3")
    (cluster / "queue").write_text("12_0 RUNNING\n12_2 PENDING\n7 RUNNING\n")
    code, out, err = call("cancel")
    assert (code, err) == (0, "") and out == "cancelled 2 workers of mine: 12_[0,2]\n"
    assert (cluster / "cancelled").read_text() == "12_0 12_2\n"
    (cluster / "queue").write_text("12_0 COMPLETING\n")
    code, out, err = call("cancel")
    assert code == 1 and "mine has no workers that are queued or running: " in err


def test_without_workers_there_is_nothing_to_cancel(call, tmp_path):
    code, _, err = call("cancel")
    assert code == 1 and "mine has no workers that are queued or running" in err
    assert not (tmp_path / "out").exists()


def test_processes_of_another_machine_are_named(read):
    study = read(protocols="base2new", datasets="shapes", methods="CoOp")
    # of this machine, but not a worker any more: the number is another process'
    here = Submitted("local", str(os.getpid()), platform.node())
    workers.remember(study, [Submitted("local", "1", "far"), here])
    with pytest.raises(UserError, match="no workers .* here; workers on far are cancelled there"):
        workers.cancel(study)
    assert workers.active(study) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"workers": [{"id": 1, "on": "slurm"}]}'])
def test_a_damaged_file_of_ids_is_named(read, content):
    study = read(protocols="base2new", datasets="shapes", methods="CoOp")
    path = workers.ids_path(study)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match=r"workers\.json is damaged"):
        workers.cancel(study)


def test_ids_are_shown_as_slurm_does():
    assert shown(["12_0", "12_1", "12_2", "12_5", "15", "16_3"]) == "12_[0-2,5], 15, 16_3"


def test_a_worker_takes_no_job_that_may_not_end_in_time(jobs, monkeypatch, capsys):
    study = jobs("a", "b", "c")
    monkeypatch.setattr(Seat, "seconds", property(lambda seat: 2e6))
    found = Runner(study, [None], Rules(pulls=True, until=time.monotonic() + 1e6))
    found.run()
    assert found.out_of_time and found.finished == 1 and not found.interrupted
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.endswith("and the longest job took 23 days, 3:33 h: no more jobs are taken")
    assert [state(study, job) for job in study.jobs] == ["failed", "to do", "to do"]


def test_a_worker_whose_time_is_over_stays_until_no_job_is_open(jobs):
    study = jobs("a")
    log_folder(study).mkdir(parents=True)
    assert take(claim_path(study, study.jobs[0])) is not None  # another process does it
    found = Runner(study, [None], Rules(pulls=True, until=0.0))
    found.run()
    assert not found.out_of_time


class Environment:
    """Stands for submitit's, which tells Slurm to queue a job again."""

    global_rank = 0

    def __init__(self) -> None:
        self.again = 0

    def _requeue(self, countdown: int) -> None:
        self.again += 1


@pytest.fixture
def submitted(jobs, tmp_path, signals):
    """Call a worker as submitit does: its exit code, how often it is queued again, as what."""
    from submitit.core.job_environment import SignalHandler
    from submitit.core.utils import DelayedSubmission, JobPaths

    def run(tag: str, send: int | None = None, seconds: float = 1e6):
        study = jobs(tag)
        first = study.jobs[0]
        worker = Worker(study.path, first.data, first.output, seconds)
        delayed, paths, environment = (
            DelayedSubmission(worker),
            JobPaths(tmp_path, "7"),
            Environment(),
        )
        delayed.set_timeout(240, 3)
        handler = SignalHandler(environment, paths, delayed)
        signal.signal(signal.SIGTERM, handler.bypass)
        signal.signal(signal.SIGUSR2, handler.checkpoint_and_try_requeue)

        def send_when_begun() -> None:
            while not (tmp_path / "begun").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), send)

        thread = threading.Thread(target=send_when_begun) if send else None
        if thread:
            thread.start()
        code: object = None
        try:
            delayed.result()
        except SystemExit as stop:
            code = stop.code
        if thread:
            thread.join()
        pickled = paths.submitted_pickle
        again = DelayedSubmission.load(pickled).function if pickled.exists() else None
        assert again in (None, worker)
        return study, code, environment.again, again

    return run


def test_a_worker_gives_its_job_back_and_is_queued_again(submitted, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 300.0)  # however busy the machine is
    study, code, count, again = submitted("is_interrupted", signal.SIGUSR2)
    assert (code, count) == (-1, 1) and again is not None
    assert (tmp_path / "ended").exists()
    found = history(claim_path(study, study.jobs[0]))
    assert (found.running, found.deaths, found.failures) == (False, 0, 0)
    assert found.holder is not None


def test_a_worker_that_is_cancelled_is_not_queued_again(submitted, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 300.0)
    study, code, count, again = submitted("is_interrupted", signal.SIGTERM)
    assert (code, count, again) == (130, 0, None)
    assert (tmp_path / "ended").exists()
    found = history(claim_path(study, study.jobs[0]))
    assert (found.running, found.deaths, found.failures) == (False, 0, 0)


def test_a_worker_without_time_is_queued_again_before_it_takes_a_job(submitted):
    study, code, count, again = submitted("a", seconds=0)
    assert (code, count) == (-1, 1) and again is not None
    assert state(study, study.jobs[0]) == "to do"


def test_a_worker_ends_well_when_no_job_is_left_even_if_one_has_failed(submitted):
    study, code, count, again = submitted("fails")
    assert (code, count, again) == (None, 0, None)
    assert state(study, study.jobs[0]) == "failed"


def test_a_job_gives_itself_back_whatever_signals_slurm_sends_to_all_processes(
    jobs, tmp_path, monkeypatch, capsys
):
    study = jobs("is_interrupted")
    found = Runner(study, [None], Rules(pulls=True))

    def send() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        (tmp_path / "begun").unlink()
        process = found.seats[0]._process
        while process.poll() is None:  # one alone may come just before a sleep begins
            for number in SENT_TO_ALL:
                process.send_signal(number)
            time.sleep(0.05)

    def send_twice() -> None:
        for _ in range(2):
            send()

    thread = threading.Thread(target=send_twice)
    thread.start()
    (failure,) = found.run()
    thread.join()
    assert failure.error == "error: asked to end by another process, 2 times"
    claims = history(claim_path(study, study.jobs[0]))
    assert (claims.deaths, claims.failures) == (0, 0)


def test_following_tells_what_failed_and_that_nobody_does_the_rest(read, capsys, monkeypatch):
    study = read(protocols="base2new", datasets="shapes", seeds=[1, 2], methods="CoOp")
    log_folder(study).mkdir(parents=True)
    give_up(study, study.jobs[0], "no luck")
    with pytest.raises(UserError, match="1 of 2 jobs are left, and no worker is queued or running"):
        slurm.follow(study)
    give_up(study, study.jobs[1], "no luck")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        slurm.follow(study)
    told = capsys.readouterr()
    assert stop.value.code == 1 and "2 of 2 jobs failed" in told.err
    assert "[2/2] base2new shapes CoOp embedded, shots 16, seed 2: failed" in told.out


def test_following_may_be_left_and_the_workers_go_on(read, capsys, monkeypatch):
    study = read(protocols="base2new", datasets="shapes", seeds=1, methods="CoOp")
    monkeypatch.setattr(slurm.submitted, "active", lambda study: [Submitted("slurm", "12")])

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.time, "sleep", interrupt)
    with pytest.raises(SystemExit) as stop:
        slurm.follow(study)
    assert stop.value.code == 130
    assert "the workers go on; to end them: python -m tools.study cancel" in capsys.readouterr().err


def test_a_process_of_this_machine_does_a_study_until_it_is_cancelled(read, capfd, tmp_path):
    short = {"tag": "short", "opts": {"OPTIM.MAX_EPOCH": 1}}
    endless = {"tag": "endless", "opts": {"OPTIM.MAX_EPOCH": 100000}}
    methods = {"CoOp": {"variants": [short, endless]}}
    study = read(protocols="base2new", datasets="shapes", seeds=1, methods=methods)
    assert slurm.submit(study, "local", 1, ["time=60"], 0, Rules())
    (worker,) = workers.active(study)
    assert (
        f"1 worker submitted to this machine as {worker.id}, 60 minutes" in capfd.readouterr().out
    )
    assert (worker.on, worker.host) == ("local", platform.node())
    first, last = study.jobs
    while state(study, last) != "running":
        time.sleep(0.05)
    assert first.done()
    assert workers.cancel(study) == f"cancelled 1 worker of mine: {worker.id}"
    while workers.active(study):
        time.sleep(0.05)
    found = history(claim_path(study, last))
    assert (found.running, found.deaths, found.failures) == (False, 0, 0)
    log = workers.folder(study) / f"{worker.id}_0_log.out"
    assert f"[1/2] {first.name}: Shapes base" in log.read_text()
    assert capfd.readouterr().out == ""  # theirs is in files


def test_the_example_of_the_help_is_sound():
    text = "partition=gpu,time=240,gres=gpu:1"
    assert text in (command.__doc__ or "")
    assert read_parameters([text], known_parameters("slurm")).minutes == 240
    assert runner.Rules().until == float("inf")
