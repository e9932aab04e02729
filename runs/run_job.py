"""The way of a job: train, then all tests of its protocol, but nothing that is done already."""

import io
from contextlib import redirect_stdout
from copy import copy
from dataclasses import replace
from typing import Any

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.errors import DatasetError
from runs.command import expected_errors
from runs.config import build_parser, dataset_label, setup_cfg
from runs.folder import RunFolder
from runs.inputs import Inputs, look
from runs.jobs import Evaluation, Job
from runs.protocols import PROTOCOLS
from runs.results import read_results
from runs.run import left_out, run


def run_job(job: Job) -> list[dict[str, Any]]:
    """Train, and do all tests of the protocol; a method that learns nothing is only tested.

    Returns:
        The results of all tests, that of the training first.

    Raises:
        UserError: see `Job.check`; a dataset that is to be tested cannot be used; or contexts of
            single classes, which other classes and datasets do not have.
    """
    job.check()
    first, *others = job.evaluations()
    if not job.learns:
        check_datasets(job, others)
        return [_run("--eval-only", *job.arguments(test)) for test in (first, *others)]
    cfg = settings(job, first)
    check_contexts(job, cfg)
    source = dataset_label(cfg)
    check_datasets(job, others, source)
    trained = _run(*job.arguments(first))
    model = ["--eval-only", "--model-dir", str(job.folder)]
    if cfg.TEST.FINAL_MODEL != "best_val":
        model += ["--load-epoch", str(trained["epoch"])]
    return [trained, *(_run(*model, *job.arguments(test, source)) for test in others)]


class Seen:
    """What was looked at for jobs that are done, so that jobs which share it read it once.

    Attributes:
        inputs: of a dataset as a job has it; None where its data is not.
    """

    def __init__(self) -> None:
        self.inputs: dict[str, Inputs | None] = {}
        self._settings: dict[tuple[Job, str, str, str], Any] = {}

    def settings(self, job: Job, test: Evaluation, source: str) -> Any:
        """As `settings`; what another seed had is taken from there."""
        key = (replace(job, seed=0), test.dataset, test.classes, source)
        if key not in self._settings:
            self._settings[key] = settings(job, test, source)
        cfg = copy(self._settings[key])  # what is in its sections is not changed
        cfg["SEED"], cfg["OUTPUT_DIR"] = job.seed, str(test.folder)
        return cfg


def check_done(job: Job, seen: Seen) -> list[str]:
    """Refuse results of a job that is done, if its settings or images are other ones now.

    Args:
        job: all its results are there.
        seen: what was looked at for other jobs.

    Returns:
        What the job asks for, and does not get, since its results exist.

    Raises:
        UserError: saying which differ, and what to do.
    """
    source, notes = "", []
    for test in job.evaluations():
        cfg = seen.settings(job, test, source)
        trains = job.learns and not source
        folder = RunFolder(cfg, evaluate_only=not trains)
        folder.check()
        key = f"{cfg.DATASET} {cfg.TEST} {cfg.SEED} {trains}"
        if key not in seen.inputs:
            seen.inputs[key] = look(cfg, trains)
        folder.check_inputs(read_results(folder.results_path) or {}, seen.inputs[key])
        source = source or (dataset_label(cfg) if job.learns else "")
        notes += left_out(folder)
    return notes


def settings(job: Job, test: Evaluation, source: str = "") -> Any:
    """The configuration of one test of a job; `source` is that of the training, if another.

    Raises:
        UserError: see `runs.config.setup_cfg`.
    """
    only_tested = ["--eval-only"] if source or not job.learns else []
    words = [*only_tested, *job.arguments(test, source)]
    with redirect_stdout(io.StringIO()):  # the job itself says what it uses
        return setup_cfg(build_parser().parse_args(words))


def check_contexts(job: Job, cfg: Any) -> None:
    """Refuse contexts of single classes where other classes are tested than were trained.

    Raises:
        UserError: naming the key.
    """
    node = job.trainer.upper()
    if len(job.evaluations()) > 1 and cfg.TRAINER.get(node, {}).get("CSC"):
        others = "new classes" if PROTOCOLS[job.protocol].targets is None else "other datasets"
        raise UserError(
            f"TRAINER.{node}.CSC True learns a context for each class of the training, and "
            f"{others} have none: {job.protocol} needs CSC False"
        )


def check_datasets(job: Job, tests: list[Evaluation], source: str = "") -> None:
    """Read every other dataset that is still to be tested, before anything is trained.

    Raises:
        DatasetError: naming all that cannot be used, and why.
    """
    targets = [t for t in tests if t.dataset != job.dataset and not t.results.is_file()]
    problems = [problem for target in targets if (problem := _problem(job, target, source))]
    if problems:
        what = "1 target dataset" if len(problems) == 1 else f"{len(problems)} target datasets"
        raise DatasetError(f"nothing is run, {what} cannot be used:\n  " + "\n  ".join(problems))


def _problem(job: Job, target: Evaluation, source: str) -> str:
    """Why a target cannot be tested on; empty if it can."""
    try:
        cfg = settings(job, target, source)
        RunFolder(cfg, evaluate_only=True).check()
        with redirect_stdout(io.StringIO()):
            build_dataset(cfg)
    except expected_errors() as error:
        return f"{target.dataset}: {error}".replace("\n", "\n    ")
    return ""


def _run(*arguments: str) -> dict[str, Any]:
    results = run(build_parser().parse_args(arguments))
    assert results is not None  # TEST.NO_TEST is refused
    return results
