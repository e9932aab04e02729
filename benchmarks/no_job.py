"""Stands for `tools.protocol` in a worker: a job that only writes its results, and what that took.

The files are those of a run, with the settings and images of the job; accuracies are made up.
"""

import time
from collections.abc import Sequence

import yaml

from runs.config import dataset_label
from runs.folder import RunFolder
from runs.inputs import look
from runs.job_words import read_jobs
from runs.jobs import Job
from runs.results import write_atomically
from runs.run_job import Seen

TOOK = "took "


def write_done(job: Job, seen: Seen) -> None:
    """Write what a job leaves that is done.

    Args:
        job: it learns.
        seen: what was looked at for other jobs.
    """
    source = ""
    for number, test in enumerate(job.evaluations()):
        trains = not number
        cfg = seen.settings(job, test, source)
        folder = RunFolder(cfg, evaluate_only=not trains)
        key = f"{cfg.DATASET} {cfg.SEED} {trains}"
        if key not in seen.inputs:
            seen.inputs[key] = look(cfg, trains)
        inputs = seen.inputs[key]
        assert inputs is not None  # embedded ones are made
        if trains:
            told = yaml.safe_dump(folder.settings | inputs.trained, sort_keys=True)
            write_atomically(folder.path / "config.yaml", told)
        figures = {"accuracy": 50 + job.seed % 7 + number, "macro_f1": 50.0, "ece": 3.0, "nll": 1.0}
        source = source or dataset_label(cfg)
        folder.write_results(
            folder.results(
                {
                    **{"source": source, "total": 200, "correct": 100, "num_classes": 20},
                    **{"epoch": 10, "checkpoint": "0" * 12, "device": "cpu", "memory": {}},
                    "classnames": [f"class {label}" for label in range(20)],
                    "seconds": {"train": 0.0, "total": 0.0},
                    **figures,
                    **inputs.tested,
                }
            )
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Do the jobs of the words."""
    started = time.perf_counter()
    for job in read_jobs(argv, __doc__):
        write_done(job, Seen())
    print(f"{TOOK}{time.perf_counter() - started:.6f} s", flush=True)
