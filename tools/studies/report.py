"""What is said of a study: where it stands, its table, and what failed."""

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta

from tabulate import tabulate

from dassl.utils import UserError, progress
from runs.claims import History, file_time, history
from runs.folder import read_metrics, read_settings
from runs.jobs import Job
from tools.results import tables
from tools.studies.file import Study
from tools.studies.state import (
    STATES,
    Failure,
    claim_path,
    failure,
    log_folder,
    state_of,
)


def say(text: str) -> None:
    """Print a line at once, above a progress bar."""
    progress.write_beside_bars(sys.stdout, f"{text}\n")
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """As a person says it: 12 s, 3 min, 2:05 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{str(timedelta(seconds=round(seconds)))[:-3]} h"


def status(study: Study) -> str:
    """A line for each method on each dataset, with the state of each seed, and a summary.

    Then who does what, since when and how far; and what failed.
    """
    folder = log_folder(study)
    now = file_time(folder) if folder.is_dir() and os.access(folder, os.W_OK) else time.time()
    found = {job: history(claim_path(study, job), now) for job in study.jobs}
    states = {
        job: "done" if job.done() else state_of(study, job, claims) for job, claims in found.items()
    }
    seeds = sorted({job.seed for job in study.jobs})
    rows: dict[tuple, dict[int, str]] = defaultdict(dict)
    for job, word in states.items():
        key = (job.protocol, job.dataset, job.trainer, job.config_label, job.shots)
        rows[key][job.seed] = word
    headers = ["protocol", "dataset", "method", "config", "shots", *(f"seed {s}" for s in seeds)]
    body = [[*map(str, key), *(row.get(seed, "-") for seed in seeds)] for key, row in rows.items()]
    counts = Counter(states.values())
    summary = ", ".join(f"{counts[word]} {word}" for word in STATES if counts[word])
    lines = [tabulate(body, headers, disable_numparse=True), "", f"{len(states)} jobs: {summary}"]
    for word in ("running", "stale"):
        lines += [_who(job, found[job], now) for job in study.jobs if states[job] == word]
    for job in (job for job, word in states.items() if word == "failed"):
        failed = failure(study, job)
        lines += [f"{job.name}: {_reason(failed)}", f"    log: {failed.log}"]
    return "\n".join(lines)


def _who(job: Job, claims: History, now: float) -> str:
    """Who does a job, since when (`now` is the time of the file system), and how far it is."""
    holder = claims.holder
    assert holder is not None
    where = f"{holder.owner.get('host', 'unknown')} (process {holder.owner.get('pid', 'unknown')})"
    if not holder.alive:
        return f"{job.name}: stale, nothing heard of {where} for {duration(holder.quiet)}"
    since = max(0.0, now - float(holder.owner.get("since", now)))
    return f"{job.name}: on {where} for {duration(since)}{_progress(job)}"


def _progress(job: Job) -> str:
    """How far the training of a job is, and how long the rest takes."""
    trained = [line for line in read_metrics(job.folder) if line["split"] == "train"]
    last = (read_settings(job.folder / "config.yaml") or {}).get("OPTIM.MAX_EPOCH")
    if not trained or not isinstance(last, int):
        return ""
    epoch = max(line["epoch"] for line in trained)
    seconds = [s for line in trained if isinstance(s := line.get("seconds"), int | float)]
    left = sum(seconds) / max(len(seconds), 1) * (last - epoch)
    return f", epoch {epoch}/{last}" + (f", {duration(left)} left" if epoch < last else ", tested")


def watch(study: Study, seconds: float) -> None:
    """Show the status anew until no job is open or running; on a terminal in place."""
    while True:
        shown = status(study)
        clear = "\x1b[2J\x1b[H" if sys.stdout.isatty() else ""
        print(f"{clear}{shown}", flush=True)
        summary = shown.partition(" jobs: ")[2].partition("\n")[0]
        if not any(word in summary for word in ("running", "stale", "cut off", "to do")):
            return
        time.sleep(max(0.1, seconds))


def table(study: Study, options: Sequence[str] = (), without: Collection[Job] = ()) -> None:
    """Print the table of the results that are there; on stderr, how many jobs are missing.

    Args:
        study: the study.
        options: those of tools.tables, e.g. --format markdown.
        without: jobs that count as missing.

    Raises:
        UserError: there are no results, or they do not fit the options.
        SystemExit: the options are wrong.
    """
    found = {job: [] if job in without else job.found() for job in study.jobs}
    results = [one for several in found.values() for one in several]
    if not results:
        raise UserError(f"{study.path} has no results yet: python -m tools.study run {study.path}")
    args = tables.build_parser().parse_args([str(log_folder(study)), "--complete", *options])
    tables.deliver(args, results)
    missing = sum(len(several) < len(job.evaluations()) for job, several in found.items())
    if missing:
        print(f"{missing} of {len(study.jobs)} jobs are missing or not complete", file=sys.stderr)


def tell_failures(study: Study, failures: Sequence[Failure]) -> None:
    """Say on stderr which jobs failed: those of a kind and with an error together, and one log."""
    print(f"{len(failures)} of {len(study.jobs)} jobs failed:", file=sys.stderr)
    by_reason: dict[str, list[Failure]] = defaultdict(list)
    for one in sorted(failures, key=lambda one: one.kind):
        by_reason[_reason(one)].append(one)
    for reason, group in by_reason.items():
        others = f" and {len(group) - 1} more" if len(group) > 1 else ""
        print(f"  {group[0].job.name}{others}: {reason}", file=sys.stderr)
        print(f"    log: {group[0].log}", file=sys.stderr)


def _reason(failed: Failure) -> str:
    """Why a job failed, its kind first."""
    return f"{failed.kind}, {failed.error}" if failed.kind else failed.error
