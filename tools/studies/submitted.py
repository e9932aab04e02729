"""The worker of a study as submitit runs it: it ends in time, and is queued again."""

import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from runs import command
from tools.studies.file import read_study
from tools.studies.processes import places
from tools.studies.report import say
from tools.studies.runner import Rules, Runner, carry_out


@dataclass(frozen=True)
class Worker:
    """Does what `tools.study work` does, until its time is over.

    Called by submitit in a process of its own. When its time is over, or Slurm takes its place for
    others, it gives its job back first, and is then queued again.

    Attributes:
        file: of the study.
        data: folder of the datasets.
        output: folder of all runs.
        seconds: that it has for jobs.
        jobs: at a time; 0: one for each GPU that it sees.
        rules: as for `tools.study work`.
        gpu: that it takes, where nobody else gives it one.
    """

    file: Path
    data: Path
    output: Path
    seconds: float
    jobs: int = 0
    rules: Rules = Rules(pulls=True)
    gpu: str | None = None

    def __call__(self) -> None:
        """Do jobs.

        Raises:
            SystemExit: it is queued again, or was asked to end (130), or cannot begin (1).
        """
        until = time.monotonic() + self.seconds
        asked = _Asked()
        # threads that wait must not spin, see `command.run`
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if self.gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        with command.mistakes_told():
            study = read_study(self.file, self.data, self.output)
            runner = Runner(study, places(self.jobs), replace(self.rules, until=until))
        asked.begin(runner)
        code: Any = 0
        try:
            carry_out(runner)
        except SystemExit as stop:  # 1: a job has failed, which its log and the status tell
            code = stop.code
        if asked.again or runner.out_of_time:
            say("this worker is queued again")
            asked.queue_again()
        if code == 130:
            raise SystemExit(code)

    def checkpoint(self) -> Any:
        """What is queued again, a `DelayedSubmission`: the same; jobs tell how far they are."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class _Asked:
    """What signals have asked of a worker.

    submitit's own way is to queue a worker again at once, in the handler of its signal. Here the
    job is ended first, as Slurm kills all that still runs then.

    Attributes:
        again: to be queued again.
    """

    def __init__(self) -> None:
        self.again = False
        self._runner: Runner | None = None
        self._number = _signal_of_submitit()
        self._queue_again = signal.getsignal(self._number)
        signal.signal(self._number, self._end_and_queue)
        signal.signal(signal.SIGTERM, _end)  # submitit goes on, until it is killed

    def begin(self, runner: Runner) -> None:
        """From now on let this one end its jobs."""
        self._runner = runner
        if self.again:
            runner.interrupt()

    def _end_and_queue(self, *_: object) -> None:
        self.again = True
        if self._runner is not None:
            self._runner.interrupt()

    def queue_again(self) -> None:
        """Let submitit do it; it ends this process, and so would Slurm."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(self._number, signal.SIG_IGN)
        sys.stdout.flush()
        if callable(self._queue_again):
            self._queue_again(self._number, None)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _signal_of_submitit() -> signal.Signals:
    """By which it is told that its time is over."""
    from submitit.core.job_environment import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
