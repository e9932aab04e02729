"""Run the jobs of a study side by side, one at each place."""

import math
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence

from dassl.utils import UserError, progress
from runs import command
from runs.folder import lock_folder
from runs.inputs import Inputs
from runs.jobs import Job, dataset_problem
from runs.run_job import check_done
from tools.studies.file import Study
from tools.studies.processes import GRACE_SECONDS, Seat, end_all, places, readable
from tools.studies.report import duration, say, table, tell_failures
from tools.studies.state import Failure, claim, last_error, log_folder, log_path, refuse

POLL_SECONDS = 0.1  # at most, until an answer of a worker
LOOK_SECONDS = 2.0  # a look at the state of a job locks its log for a moment


def run(study: Study, jobs: int = 0, fresh: bool = False, minutes: float = math.inf) -> None:
    """Run what is not done; a job that fails does not stop the others.

    Args:
        study: the study.
        jobs: how many at a time; 0: one for each GPU, or one without GPUs.
        fresh: start a process for each job.
        minutes: that a job may take; then it is ended, and has failed.

    Raises:
        SystemExit: code 1 if a job failed, 130 after Ctrl-C or a request to terminate.
    """
    runner = Runner(study, places(jobs), fresh, minutes)
    ends = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(end, runner.interrupt) for end in ends]
    try:
        failures = runner.run()
    finally:
        for end, handler in zip(ends, before, strict=True):
            signal.signal(end, handler)
    if runner.interrupted:
        print("interrupted: the same command continues where the jobs were", file=sys.stderr)
        raise SystemExit(130)
    failed = {failure.job for failure in failures}  # what they found before may be of other images
    if any(job.found() for job in study.jobs if job not in failed):
        try:
            table(study, without=failed)
        except UserError as error:  # what failed is said all the same
            print(f"error: {error}", file=sys.stderr)
    if failures:
        tell_failures(study, failures)
        raise SystemExit(1)


