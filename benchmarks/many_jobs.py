"""A study of thousands of jobs: how long its commands take, and what each job costs beside itself.

    python -m benchmarks.many_jobs [--jobs 5000] [--runs 400] [--at-most 50]

The study has every protocol of one dataset and 25 settings of MoPD, in a temporary folder. Nine of
ten jobs are done, with the files that a run writes; some have failed, were cut off, or are claimed.

"plan" is what `run` does before its first job: the file is read, and what is done is compared with
the settings and images of now. Each command is timed as a person types it, the start of Python
included. The overhead is that of jobs that write their results and do nothing else
(`benchmarks.no_job`), through the real runner and worker: the time of `--runs` such jobs, less what
these jobs say that they took.
"""

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from benchmarks import measure
from benchmarks.no_job import TOOK, write_done
from runs import command
from runs.claims import take
from runs.config import REPOSITORY
from runs.run_job import Seen
from tools.studies import processes
from tools.studies.file import Study, read_study
from tools.studies.runner import Runner
from tools.studies.state import claim_path, log_folder, log_path

DATASETS, SHOTS, SETTINGS = ("shapes", "digits"), (1, 2, 4, 8), 25
OF_TEN = 9  # jobs that are done
PLAN = """
import sys
from pathlib import Path
from tools.studies.file import read_study
from tools.studies.runner import to_do
todo, failures = to_do(read_study(*map(Path, sys.argv[1:])))
print(len(todo), len(failures))
"""


def content(jobs: int) -> dict[str, Any]:
    """The study: base to new classes and few shots, so that some jobs have two results."""
    each = len(DATASETS) * (1 + len(SHOTS)) * SETTINGS  # of a seed
    knobs = [round(0.02 + 0.9 * i / SETTINGS, 3) for i in range(SETTINGS)]
    variants = [{"tag": f"alpha{knob}", "opts": {"TRAINER.MOPD.ALPHA": knob}} for knob in knobs]
    return {
        "protocols": {"base2new": {}, "fewshot": {"shots": list(SHOTS)}},
        "datasets": list(DATASETS),
        "methods": {"MoPD": {"variants": variants}},
        "seeds": list(range(1, max(1, round(jobs / each)) + 1)),
    }


def fill(study: Study) -> dict[str, int]:
    """Leave the files of jobs that are done, have failed, were cut off, and are claimed."""
    log_folder(study).mkdir(parents=True)
    counts = dict.fromkeys(("done", "failed", "cut off", "claimed", "to do"), 0)
    seen = Seen()
    for number, job in enumerate(study.jobs):
        if number % 10 < OF_TEN:
            write_done(job, seen)
            log_path(study, job).write_text("done\n")
            counts["done"] += 1
            continue
        kind = list(counts)[1 + number // 10 % (len(counts) - 1)]
        counts[kind] += 1
        if kind == "failed":
            log_path(study, job, failed=True).write_text("error: no luck\n")
        elif kind == "cut off":
            write_done(job, seen)
            for test in job.evaluations():
                test.results.unlink()
        elif kind == "claimed":
            take(claim_path(study, job))
    return counts


def seconds(words: Sequence[str]) -> tuple[float, float]:
    """What a program takes, its start included: by the clock, and of processors.

    Raises:
        SystemExit: it failed; what it said.
    """
    started, before = time.perf_counter(), processor_seconds()
    done = subprocess.run(
        [sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started, processor_seconds() - before


def processor_seconds() -> float:
    """Of all processes that this one has started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def overhead(file: Path, data: Path, output: Path, jobs: int) -> float:
    """Seconds for each of some jobs beside what the job itself takes, start of the worker excluded.

    Raises:
        SystemExit: not all jobs were done.
    """
    study = read_study(file, data, output)
    study = Study(study.path, study.jobs[: jobs + 1])
    before, processes.COMMAND = processes.COMMAND, "benchmarks.no_job"
    ends = []
    runner = Runner(study, [None])
    tell = runner._tell

    def note(*args: Any, **kwargs: Any) -> None:
        ends.append(time.perf_counter())
        tell(*args, **kwargs)

    runner._tell = note  # type: ignore[method-assign]
    try:
        with redirect_stdout(io.StringIO()):
            failures = runner.run()
    finally:
        processes.COMMAND = before
    if failures:
        raise SystemExit(f"{len(failures)} jobs failed, as {failures[0].error}")
    took = [
        float(log_path(study, job).read_text().partition(TOOK)[2].split()[0])
        for job in study.jobs[1:]
    ]
    return (ends[-1] - ends[0] - sum(took)) / len(took)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the study, time its commands and jobs, and print both.

    Raises:
        SystemExit: a command failed, or a job costs more than `--at-most`.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--jobs", type=command.count, default=5000, help="of the study, roughly")
    add("--runs", type=command.count, default=400, help="jobs whose overhead is measured")
    add("--at-most", type=float, metavar="MS", help="fail above this overhead of a job")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, data, output = folder / "many.yaml", folder / "data", folder / "output"
        file.write_text(yaml.safe_dump(content(args.jobs)))
        study = read_study(file, data, output)
        counts = fill(study)
        print(f"{len(study.jobs)} jobs: " + ", ".join(f"{n} {k}" for k, n in counts.items()))
        print(measure.hardware())
        places = [str(path) for path in (file, data, output)]
        words = [places[0], "--data", places[1], "--output", places[2]]
        timed = {
            "plan": seconds(["-c", PLAN, *places]),
            **{n: seconds(["-m", "tools.study", n, *words]) for n in ("status", "table")},
        }
        rows = [(name, *(f"{one:.1f}" for one in taken)) for name, taken in timed.items()]
        headers = ("command", "s", "of processors")  # the latter tell where others are busy
        print(tabulate(rows, headers=headers, disable_numparse=True))
        cost = 1000 * overhead(file, data, folder / "other", args.runs)
        print(f"overhead of a job: {cost:.1f} ms, of {args.runs} jobs")
    if args.at_most is not None and cost > args.at_most:
        raise SystemExit(f"expected at most {args.at_most:g} ms")


if __name__ == "__main__":
    command.run(main)
