"""A study of 24 short jobs: a process for each job, and processes that stay, in turn.

    python -m benchmarks.study [--jobs 2] [--runs 2] [--at-least 3]

Zero-shot with two pools, and CoOp and MoPD of 2 epochs with five seeds, on both datasets of the
embedded world. Jobs per minute are those of the whole command, its own start included. All results
must be equal, but for times and memory.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from benchmarks import measure
from benchmarks.job import differing
from runs import command
from runs.config import REPOSITORY
from runs.results import read_results

SEEDS = 5
WAYS = {"a process for each job": ("--fresh",), "processes that stay": ()}


def content(cache: Path, seeds: int) -> dict[str, Any]:
    """The study; all of its runs share one cache, so that none has to compute features first."""
    pools = [
        {"tag": "", "opts": {}},
        {"tag": "mixed", "opts": {"TRAINER.ZEROSHOTCLIP.POOL": "mixed"}},
    ]
    return {
        "protocols": "fewshot",
        "shots": 1,
        "datasets": ["shapes", "digits"],
        "methods": {"ZeroshotCLIP": {"variants": pools}, "CoOp": {}, "MoPD": {}},
        "seeds": list(range(1, seeds + 1)),
        "opts": {"OPTIM.MAX_EPOCH": 2, "CACHE.DIR": str(cache), "CACHE.VIEWS": True},
    }


def run(file: Path, data: Path, output: Path, options: Sequence[str]) -> dict[str, Any]:
    """Run the study into a new folder.

    Returns:
        The content of each results.json, by its place in the folder.

    Raises:
        SystemExit: a job failed; what was said.
    """
    words = ["run", str(file), "--data", str(data), "--output", str(output), *options]
    done = subprocess.run(
        [sys.executable, "-m", "tools.study", *words],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the study failed:\n{done.stdout}{done.stderr}")
    paths = sorted(output.rglob("results.json"))
    return {str(path.relative_to(output)): read_results(path) for path in paths}


def check_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Stop unless both ways have the same results.

    Raises:
        SystemExit: naming the first that differs.
    """
    for name in sorted(one.keys() | other.keys()):
        found = differing(one.get(name) or {}, other.get(name) or {})
        if found:
            raise SystemExit(f"not the same results: {name} differs in {', '.join(found)}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table.

    Raises:
        SystemExit: results differ, or the ratio is below --at-least.
    """
    parser = command.parser(__doc__, "benchmarks.study")
    add = parser.add_argument
    add("--jobs", type=command.count, default=1, help="jobs at a time (default: 1)")
    add("--runs", type=command.count, default=1, help="rounds (default: 1)")
    add("--at-least", type=float, default=0.0, metavar="RATIO", help="fail below this ratio")
    add("--seeds", type=command.count, default=SEEDS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = folder / "short.yaml"
        file.write_text(yaml.safe_dump(content(folder / "cache", args.seeds)), encoding="utf-8")
        number = iter(range(2 * args.runs + 1))

        def once(options: Sequence[str]) -> dict[str, Any]:
            options = [*options, "--jobs", str(args.jobs)]
            return run(file, folder / "data", folder / f"output{next(number)}", options)

        count = len(once(()))  # makes the images and the features of both datasets
        timed = measure.in_turn([partial(once, way) for way in WAYS.values()], args.runs)
        check_equal(*timed.results)
    rows = [
        [name, count, f"{timed.seconds(i):.1f}", f"{60 * count / timed.seconds(i):.1f}"]
        for i, name in enumerate(WAYS)
    ]
    print(f"{measure.hardware()}; {args.jobs} at a time")
    print(tabulate(rows, ["way", "jobs", "seconds", "jobs a minute"], "github"))
    print(f"\n{timed.ratio():.1f} times as many jobs a minute; all results are equal")
    measure.check_at_least("jobs a minute", [timed.ratio()], args.at_least)


if __name__ == "__main__":
    main()
