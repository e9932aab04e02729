"""Run the jobs of a study as processes, one for each place: a GPU, or the CPU.

A job's output goes to `<output>/studies/<study>/<job>.log`; it is named `<job>.failed.log` after a
failure. The log is locked while the job runs, so others can see that it does.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from dassl.utils import progress
from runs.command import expected_errors
from runs.config import REPOSITORY
from runs.folder import RunFolder, lock_folder
from runs.jobs import Job, dataset_problem
from runs.run_job import settings
from tools.studies.file import Study

POLL_SECONDS = 0.1
LOOK_SECONDS = 2.0  # a look at the state of a job locks its log for a moment
GRACE_SECONDS = 10.0  # for a job to end after an interrupt


@dataclass(frozen=True)
class Failure:
    """A job that failed: its last error line, and where all its output is."""

    job: Job
    error: str
    log: Path


@dataclass
class _Running:
    job: Job
    place: str | None
    process: subprocess.Popen[bytes]
    started: float


def places(jobs: int) -> list[str | None]:
    """Where jobs run side by side: a GPU's name each, or None for the CPU.

    Args:
        jobs: how many at a time; 0: one for each GPU, or one without GPUs.
    """
    import torch  # slow to import

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(number) for number in range(count)]
    gpus = gpus[:count]  # none on a machine without GPUs, whatever the variable says
    if not gpus:
        return [None] * (jobs or 1)
    return [gpus[i % len(gpus)] for i in range(jobs or len(gpus))]


def log_folder(study: Study) -> Path:
    """Where the logs of a study are."""
    return study.jobs[0].output / "studies" / study.name


def log_path(study: Study, job: Job, failed: bool = False) -> Path:
    """The log of a job."""
    parts = job.folder.relative_to(job.output).parts
    return log_folder(study) / f"{'-'.join(parts)}{'.failed' if failed else ''}.log"


def last_error(log: Path) -> str:
    """Why a job failed: what its log says from the last `error:` on, else its last line."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    lines = [line.strip() for line in lines if line.strip()] or ["it wrote nothing"]
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return " ".join(lines[errors[-1] if errors else -1 :])


def running(log: Path) -> bool:
    """Whether a process holds the lock of a log."""
    try:
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def state(study: Study, job: Job) -> str:
    """`done`, `running`, `failed`, `cut off` (it resumes) or `to do`."""
    if job.done():
        return "done"
    if running(log_path(study, job)):
        return "running"
    if log_path(study, job, failed=True).is_file():
        return "failed"
    started = any((test.folder / "config.yaml").is_file() for test in job.evaluations())
    return "cut off" if started else "to do"


