"""Read the context vectors of a trained run as words: the tokens that are nearest to each.

    python -m tools.words --run output/base2new/shapes/CoOp/embedded/shots_16/seed1 --top 5

Distances are euclidean, as in the CoOp paper's table. This is a weak kind of reading; see
docs/gate.md#the-words-of-a-context.
"""

import argparse
from collections.abc import Sequence

from runs import command
from runs.trained import TrainedRun, add_flags


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.words")
    add_flags(parser)
    top = "tokens of each vector (default: 5)"
    parser.add_argument("--top", type=command.count, default=5, metavar="N", help=top)
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the nearest tokens of each context vector.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    run = TrainedRun.with_checkpoint(args.run)
    command.load_torch()
    from tools.learned.words import words_of  # needs torch

    print(words_of(run, args.top, args.data, args.load_epoch))


if __name__ == "__main__":
    command.run(main)
