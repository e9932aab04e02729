"""Run a whole protocol for one method, dataset and seed; what is done already is not done again.

    python -m tools.protocol base2new --trainer MoPD --dataset shapes --seed 1 [-- KEY VALUE ...]
    python -m tools.protocol fewshot --trainer CoOp --dataset shapes --seed 1 --shots 1,2,4
    python -m tools.protocol xd --trainer CoOp --dataset imagenet --seed 1 --targets dtd,eurosat

The scripts under `scripts/` call this. docs/protocols.md explains the protocols.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import command
from runs.config import REPOSITORY
from runs.jobs import Job
from runs.protocols import PROTOCOLS
from runs.run_job import run_job
from tools.results.run_tables import run_table


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
    parser = command.parser(__doc__, "tools.protocol")
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


@command.mistakes_told()
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
    for job in jobs:
        job.check()
    results = [result for job in jobs for result in run_job(job)]
    print(run_table([found for job in jobs for found in job.found()]))
    return results


if __name__ == "__main__":
    command.run(main)
