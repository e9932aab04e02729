"""Run the jobs of a study side by side, one at each place, beside others that do the same."""

import math
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from dassl.utils import UserError, progress
from runs import command
from runs.claims import DEATHS, History, history, reset
from runs.failures import DATA, LASTING, REFUSED, kind_of
from runs.jobs import Job, dataset_problem
from runs.results import writing
from runs.run_job import Seen, check_done
from runs.worker import INTERRUPTED, TAKEN
from tools.studies.file import Study
from tools.studies.processes import GRACE_SECONDS, Seat, end_all, places, readable
from tools.studies.report import duration, say, table, tell_failures
from tools.studies.state import (
    Failure,
    claim_path,
    failure,
    give_up,
    log_folder,
    log_path,
    refuse,
    task,
)

POLL_SECONDS = 0.1  # at most, until an answer of a worker
LOOK_SECONDS = 2.0  # from one look at what others do to the next
QUICK_SECONDS, QUICK_FAILURES = 60.0, 3  # so many such failures in a row: the machine is broken


@dataclass(frozen=True)
class Rules:
    """How the jobs of a study are run here.

    Attributes:
        fresh: start a process for each job.
        minutes: that a job may take; then it is ended, and has failed.
        retries: how often a job that failed is tried again.
        pulls: this is one of several commands on the study: it leaves when no job is open any more,
            leaves failures of before as they are, and takes no more jobs where each fails at once.
    """

    fresh: bool = False
    minutes: float = math.inf
    retries: int = 0
    pulls: bool = False


