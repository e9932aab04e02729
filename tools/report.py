"""One HTML page of results: a run, a study or any folder of runs, to look at and to send around.

    python -m tools.report output/base2new/shapes
    python -m tools.report output --out report.html --baseline CoOp/vit_b16

has tables, pictures, and for one run of each row its training, classes, confusions, calibration
and gate, as far as the folders have them; what is missing is said with the command that makes it.
The page is one file without scripts, and loads nothing. Nothing is trained or tested.
docs/report.md shows it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from runs import command
from runs.config import REPOSITORY
from runs.results import write_atomically

OTHER = "another file for --out"


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.report")
    add = parser.add_argument
    add("folders", nargs="+", type=command.path, metavar="DIR", help="e.g. output/base2new")
    add("--out", type=command.path, metavar="FILE",
        help="the page (default: DIR-report.html, beside the first DIR)")  # fmt: skip
    add("--baseline", metavar="METHOD[/CONFIG]",
        help="what differences are from (default: CoOp, else the first row)")  # fmt: skip
    add("--data", type=command.path, default=REPOSITORY / "data", metavar="FOLDER",
        help="folder of the datasets, for example images (default: data/ of the project)"
    )  # fmt: skip
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, and print its path and size.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    out: Path = args.out or command.beside(args.folders[0], "report.html")
    if out.is_dir() or out.parent.is_file():  # told before all is drawn
        write_atomically(out, "", other=OTHER)
    from tools.reporting.page import Asked, page  # --help needs none of it

    text = page(Asked(args.folders, args.data, args.baseline))
    write_atomically(out, text, other=OTHER)
    print(f"{out} ({len(text.encode()) / 1e6:.1f} MB)")


if __name__ == "__main__":
    command.run(main)
