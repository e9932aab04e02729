"""Jobs as processes of their own, each at a place: a GPU, or the CPU."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from runs.config import REPOSITORY
from runs.job_words import words_of
from runs.jobs import Job

GRACE_SECONDS = 10.0  # for a job to end after an interrupt


@dataclass(frozen=True)
class Running:
    """A job with its process, its place, and when it was started."""

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


def start(job: Job, place: str | None, log: IO[bytes], at_a_time: int) -> Running:
    """Start a job.

    Args:
        job: the job.
        place: one of `places`.
        log: where its output goes; the process has its own copy, and with it the lock.
        at_a_time: how many jobs share the CPU.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tools.protocol", *words_of(job)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=_environment(place, at_a_time),
    )
    return Running(job, place, process, time.monotonic())


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


def end_all(runs: Sequence[Running]) -> None:
    """End the jobs that still run: each can be resumed."""
    for run in runs:
        run.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    for run in runs:
        try:
            run.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            run.process.kill()
            run.process.wait()