def run(study: Study, jobs: int = 0, rules: Rules = Rules()) -> None:
    """Run what is not done; a job that fails does not stop the others.

    Args:
        study: the study.
        jobs: how many at a time; 0: one for each GPU, or one without GPUs.
        rules: see there.

    Raises:
        SystemExit: code 1 if a job failed, 130 after Ctrl-C or a request to terminate.
    """
    runner = Runner(study, places(jobs), rules)
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
    failed = {one.job for one in failures}  # what they found before may be of other images
    if not rules.pulls and any(job.found() for job in study.jobs if job not in failed):
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
        rules: see there.
    """

    def __init__(self, study: Study, at: Sequence[str | None], rules: Rules = Rules()):
        self.study, self.rules = study, rules
        self.seats = [Seat(place, len(at), rules.fresh) for place in at]
        self.queue: deque[Job] = deque()
        self.failures: list[Failure] = []
        self.interrupted = False
        self.finished = 0  # all that need no more waiting for, failed ones included
        self.started = time.monotonic()
        self.ran = 0  # in this sitting
        self._look_at = 0.0  # when to look next at what others do
        self._elsewhere = False  # said that others do jobs
        self._quick = 0  # failures in a row that took no time
        self._killed: Counter[Job] = Counter()

    def run(self) -> list[Failure]:
        """Run all jobs that are not done yet, unless interrupted."""
        with writing(log_folder(self.study) / "log", "another output folder (--output)"):
            pass
        jobs, self.failures = to_do(self.study)
        if not self.rules.pulls:
            for job in jobs:
                reset(claim_path(self.study, job))
                log_path(self.study, job, failed=True).unlink(missing_ok=True)
        self.queue.extend(jobs)
        self.finished = len(self.study.jobs) - len(jobs)
        self.started = time.monotonic()
        self._say_what_is_left(len(jobs))
        bar = progress.bar(total=len(self.study.jobs), initial=self.finished, unit="job")
        try:
            while (self.queue or self._busy()) and not self.interrupted:
                self._give()
                bar.update(self.finished - bar.n)
                bar.refresh()
                talking = [s.connection for s in self._busy() if s.connection is not None]
                readable(talking, POLL_SECONDS)
                self._collect()
            bar.update(self.finished - bar.n)
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

    def _give(self) -> None:
        """Give jobs to free places; those that others do are looked at again some later."""
        free = [seat for seat in self.seats if seat.job is None]
        if not free or time.monotonic() < self._look_at:
            return
        for _ in range(len(self.queue)):
            job = self.queue.popleft()
            open_, outcome = self._look(job)
            if outcome:
                self._tell(job, outcome)
            elif open_:
                seat = free.pop()
                seat.start(job, task(self.study, job))
                if not free:
                    return
            else:
                self.queue.append(job)
        self._look_at = time.monotonic() + LOOK_SECONDS
        if self.queue and not self._elsewhere:
            self._elsewhere = True
            left = "left to them" if self.rules.pulls else "waited for"
            say(f"{len(self.queue)} jobs are done by other processes, and {left}")
        if self.rules.pulls and not self._busy():
            self.queue.clear()

    def _look(self, job: Job) -> tuple[bool, str]:
        """Whether a job can be given to a worker; else what became of it, "" while others do it."""
        found = history(claim_path(self.study, job))
        if job.done():
            return False, f"{_found(job)}, by another process"
        if found.running:
            return False, ""
        told = log_path(self.study, job, failed=True).is_file()
        if found.deaths >= DEATHS:
            if told and not log_path(self.study, job).is_file():  # it was given up before
                return False, self._failed(failure(self.study, job))
            died = f"{DEATHS} processes that did it have died"
            return False, self._failed(give_up(self.study, job, died))
        if told and found.failures:
            failed = failure(self.study, job)
            if not self._again(failed, found):
                return False, self._failed(failed)
        return True, ""

    def _again(self, failed: Failure, found: History) -> bool:
        """Whether a job that has failed is tried again."""
        return found.failures <= self.rules.retries and failed.kind not in LASTING

    def _collect(self) -> None:
        """Take note of the jobs that have ended."""
        for seat in self._busy():
            job, seconds = seat.job, seat.seconds
            assert job is not None
            late = seconds - 60 * self.rules.minutes
            code = seat.poll()
            if code is None:
                if late > 0:
                    seat.stop(at_once=late > GRACE_SECONDS)
                continue
            self._look_at = 0.0
            if code == TAKEN or (self.interrupted and code == INTERRUPTED):
                self.queue.append(job)
                continue
            outcome, again = self._outcome(job, code, late > 0)
            if again:  # at the end, so that others may take it
                say(f"{job.name}: {outcome} ({duration(seconds)}), is tried again")
                self.queue.append(job)
            else:
                self.ran += 1
                self._tell(job, outcome, seconds)
            self._judge_machine(job, code, seconds)

    def _outcome(self, job: Job, code: int, late: bool) -> tuple[str, bool]:
        """What became of a job, in words, and whether it is tried again."""
        if code == 0 and job.done():
            return _found(job), False
        if late:
            minutes = f"{self.rules.minutes:g} minutes (--limit)"
            why = f"it took longer than {minutes}, and goes on if run again"
            return self._failed(give_up(self.study, job, why)), False
        found = history(claim_path(self.study, job))
        if code < 0:
            why = f"killed by signal {-code}"
            self._killed[job] += 1  # some before they could claim it
            if max(found.deaths, self._killed[job]) < DEATHS:
                return why, True
            full = " (as happens when the memory is full)" if -code == signal.SIGKILL else ""
            why = f"{why}, {DEATHS} times{full}"
            return self._failed(give_up(self.study, job, why)), False
        if not log_path(self.study, job, failed=True).is_file():
            # a worker that could not even begin, or was interrupted by others
            return self._failed(give_up(self.study, job)), False
        failed = failure(self.study, job)
        if self._again(failed, found):
            return f"{failed.kind or 'failed'}, {failed.error}", True
        return self._failed(failed), False

    def _failed(self, failed: Failure) -> str:
        """Note a failure; what is said of it."""
        self.failures.append(failed)
        return failed.said

    def _tell(self, job: Job, outcome: str, seconds: float | None = None) -> None:
        """Say what became of a job."""
        self.finished += 1
        took = "" if seconds is None else f" ({duration(seconds)}{self._left()})"
        say(f"[{self.finished}/{len(self.study.jobs)}] {job.name}: {outcome}{took}")

    def _judge_machine(self, job: Job, code: int, seconds: float) -> None:
        """Take no more jobs where each fails at once, as none would elsewhere that is refused."""
        if code and failure(self.study, job).kind == REFUSED:
            return
        self._quick = self._quick + 1 if code and seconds < QUICK_SECONDS else 0
        if self.rules.pulls and self._quick >= QUICK_FAILURES and self.queue:
            say(
                f"{self._quick} jobs in a row have failed here within {QUICK_SECONDS:g} s each: "
                f"no more are taken, {len(self.queue)} are left to other machines"
            )
            self.queue.clear()

    def _left(self) -> str:
        """The time that is left, from what the jobs took so far."""
        left = len(self.study.jobs) - self.finished
        if not left:
            return ""
        return f", {duration((time.monotonic() - self.started) / self.ran * left)} left"


def _found(job: Job) -> str:
    """The accuracies of a job that is done."""
    return ", ".join(f"{r['dataset']} {r['classes']} {r['accuracy']:.2f}%" for r in job.found())


def to_do(study: Study) -> tuple[list[Job], list[Failure]]:
    """The jobs that are left, and those that cannot be done: all others are done."""
    left, changed = _look_at_done(study)
    todo, unreadable = _look_at_data(study, left)
    return todo, changed + unreadable


def _look_at_done(study: Study) -> tuple[list[Job], list[Failure]]:
    """The jobs that are left; what is done with other settings or images is a failure."""
    left, failures = [], []
    seen = Seen()
    notes: list[str] = []
    for job in study.jobs:
        if not job.done():
            left.append(job)
            continue
        try:
            notes += check_done(job, seen)
            log_path(study, job, failed=True).unlink(missing_ok=True)
        except command.expected_errors() as error:
            failures.append(refuse(study, job, str(error), kind_of(error)))
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
            why = "cannot be used, " + "\n".join(found)
            failures.append(refuse(study, job, why, DATA))
        else:
            todo.append(job)
    unusable = ", ".join(dataset for dataset, problem in problems.items() if problem)
    if unusable:
        say(f"datasets that cannot be used: {unusable}; jobs that need them: {len(failures)}")
    return todo, failures
