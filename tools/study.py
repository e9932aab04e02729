"""Run a whole study, see where it stands, and show its table.

    python -m tools.study run configs/studies/embedded_base2new.yaml
    python -m tools.study status configs/studies/embedded_base2new.yaml
    python -m tools.study table configs/studies/embedded_base2new.yaml [-- options of tools.tables]

A study is a YAML file with methods, datasets, seeds and protocols. Its jobs run one after another,
or one on each GPU. Started again, it skips what is done and resumes what was cut off.
docs/protocols.md explains the file.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from dassl.utils import UserError
from runs import command
from runs.config import REPOSITORY
from tools import tables
from tools.studies.file import Study, read_study
from tools.studies.runner import Failure, Runner, last_error, log_path, places, state

STATES = ("done", "running", "failed", "cut off", "to do")


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.study")
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "run": "run what is not done yet",
        "status": "show where the study stands",
        "table": "show the results that are there",
    }
    for name, text in texts.items():
        action = commands.add_parser(name, help=text)
        add = action.add_argument
        add("file", type=Path, help="e.g. configs/studies/base2new.yaml")
        add("--data", type=Path, default=REPOSITORY / "data", help="folder of the datasets")
        add("--output", type=Path, default=REPOSITORY / "output", help="folder of all runs")
        if name == "run":
            add("--jobs", type=int, default=0, help="jobs at a time (default: one for each GPU)")
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    Raises:
        SystemExit: code 1 after a message on stderr, also if a job failed; 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    args, options = build_parser().parse_args(words[:at]), words[at + 1 :]
    if options and args.command != "table":
        raise UserError(f"{args.command} has no {' '.join(options)}: settings are in the file")
    study = read_study(args.file, args.data, args.output)
    if args.command == "run":
        if args.jobs < 0:
            raise UserError(f"--jobs is {args.jobs}, expected at least 1")
        run(study, args.jobs)
    elif args.command == "status":
        print(status(study))
    else:
        table(study, options)


def run(study: Study, jobs: int = 0) -> None:
    """Run what is not done; a job that fails does not stop the others.

    Args:
        study: the study.
        jobs: how many at a time; 0: one for each GPU, or one without GPUs.

    Raises:
        SystemExit: code 1 if a job failed, 130 after Ctrl-C or a request to terminate.
    """
    runner = Runner(study, places(jobs))
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
    if any(job.found() for job in study.jobs):
        with contextlib.suppress(SystemExit):  # it has said why there is no table
            table(study)
    if failures:
        print(f"{len(failures)} of {len(study.jobs)} jobs failed:", file=sys.stderr)
        by_error: dict[str, list[Failure]] = defaultdict(list)
        for failure in failures:
            by_error[failure.error].append(failure)
        for error, group in by_error.items():
            others = f" and {len(group) - 1} more" if len(group) > 1 else ""
            print(f"  {group[0].job.name}{others}: {error}", file=sys.stderr)
            print(f"    log: {group[0].log}", file=sys.stderr)
        raise SystemExit(1)


def status(study: Study) -> str:
    """A line for each method on each dataset, with the state of each seed, and a summary."""
    states = {job: state(study, job) for job in study.jobs}
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
    for job in (job for job, word in states.items() if word == "failed"):
        log = log_path(study, job, failed=True)
        lines += [f"{job.name}: {last_error(log)}", f"    log: {log}"]
    return "\n".join(lines)


def table(study: Study, options: Sequence[str] = ()) -> None:
    """Print the table of the results that are there; on stderr, how many jobs are missing.

    Args:
        study: the study.
        options: those of tools.tables, e.g. --format markdown.

    Raises:
        UserError: there are no results.
        SystemExit: the options are wrong.
    """
    folders = [str(job.folder) for job in study.jobs if job.found()]
    if not folders:
        raise UserError(f"{study.path} has no results yet: python -m tools.study run {study.path}")
    tables.main([*folders, *options])
    missing = sum(not job.done() for job in study.jobs)
    if missing:
        print(f"{missing} of {len(study.jobs)} jobs are missing or not complete", file=sys.stderr)


if __name__ == "__main__":
    command.run(main)
