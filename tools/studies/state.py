"""Where the jobs of a study stand, as their results, claims and logs tell.

A job's output goes to `<output>/studies/<study>/<job>.log`; it is named `<job>.failed.log` after a
failure. Who does a job claims it, with `<job>.claim-<n>` beside the log: see `runs.claims`.
"""

from dataclasses import dataclass
from pathlib import Path

from runs.claims import DEATHS, History, history
from runs.job_words import words_of
from runs.jobs import Job
from runs.worker import Task
from tools.studies.file import Study

STATES = ("done", "running", "failed", "stale", "cut off", "to do")


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


def claim_path(study: Study, job: Job) -> Path:
    """Where the claims of a job are, see `runs.claims.Claim`."""
    return log_path(study, job).with_suffix("")


def task(study: Study, job: Job) -> Task:
    """A job as a worker takes it."""
    return Task(
        words_of(job),
        str(log_path(study, job)),
        str(log_path(study, job, failed=True)),
        str(claim_path(study, job)),
        [str(test.results) for test in job.evaluations()],
    )


def state(study: Study, job: Job, now: float | None = None) -> str:
    """One of `STATES`; what was cut off, or is stale, resumes.

    Args:
        study, job: of it.
        now: see `runs.claims.file_time`.
    """
    found = history(claim_path(study, job), now)  # first: a job that ends now is done already
    return "done" if job.done() else state_of(study, job, found)


def state_of(study: Study, job: Job, found: History) -> str:
    """As `state`, of a job that is not done, whose claims are known."""
    if found.running:
        return "running"
    if log_path(study, job, failed=True).is_file():
        return "failed"
    if found.holder is not None and found.holder.quiet >= 0:
        return "stale"
    started = any((test.folder / "config.yaml").is_file() for test in job.evaluations())
    return "cut off" if started else "to do"


def give_up(study: Study, job: Job, why: str = "") -> Failure:
    """A job whose processes have died: its log is that of a failure, which says so."""
    log, failed = log_path(study, job), log_path(study, job, failed=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\nerror: {why or f'{DEATHS} processes that did it have died'}\n")
    log.replace(failed)
    return Failure(job, last_error(failed), failed)


def refuse(study: Study, job: Job, why: str) -> Failure:
    """A job that fails without being started, with a log that says why."""
    log = log_path(study, job, failed=True)
    log.write_text(f"error: {why}\n", encoding="utf-8")
    return Failure(job, last_error(log), log)