class Runner:
    """A queue of the jobs that are not done; tells how it goes on.

    Attributes:
        failures: the jobs that failed.
        interrupted: the run was asked to end before all was done.

    Args:
        study: the study.
        at: where jobs run side by side, see `places`.
        fresh, minutes: see `run`.
    """

    def __init__(
        self,
        study: Study,
        at: Sequence[str | None],
        fresh: bool = False,
        minutes: float = math.inf,
    ):
        self.study = study
        self.seats = [Seat(place, len(at), fresh) for place in at]
        self.minutes = minutes
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
            jobs, self.failures = to_do(self.study)
            self.finished = len(self.study.jobs) - len(jobs)
            self.started = time.monotonic()
            self._say_what_is_left(len(jobs))
            queue = deque(jobs)
            bar = progress.bar(total=len(self.study.jobs), initial=self.finished, unit="job")
            try:
                while (queue or self._busy()) and not self.interrupted:
                    free = [seat for seat in self.seats if seat.job is None]
                    for seat, job in zip(free, list(queue), strict=False):
                        queue.popleft()
                        if not self._start(job, seat):
                            queue.append(job)
                    self._collect()
                    bar.update(self.finished - bar.n)
                    bar.refresh()
                    talking = [s.connection for s in self._busy() if s.connection is not None]
                    readable(talking, POLL_SECONDS)
            finally:
                bar.close()
                end_all(self.seats)
        return self.failures

    def interrupt(self, *_: object) -> None:
        """End soon; a signal's handler, so that no job is lost by an exception in between."""
        self.interrupted = True

    def _busy(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.job is not None]

    def _say_what_is_left(self, count: int) -> None:
        gpus = ", ".join(dict.fromkeys(seat.place for seat in self.seats if seat.place))
        say(
            f"{self.study.name}: {len(self.study.jobs)} jobs, "
            f"{self.finished - len(self.failures)} done before, {count} to do, "
            f"{len(self.seats)} at a time on {f'GPU {gpus}' if gpus else 'CPU'}"
        )

    def _start(self, job: Job, seat: Seat) -> bool:
        """Start a job in a free seat; False if a process of a killed study still does it."""
        log = claim(log_path(self.study, job))
        if log is None:
            since = self.awaited.setdefault(job, time.monotonic())
            if since and time.monotonic() - since > LOOK_SECONDS:
                say(f"{job.name}: a process of before still does it, and is waited for")
                self.awaited[job] = 0.0  # said
            return False
        with log:
            if job in self.awaited and job.done():
                self.finished += 1
                return True
            log_path(self.study, job, failed=True).unlink(missing_ok=True)
            log.truncate(0)
            seat.start(job, log)
        return True

    def _collect(self) -> None:
        """Take note of the jobs that have ended."""
        for seat in self._busy():
            job, seconds = seat.job, seat.seconds
            assert job is not None
            late = seconds - 60 * self.minutes
            code = seat.poll()
            if code is None:
                if late > 0:
                    seat.stop(at_once=late > GRACE_SECONDS)
                continue
            self.finished += 1
            self.ran += 1
            outcome = self._outcome(job, code, late > 0)
            say(
                f"[{self.finished}/{len(self.study.jobs)}] {job.name}: {outcome} "
                f"({duration(seconds)}{self._left()})"
            )

    def _outcome(self, job: Job, code: int, late: bool) -> str:
        """What became of a job, in words; a failed one is noted."""
        log = log_path(self.study, job)
        if code == 0 and job.done():
            found = [f"{r['dataset']} {r['classes']} {r['accuracy']:.2f}%" for r in job.found()]
            return ", ".join(found)
        failed = log_path(self.study, job, failed=True)
        log.rename(failed)
        error = last_error(failed) if code >= 0 else f"killed by signal {-code}"
        if late:
            error = (
                f"it took longer than {self.minutes:g} minutes (--limit), and goes on if run again"
            )
        self.failures.append(Failure(job, error, failed))
        return f"FAILED, {error}"

    def _left(self) -> str:
        """The time that is left, from what the jobs took so far."""
        left = len(self.study.jobs) - self.finished
        if not left:
            return ""
        return f", {duration((time.monotonic() - self.started) / self.ran * left)} left"


def to_do(study: Study) -> tuple[list[Job], list[Failure]]:
    """The jobs that are left, and those that cannot be done: all others are done."""
    left, changed = _look_at_done(study)
    todo, unreadable = _look_at_data(study, left)
    return todo, changed + unreadable


def _look_at_done(study: Study) -> tuple[list[Job], list[Failure]]:
    """The jobs that are left; what is done with other settings or images is a failure."""
    left, failures = [], []
    seen: dict[str, Inputs | None] = {}
    notes: list[str] = []
    for job in study.jobs:
        if not job.done():
            left.append(job)
            continue
        try:
            notes += check_done(job, seen)
            log_path(study, job, failed=True).unlink(missing_ok=True)
        except command.expected_errors() as error:
            failures.append(refuse(study, job, str(error)))
    for note in dict.fromkeys(notes):
        say(f"Note: {note}")
    return left, failures


def _look_at_data(study: Study, jobs: list[Job]) -> tuple[list[Job], list[Failure]]:
    """The jobs whose datasets can be read; the others fail now, not after a start each."""
    problems: dict[str, str] = {}
    todo, failures = [], []
    for job in jobs:
        needed = list(dict.fromkeys(test.dataset for test in job.evaluations()))
        for dataset in needed:
            if dataset not in problems:
                problems[dataset] = dataset_problem(dataset, job.data)
        found = [f"{dataset}: {problems[dataset]}" for dataset in needed if problems[dataset]]
        if found:
            failures.append(refuse(study, job, "cannot be used, " + "\n".join(found)))
        else:
            todo.append(job)
    unusable = ", ".join(dataset for dataset, problem in problems.items() if problem)
    if unusable:
        say(f"datasets that cannot be used: {unusable}; jobs that need them: {len(failures)}")
    return todo, failures
