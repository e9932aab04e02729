"""Processes for jobs, each at a place: a GPU, or the CPU."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from runs import worker
from runs.config import REPOSITORY
from runs.jobs import Job

COMMAND = "tools.protocol"
GRACE_SECONDS = 10.0  # for a job to end after an interrupt


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


class Seat:
    """A place where one job runs at a time, in a process that stays, or in one of its own.

    Attributes:
        place: one of `places`.
        job: what runs here; None when the seat is free.
        seconds: since it was started.

    Args:
        place: see above.
        at_a_time: how many jobs share the CPU.
        fresh: each job has a process of its own.
    """

    def __init__(self, place: str | None, at_a_time: int = 1, fresh: bool = False):
        self.place, self.at_a_time, self.fresh = place, at_a_time, fresh
        self.job: Job | None = None
        self.connection: socket.socket | None = None  # to a worker, where there is one
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._stopped = False

    @property
    def seconds(self) -> float:
        """See the class."""
        return time.monotonic() - self._started

    def start(self, job: Job, task: worker.Task) -> None:
        """Give a job to the worker of this place; it is answered by `poll`."""
        self.job, self._started, self._stopped = job, time.monotonic(), False
        if not self._stays(task):
            self._dismiss()
            self.connection, other = socket.socketpair()
            with other, open(task.log, "ab") as log:  # until the worker itself can write
                words = [str(other.fileno()), COMMAND, *(["--once"] if self.fresh else [])]
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "runs.worker", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[other.fileno()],
                    env=_environment(self.place, self.at_a_time),
                )
            self._send(task)  # one that died at once is noticed as all that die

    def _stays(self, task: worker.Task) -> bool:
        """Whether the worker of the job before has taken this one."""
        if self.connection is None or self._process is None or self._process.poll() is not None:
            return False
        if not self._send(task):
            return False
        # one that is about to end takes no more; one that is only slow says so later
        told = readable([self.connection], GRACE_SECONDS)
        return not told or worker.answer(self.connection) == worker.BEGUN

    def _send(self, task: worker.Task) -> bool:
        assert self.connection is not None
        try:
            task.send(self.connection)
        except ConnectionError:
            return False
        return True

    def poll(self) -> int | None:
        """The exit code of a job that has ended, negative for a signal; the seat is free then."""
        assert self._process is not None
        code = None
        if self.connection is not None and readable([self.connection], 0):
            code = worker.answer(self.connection)
            if code == worker.BEGUN:
                return None
            if code is None:
                self._close()
        if code is None:  # the end of a worker ends its job, whoever else holds its connection
            code = self._process.poll()
            if code is not None:
                self._close()
        if code is not None:
            self.job = None
        return code

    def stop(self, at_once: bool = False) -> None:
        """Ask the job to end, once, as Ctrl-C does, or kill its process."""
        if self._process is not None and (at_once or not self._stopped):
            self._process.send_signal(signal.SIGKILL if at_once else signal.SIGINT)
        self._stopped = True

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _dismiss(self) -> None:
        """Let go of a worker that takes no more jobs."""
        self._close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def leave(self, deadline: float) -> None:
        """End the process: one that has nothing to do at once, else after `stop`.

        Args:
            deadline: of the monotonic clock; then it is killed.
        """
        self._close()
        if self._process is None:
            return
        left = deadline - time.monotonic()
        # Python can lose an interrupt
        for again in (signal.SIGINT, signal.SIGKILL):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, left / 2))
                return
            self._process.send_signal(again)
        self._process.wait()


def readable(connections: Sequence[socket.socket], seconds: float) -> list[socket.socket]:
    """Those that can be read, or have ended, as soon as there is one or the time is over."""
    return select.select(connections, [], [], seconds)[0]


def _environment(place: str | None, at_a_time: int) -> dict[str, str]:
    """Variables of a job's process."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # a log is read as UTF-8
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    # an empty entry would be the working folder, whose files are nobody's modules
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *filter(None, known)])
    if place is not None:
        environment["CUDA_VISIBLE_DEVICES"] = place
    elif at_a_time > 1:
        share = max(1, (os.cpu_count() or 1) // at_a_time)
        environment.setdefault("OMP_NUM_THREADS", str(share))
    return environment


def end_all(seats: Sequence[Seat]) -> None:
    """End the jobs that still run: each can be resumed."""
    for seat in seats:
        if seat.job is not None:
            seat.stop()
    deadline = time.monotonic() + GRACE_SECONDS
    for seat in seats:
        seat.leave(deadline)
