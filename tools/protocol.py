"""Run a whole protocol for one method, dataset and seed; what is done already is not done again.

    python -m tools.protocol base2new --trainer MoPD --dataset shapes --seed 1 [-- KEY VALUE ...]
    python -m tools.protocol fewshot --trainer CoOp --dataset shapes --seed 1 --shots 1,2,4
    python -m tools.protocol xd --trainer CoOp --dataset imagenet --seed 1 --targets dtd,eurosat

The scripts under `scripts/` call this. docs/protocols.md explains the protocols.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import train
from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from runs.config import REPOSITORY, dataset_label
from runs.folder import RunFolder
from runs.jobs import PROTOCOLS, Evaluation, Job
from tools.tables import run_table


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


def settings(job: Job, test: Evaluation, source: str = "") -> Any:
    """The configuration of one test of a job; `source` is that of the training, if another.

    Raises:
        UserError: see `runs.config.setup_cfg`.
    """
    only_tested = ["--eval-only"] if source or not job.learns else []
    words = [*only_tested, *job.arguments(test, source)]
    with redirect_stdout(io.StringIO()):  # the job itself says what it uses
        return train.setup_cfg(train.build_parser().parse_args(words))


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
        UserError: naming all that cannot be used, and why.
    """
    targets = [t for t in tests if t.dataset != job.dataset and not t.results.is_file()]
    problems = [problem for target in targets if (problem := _problem(job, target, source))]
    if problems:
        what = "1 target dataset" if len(problems) == 1 else f"{len(problems)} target datasets"
        raise UserError(f"nothing is run, {what} cannot be used:\n  " + "\n  ".join(problems))


def _problem(job: Job, target: Evaluation, source: str) -> str:
    """Why a target cannot be tested on; empty if it can."""
    try:
        cfg = settings(job, target, source)
        RunFolder(cfg, evaluate_only=True).check()
        with redirect_stdout(io.StringIO()):
            build_dataset(cfg)
    except train.EXPECTED_ERRORS as error:
        return f"{target.dataset}: {error}".replace("\n", "\n    ")
    return ""


def _run(*arguments: str) -> dict[str, Any]:
    results = train.run(train.build_parser().parse_args(arguments))
    assert results is not None  # TEST.NO_TEST is refused
    return results


def whole_numbers(text: str) -> tuple[int, ...]:
    """ "1,2,4" as (1, 2, 4)."""
    try:
        return tuple(int(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number, or some as 1,2,4") from None


def names(text: str) -> tuple[str, ...]:
    """ "a,b" as ("a", "b")."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.protocol",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("protocol", choices=sorted(PROTOCOLS))
    add("--trainer", required=True, help="name of the trainer, e.g. MoPD")
    add(
        "--dataset",
        required=True,
        help="stem of a file under configs/datasets, or folder:PATH or csv:PATH; it is trained on",
    )
    add("--seed", type=int, required=True)
    shots = "training images per class, one number or some as 1,2,4 (default: 16; fewshot: "
    add("--shots", type=whole_numbers, default=(), help=f"{shots}1,2,4,8,16)")
    targets = "datasets to test on with xd and dg, as dtd,eurosat (default: those of the protocol)"
    add("--targets", type=names, default=(), help=targets)
    add("--config", default="", help="stem of a file under configs/trainers/<trainer>")
    add("--data", type=Path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--output", type=Path, default=REPOSITORY / "output", help="folder of all runs")
    add("--tag", default="", help="appended to the configuration's name in the run's folder")
    add("opts", nargs="*", default=[], help="KEY VALUE pairs, as for train.py")
    return parser


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the protocol, print its table, and return the results.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # behind "--" come KEY VALUE pairs, whatever they begin with
    at = words.index("--") if "--" in words else len(words)
    args = vars(build_parser().parse_intermixed_args(words[:at]))
    args["opts"] = (*args["opts"], *words[at + 1 :])
    shots = args.pop("shots") or PROTOCOLS[args["protocol"]].shots
    jobs = [Job(**args, shots=number) for number in shots]
    try:
        for job in jobs:
            job.check()
        results = [result for job in jobs for result in run_job(job)]
        table = run_table([found for job in jobs for found in job.found()])
    except train.EXPECTED_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(table)
    return results


if __name__ == "__main__":
    train.command_line(main)
