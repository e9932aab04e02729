"""Plots of results, from results.json only: new over base accuracy with what it says in words,
accuracy over a knob, and gains over a baseline.

    python -m tools.plots output/base2new
    python -m tools.plots output --out plots --baseline CoOp/vit_b16

The pictures of the first go into output/base2new-plots, beside the folder.
"""

import argparse
from collections.abc import Sequence

from runs import command
from tools.results.figures import write_plots
from tools.results.table_format import wrap


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.plots")
    add = parser.add_argument
    add("folders", nargs="+", type=command.path, metavar="DIR", help="e.g. output/base2new")
    add("--out", type=command.path, metavar="FOLDER",
        help="where the pictures go (default: DIR-plots, beside the first DIR)")  # fmt: skip
    add("--baseline", metavar="METHOD[/CONFIG]",
        help="what gains are measured against (default: CoOp, if it is there)")  # fmt: skip
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Write plots of folders of runs and print what they show and the names of the files.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    out = args.out or command.beside(args.folders[0], "plots")
    for plot in write_plots(args.folders, out, args.baseline):
        if plot.words:
            print(wrap(plot.words))
        print(*plot.files, sep="\n")


if __name__ == "__main__":
    command.run(main)
