"""What a model said of each image: keep it for tests that are done, and look at it.

    python -m tools.predictions make output/base2new/shapes
    python -m tools.predictions show output/base2new/shapes/CoOp/embedded/shots_16/seed1/new
    python -m tools.predictions show FOLDER mistakes confusion --most 20

`make` tests each model below the folders again, from its checkpoint and the cached features, and
writes predictions.npz beside each results.json, and openworld.json into each run of base2new. What
is there already, and of the same results, stays. docs/predictions.md explains the
tables, docs/tables.md the figures.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UserError
from runs import command
from runs.config import REPOSITORY
from tools.results.predictions import SECTIONS, make, show


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.predictions")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("make", help="keep predictions of tests that are done")
    one.add_argument(
        "folders", nargs="+", type=command.path, metavar="DIR", help="of runs or tests"
    )
    data = "folder of the datasets"
    one.add_argument("--data", type=command.path, default=REPOSITORY / "data", help=data)
    one = commands.add_parser("show", help="look at the predictions of a test")
    one.add_argument("folder", type=command.path, metavar="DIR", help="with a results.json")
    one.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}")
    one.add_argument(
        "--most", type=int, default=10, help="lines of a section, 0: all (default: 10)"
    )
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    Raises:
        SystemExit: code 1 after a message on stderr, also if something could not be made.
    """
    args = build_parser().parse_args(argv)
    if args.command == "make":
        make(args.folders, args.data)
        return
    for name in args.sections:
        if name not in SECTIONS:
            raise UserError(f'there is no section "{name}"; there are: {", ".join(SECTIONS)}')
    if args.most < 0:
        raise UserError(f"--most is {args.most}, expected a number from 0 (all)")
    print(show(Path(args.folder), args.sections or list(SECTIONS), args.most))


if __name__ == "__main__":
    command.run(main, resumes=True)
