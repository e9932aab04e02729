"""A whole base2new job (train, test base, test new) of two methods on one seed, in three ways.

    python -m benchmarks.base2new                        # CoOp, then MoPD, on the embedded world
    python -m benchmarks.base2new --methods KgCoOp SiPD --runs 3

plain: 77 tokens, class features for every test batch, images decoded in every epoch, no cache.
ours: as a user runs it. views: with `CACHE.VIEWS True`, so that the second method finds the
features of the augmented images that the first one saw. Every job is a process of its own, every
way has an empty cache of its own at the start, and the ways take turns. The results of ours and of
views must be equal in everything but seconds and memory; the plain way's text tower rounds
differently, so that its accuracies may differ by a few images.

"process" is the wall time of the whole command. "job" is what results.json tells, training and
tests: without the start of Python and the import of torch, which no cache can save.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks import job, measure
from runs import command
from runs.config import REPOSITORY
from runs.job_words import words_of
from runs.jobs import Job
from runs.results import read_results

WAYS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "ours": ("CACHE.VIEWS", "False"),
    "views": ("CACHE.VIEWS", "True"),
}
HEADERS = [
    *("method", "way", "process (s)", "faster than plain", "than ours"),
    *("job (s)", "faster than plain", "than ours", "base", "new", "results"),
]
# by way and method: wall seconds of the process, and the results of its tests
Outcome = dict[tuple[str, str], tuple[float, list[dict[str, Any]]]]


def one_round(args: argparse.Namespace, ways: dict[str, tuple[str, ...]], folder: Path) -> Outcome:
    """Both methods in every way: wall seconds and results of each job, by way and method."""
    outcome = {}
    for way, pairs in ways.items():
        for method in args.methods:
            opts = (*args.opts, *pairs, "CACHE.DIR", str(folder / way / "cache"))
            work = Job(
                "base2new", method, args.dataset, args.seed, args.shots, args.data,
                folder / way, config=args.config, opts=opts,
            )  # fmt: skip
            if way == "plain":
                seconds, _ = job.run("protocol", words_of(work), plain=True)
            else:
                seconds, _ = measure.fresh_process("tools.protocol", words_of(work))
            outcome[way, method] = seconds, [read(test.results) for test in work.evaluations()]
    return outcome


def job_seconds(outcome: Outcome, way: str, method: str) -> float:
    """Seconds of training and tests, as results.json tells them."""
    return sum(results["seconds"]["total"] for results in outcome[way, method][1])


def read(path: Path) -> dict[str, Any]:
    """Results of a job that has just ended."""
    results = read_results(path)
    assert results is not None
    return results


def check_results(outcome: Outcome, exact: Sequence[str], close: Sequence[str]) -> None:
    """Ways agree with "ours", exactly or up to rounding.

    Raises:
        SystemExit: they do not.
    """
    for (way, method), (_, results) in outcome.items():
        if ("ours", method) not in outcome:
            continue
        for ours, found in zip(outcome["ours", method][1], results, strict=True):
            if way in exact:
                differ = job.differing(ours, found)
                if differ:
                    where = f"{method}, {ours['classes']} classes"
                    raise SystemExit(f"not the same results: {where}: {', '.join(differ)} ({way})")
            elif way in close:
                job.check_close(found, ours)


def run(
    args: argparse.Namespace,
    ways: dict[str, tuple[str, ...]] = WAYS,
    exact: Sequence[str] = ("views",),
    close: Sequence[str] = ("plain",),
) -> tuple[list[list[Any]], list[str], float]:
    """All rounds.

    Args:
        args: of `add_arguments`.
        ways: KEY VALUE pairs by the name of the way; "plain" is computed the plain way.
        exact: ways whose results equal those of "ours".
        close: ways whose accuracies equal those of "ours" up to rounding.

    Returns:
        Rows of a table, its headers, and how many times faster the second method's job is with
        views than without.
    """
    with tempfile.TemporaryDirectory() as folder:
        rounds = [one_round(args, ways, Path(folder) / str(i)) for i in range(args.runs)]
    for outcome in rounds:
        check_results(outcome, exact, close)
    rows = [row(rounds, way, method) for method in args.methods for way in ways]
    second = args.methods[-1]
    gain = median(job_seconds(o, "ours", second) / job_seconds(o, "views", second) for o in rounds)
    return rows, HEADERS, gain


def row(rounds: Sequence[Outcome], way: str, method: str) -> list[Any]:
    """Medians over rounds of a method in one way, for a table; "-" for a way that was not run."""
    shown = [method, way]
    clocks: tuple[Callable[[Outcome, str], float], ...] = (
        lambda outcome, one: outcome[one, method][0],
        lambda outcome, one: job_seconds(outcome, one, method),
    )
    for clock in clocks:
        shown.append(f"{median(clock(o, way) for o in rounds):.1f}")
        for slow in ("plain", "ours"):
            there = (slow, method) in rounds[0]
            shown.append(
                f"{median(clock(o, slow) / clock(o, way) for o in rounds):.2f}x" if there else "-"
            )
    found, ours = rounds[0][way, method][1], rounds[0].get(("ours", method))
    accuracies = [f"{one['accuracy']:.2f}" for one in found]
    return [*shown, *accuracies, agreement(ours[1], found) if ours else "-"]


def agreement(ours: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """How results agree with those of ours, in words."""
    pairs = list(zip(ours, found, strict=True))
    if not any(job.differing(*pair) for pair in pairs):
        return "same"
    points = max(abs(one["accuracy"] - other["accuracy"]) for one, other in pairs)
    return f"within {points:.2f} points"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this benchmark."""
    add = parser.add_argument
    add("--methods", nargs=2, default=["CoOp", "MoPD"], metavar=("FIRST", "SECOND"))
    add("--dataset", default="shapes", help="as for tools.protocol")
    add("--seed", type=int, default=1)
    add("--shots", type=int, default=16)
    add("--config", default="", help="as for tools.protocol")
    add("--data", type=Path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--runs", type=int, default=1)
    add("opts", nargs="*", default=[], help="KEY VALUE pairs, after --")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser(__doc__, "benchmarks.base2new")
    add_arguments(parser)
    least = "job of the second method faster with views than without, else exit with code 1"
    parser.add_argument("--at-least", type=float, default=0.0, help=least)
    args = parser.parse_args(argv)
    rows, headers, gain = run(args)
    print(f"base2new on {args.dataset}, seed {args.seed}, {args.shots} shots; {measure.hardware()}")
    print(tabulate(rows, headers, disable_numparse=True))
    print(
        f"the job of {args.methods[1]} with the views of {args.methods[0]}: {gain:.2f} times faster"
    )
    measure.check_at_least("the second method with views", [gain], args.at_least)


if __name__ == "__main__":
    main()
