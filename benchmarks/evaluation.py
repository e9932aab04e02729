"""Evaluating a trained prompt again and again: the plain way, ours at first, and ours again.

    python -m benchmarks.evaluation                     # CoOp on the embedded world's shapes
    python -m benchmarks.evaluation --trainer MoPD --dataset digits --runs 5

The plain way encodes every image each time, and the class names for every batch. Ours keeps image
features on disk: "first" fills an empty cache, "second" finds it filled. Every evaluation is a
process of its own, in turn; all must predict the same.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks import job, measure
from benchmarks.stages import TEST
from runs import command
from runs.config import REPOSITORY
from runs.jobs import Job

WAYS = ("plain", "first", "second")
HEADERS = ["way", "test (s)", "whole process (s)", "test: faster than plain", "than first"]
EPOCHS = 1  # of the training that makes the prompt; how good it is does not matter


def trained(args: argparse.Namespace, output: Path) -> Job:
    """Train a prompt to be tested."""
    opts = (*args.opts, "OPTIM.MAX_EPOCH", str(EPOCHS))
    work = Job(
        "fewshot", args.trainer, args.dataset, 1, args.shots, args.data, output,
        config=args.config, opts=opts,
    )  # fmt: skip
    work.check()
    words = work.arguments(work.evaluations()[0])
    job.run("train", [*words, "TEST.NO_TEST", "True", "CACHE.FEATURES", "False"])
    return work


def evaluate(work: Job, way: str, output: Path, cache: Path) -> dict[str, Any]:
    """One evaluation: seconds of the test and of the process, and the results."""
    (evaluation,) = work.evaluations()
    words = ["--eval-only", "--model-dir", str(work.folder), "--load-epoch", str(EPOCHS)]
    words += work.arguments(evaluation)
    words += ["CACHE.DIR", str(cache), "OUTPUT_DIR", str(output)]
    seconds, report = job.run("train", words, plain=way == "plain")
    return {"test": report["whole"][TEST], "process": seconds, "results": report["results"][0]}


def check_results(rounds: Sequence[dict[str, dict[str, Any]]]) -> None:
    """All evaluations agree; the plain way's text tower rounds differently, so one image may flip.

    Raises:
        SystemExit: they do not.
    """
    for found in rounds:
        first, second = (found[way]["results"] for way in ("first", "second"))
        differ = set(job.differing(first, second))
        if differ:
            raise SystemExit(f"not the same results: {', '.join(differ)} of first and second")
        job.check_close(found["plain"]["results"], first)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser(__doc__, "benchmarks.evaluation")
    add = parser.add_argument
    add("--trainer", default="CoOp", help="a method that learns")
    add("--dataset", default="shapes", help="as for tools.protocol")
    add("--shots", type=int, default=1)
    add("--config", default="", help="as for tools.protocol")
    add("--data", type=Path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--runs", type=int, default=3)
    add("--at-least", type=float, default=0.0, help="second faster than first, else code 1")
    add("opts", nargs="*", default=[], help="KEY VALUE pairs, after --")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        work = trained(args, Path(folder) / "trained")
        rounds = []
        for run in range(args.runs):
            place, cache = Path(folder) / str(run), Path(folder) / str(run) / "cache"
            rounds.append({way: evaluate(work, way, place / way, cache) for way in WAYS})
    check_results(rounds)
    seconds = {
        way: [median(found[way][what] for found in rounds) for what in ("test", "process")]
        for way in WAYS
    }
    against = {
        (slow, fast): median(found[slow]["test"] / found[fast]["test"] for found in rounds)
        for slow in WAYS
        for fast in WAYS
    }
    rows = [
        [way, *(f"{s:.2f}" for s in seconds[way]), f"{against['plain', way]:.1f}x",
         f"{against['first', way]:.1f}x"]
        for way in WAYS
    ]  # fmt: skip
    results = rounds[0]["first"]["results"]
    print(f"{args.trainer} on {args.dataset}, {results['total']} images, {args.runs} rounds")
    print(f"accuracy {results['accuracy']:.2f} in every way; {measure.hardware()}")
    print(tabulate(rows, HEADERS, disable_numparse=True))
    measure.check_at_least("second against first", [against["first", "second"]], args.at_least)


if __name__ == "__main__":
    main()
