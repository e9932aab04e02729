"""Look at the gate of a trained MoPD: which teachers it picks for which images.

    python -m tools.gate --run output/base2new/shapes/MoPD/embedded/shots_16/seed1

prints, for the training images and those of all tests of the run, mean weight, pick rate and
accuracy of each teacher, what the picked teacher tells about class and domain, and how often it is
the oracle's. All numbers go into gate.json beside pictures: weights by class, the training epoch by
epoch, and the images that each teacher attracts most. docs/gate.md explains them.
"""

import argparse
import json
from collections.abc import Sequence

from runs import command
from runs.folder import checkpoint_digest
from runs.results import write_atomically
from runs.trained import TrainedRun, add_flags


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.gate")
    add_flags(parser)
    out = "where gate.json and the pictures go (default: RUN-gate, beside the run)"
    parser.add_argument("--out", type=command.path, metavar="FOLDER", help=out)
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print what the gate does, and write its numbers and pictures.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    run, out = TrainedRun.with_checkpoint(args.run), args.out or command.beside(args.run, "gate")
    command.load_torch()
    from tools.learned.gate_figures import write_figures  # need torch
    from tools.learned.gate_look import look_at_gate
    from tools.learned.gate_numbers import numbers
    from tools.learned.gate_report import report

    found = look_at_gate(run, args.data, args.load_epoch)
    told = numbers(found, run.epochs(found.epoch))
    checkpoint = checkpoint_digest(str(args.run), run.wanted(args.load_epoch))
    text = json.dumps({"run": str(args.run), "checkpoint": checkpoint, **told}, indent=1) + "\n"
    write_atomically(out / "gate.json", text, other="another --out")
    print(report(args.run, told, [seen.title for seen in found.seen]), end="\n\n", flush=True)
    print(out / "gate.json", *write_figures(found, told, out), sep="\n")


if __name__ == "__main__":
    command.run(main)
