"""Download datasets, and lay them out as the readers expect them.

    python -m tools.prepare_data --list
    python -m tools.prepare_data oxford_pets dtd --data data
    python -m tools.prepare_data all --dry-run

What is there already is skipped, what was cut off continues, and nothing is overwritten or deleted.
What only you can fetch is named, with its address and the place where to put it.
"""

import argparse
from collections.abc import Sequence

from runs import command
from runs.config import REPOSITORY
from tools.data.preparation import overview, prepare_all


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.prepare_data")
    add = parser.add_argument
    add("datasets", nargs="*", metavar="DATASET", help="names as in --list, or all")
    add("--data", type=command.path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--list", action="store_true", help="show all datasets and what is there")
    add("--repair", action="store_true", help="unpack the images again, and add missing ones")
    mirror = "a folder with the downloads, as data/downloads of somebody who has them, tried first"
    add("--mirror", default="", metavar="URL", help=mirror)
    add("--dry-run", action="store_true", help="say what would be done, and do nothing")
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    Raises:
        SystemExit: code 1 after a message on stderr: a mistake, or something is left undone.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if not args.datasets and not args.list:
        parser.error("give names of datasets, or --list")
    data = args.data
    if args.list:
        print(overview(data))
    if args.datasets:
        prepare_all(args.datasets, data, args.dry_run, args.repair, args.mirror)


if __name__ == "__main__":
    command.run(main, resumes=True)
