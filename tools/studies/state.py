"""Where the jobs of a study stand, as their results, claims and logs tell.

A job's output goes to `<output>/studies/<study>/<job>.log`; it is named `<job>.failed.log` after a
failure. Who does a job claims it, with `<job>.claim-<n>` beside the log: see `runs.claims`.
"""

from dataclasses import dataclass
from pathlib import Path

from runs.claims import History, history
from runs.failures import MARK, OTHER, told
from runs.job_words import words_of
from runs.jobs import Job
from runs.worker import Task
from tools.studies.file import Study

STATES = ("done", "running", "failed", "stale", "cut off", "to do")


@dataclass(frozen=True)
class Failure:
    """A job that failed.

    Attributes:
        error: what its log says from the last `error:` on, else its last line.
        log: where all its output is.
        kind: see `runs.failures`.
    """

    job: Job
    error: str
    log: Path
    kind: str = OTHER

    @property
    def said(self) -> str:
        """What is said of it."""
        return f"FAILED{f' ({self.kind})' if self.kind else ''}, {self.error}"


def log_folder(study: Study) -> Path:
    """Where the logs of a study are."""
    return study.jobs[0].output / "studies" / study.name


def log_path(study: Study, job: Job, failed: bool = False) -> Path:
    """The log of a job."""
    parts = job.folder.relative_to(job.output).parts
    return log_folder(study) / f"{'-'.join(parts)}{'.failed' if failed else ''}.log"


def failure(study: Study, job: Job) -> Failure:
    """A job that has failed, as the log of its failure tells."""
    log = log_path(study, job, failed=True)
    kind, text = told(_text(log) or "")
    return Failure(job, last_error(text), log, kind)


def last_error(text: str) -> str:
    """What a log says from the last `error:` on, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it wrote nothing"]
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return " ".join(lines[errors[-1] if errors else -1 :])


def _text(log: Path) -> str | None:
    """The content of a log; None if there is none."""
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


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
    """A job that its process did not end itself: its log is that of a failure, which says so.

    Args:
        study, job: of it.
        why: in words; empty: what the log says.
    """
    log = log_path(study, job)
    why = why or last_error(_text(log) or "")
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\nerror: {why.removeprefix('error: ')}\n")
    log.replace(log_path(study, job, failed=True))
    return failure(study, job)


def refuse(study: Study, job: Job, why: str, kind: str) -> Failure:
    """A job that fails without being started, with a log that says why."""
    log = log_path(study, job, failed=True)
    log.write_text(f"error: {why}\n{MARK}{kind}\n", encoding="utf-8")
    return failure(study, job)