class Runner:
    """Runs what is not done, and tells how it goes on.

    Attributes:
        failures: the jobs that failed.
        interrupted: the run was asked to end before all was done.

    Args:
        study: the study.
        at: where jobs run side by side, see `places`.
    """

    def __init__(self, study: Study, at: Sequence[str | None]):
        self.study = study
        self.free = list(reversed(at))
        self.at_a_time = len(at)
        self.running: list[_Running] = []
        self.failures: list[Failure] = []
        self.interrupted = False
        self.awaited: dict[Job, float] = {}  # whose log is locked by others, since when
        self.finished = 0  # all that need no more waiting for, failed ones included
        self.started = time.monotonic()
        self.ran = 0  # in this sitting

    def run(self) -> list[Failure]:
        """Run all jobs that are not done yet, unless interrupted.

        Raises:
            UserError: another process runs the study.
        """
        with lock_folder(log_folder(self.study), "another output folder (--output)"):
            todo = deque(self._look_at_data(self._look_at_done()))
            self.started = time.monotonic()
            gpus = ", ".join(dict.fromkeys(place for place in reversed(self.free) if place))
            where = f"GPU {gpus}" if gpus else "CPU"
            self._say(
                f"{self.study.name}: {len(self.study.jobs)} jobs, "
                f"{self.finished - len(self.failures)} done before, "
                f"{len(todo)} to do, {self.at_a_time} at a time on {where}"
            )
            bar = progress.bar(total=len(self.study.jobs), initial=self.finished, unit="job")
            try:
                while (todo or self.running) and not self.interrupted:
                    for job in [todo.popleft() for _ in range(min(len(todo), len(self.free)))]:
                        if not self._start(job):
                            todo.append(job)
                    self._collect()
                    bar.update(self.finished - bar.n)
                    bar.refresh()
                    time.sleep(POLL_SECONDS)
            finally:
                bar.close()
                self._end_all()
        return self.failures

    def interrupt(self, *_: object) -> None:
        """End soon; a signal's handler, so that no job is lost by an exception in between."""
        self.interrupted = True

    def _look_at_done(self) -> list[Job]:
        """The jobs that are left; what is done with other settings is a failure."""
        todo = []
        for job in self.study.jobs:
            if not job.done():
                todo.append(job)
                continue
            try:
                RunFolder(settings(job, job.evaluations()[0]), not job.learns).check()
                log_path(self.study, job, failed=True).unlink(missing_ok=True)
            except expected_errors() as error:
                self._write_failure(job, f"error: {error}\n")
            self.finished += 1
        return todo

    def _look_at_data(self, jobs: list[Job]) -> list[Job]:
        """The jobs whose datasets can be read; the others fail now, not after a start each."""
        problems: dict[str, str] = {}
        todo = []
        for job in jobs:
            needed = list(dict.fromkeys(test.dataset for test in job.evaluations()))
            for dataset in needed:
                if dataset not in problems:
                    problems[dataset] = dataset_problem(dataset, job.data)
            found = [f"{dataset}: {problems[dataset]}" for dataset in needed if problems[dataset]]
            if not found:
                todo.append(job)
                continue
            self._write_failure(job, "error: cannot be used, " + "\n".join(found) + "\n")
            self.finished += 1
        unusable = [dataset for dataset, problem in problems.items() if problem]
        if unusable:
            failed = len(jobs) - len(todo)
            which = ", ".join(unusable)
            self._say(f"datasets that cannot be used: {which}; jobs that need them: {failed}")
        return todo

    def _write_failure(self, job: Job, text: str) -> None:
        log = log_path(self.study, job, failed=True)
        log.write_text(text, encoding="utf-8")
        self.failures.append(Failure(job, last_error(log), log))

    def _start(self, job: Job) -> bool:
        """Start a job in a free place; False if a process of a killed study still does it."""
        log = _open_locked(log_path(self.study, job))
        if log is None:
            since = self.awaited.setdefault(job, time.monotonic())
            if since and time.monotonic() - since > LOOK_SECONDS:
                self._say(f"{job.name}: a process of before still does it, and is waited for")
                self.awaited[job] = 0.0  # said
            return False
        if job in self.awaited and job.done():
            log.close()
            self.finished += 1
            return True
        place = self.free.pop()
        log_path(self.study, job, failed=True).unlink(missing_ok=True)
        log.truncate(0)
        with log:  # the process has its own copy, and with it the lock
            process = subprocess.Popen(
                [sys.executable, "-m", "tools.protocol", *job.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(place),
            )
        self.running.append(_Running(job, place, process, time.monotonic()))
        return True

    def _environment(self, place: str | None) -> dict[str, str]:
        """Variables of a job's process."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        known = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{known}" if known else str(REPOSITORY)
        if place is not None:
            environment["CUDA_VISIBLE_DEVICES"] = place
        elif self.at_a_time > 1:
            share = max(1, (os.cpu_count() or 1) // self.at_a_time)
            environment.setdefault("OMP_NUM_THREADS", str(share))
        return environment

    def _collect(self) -> None:
        """Take note of the jobs that have ended."""
        for run in list(self.running):
            code = run.process.poll()
            if code is None:
                continue
            self.running.remove(run)
            self.free.append(run.place)
            self.finished += 1
            self.ran += 1
            seconds = time.monotonic() - run.started
            outcome = self._outcome(run.job, code)
            self._say(
                f"[{self.finished}/{len(self.study.jobs)}] {run.job.name}: {outcome} "
                f"({_duration(seconds)}{self._left()})"
            )

    @staticmethod
    def _say(text: str) -> None:
        progress.write_beside_bars(sys.stdout, f"{text}\n")
        sys.stdout.flush()

    def _outcome(self, job: Job, code: int) -> str:
        """What became of a job, in words; a failed one is noted."""
        log = log_path(self.study, job)
        if code == 0 and job.done():
            found = [f"{r['dataset']} {r['classes']} {r['accuracy']:.2f}%" for r in job.found()]
            return ", ".join(found)
        failed = log_path(self.study, job, failed=True)
        log.rename(failed)
        error = last_error(failed) if code >= 0 else f"killed by signal {-code}"
        self.failures.append(Failure(job, error, failed))
        return f"FAILED, {error}"

    def _left(self) -> str:
        """The time that is left, from what the jobs took so far."""
        left = len(self.study.jobs) - self.finished
        if not left:
            return ""
        return f", {_duration((time.monotonic() - self.started) / self.ran * left)} left"

    def _end_all(self) -> None:
        """End the jobs that still run: each can be resumed."""
        for run in self.running:
            run.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + GRACE_SECONDS
        for run in self.running:
            try:
                run.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()


def _open_locked(path: Path) -> IO[bytes] | None:
    """A log that is locked as long as somebody has it open; None if another process has it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # also for a moment, when somebody looks at the job's state
        file.close()
        return None
    return file


def _duration(seconds: float) -> str:
    """As a person says it: 12 s, 3 min, 2:05 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{str(timedelta(seconds=round(seconds)))[:-3]} h"
