"""Where the jobs of a study stand, as their results and logs tell.

A job's output goes to `<output>/studies/<study>/<job>.log`; it is named `<job>.failed.log` after a
failure. Who runs a job claims it: the log is locked as long as the job runs.
"""

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runs.folder import try_lock
from runs.jobs import Job
from tools.studies.file import Study

STATES = ("done", "running", "failed", "cut off", "to do")


@dataclass(frozen=True)
class Failure:
    """A job that failed: its last error line, and where all its output is."""

    job: Job
    error: str
    log: Path


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


def claim(path: Path) -> IO[bytes] | None:
    """A log that is locked as long as somebody has it open; None if another process has it."""
    file = path.open("ab")
    if try_lock(file, fcntl.LOCK_EX):
        return file
    file.close()  # also for a moment, when somebody looks at the job's state
    return None


def running(log: Path) -> bool:
    """Whether a process holds the lock of a log."""
    try:
        with log.open("rb") as file:
            return not try_lock(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def state(study: Study, job: Job) -> str:
    """One of `STATES`; what was cut off resumes."""
    runs = running(log_path(study, job))  # first: a job that ends now is done already
    if job.done():
        return "done"
    if runs:
        return "running"
    if log_path(study, job, failed=True).is_file():
        return "failed"
    started = any((test.folder / "config.yaml").is_file() for test in job.evaluations())
    return "cut off" if started else "to do"


def refuse(study: Study, job: Job, why: str) -> Failure:
    """A job that fails without being started, with a log that says why."""
    log = log_path(study, job, failed=True)
    log.write_text(f"error: {why}\n", encoding="utf-8")
    return Failure(job, last_error(log), log)
