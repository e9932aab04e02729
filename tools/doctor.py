"""Check datasets on the disk: present, complete, decodable, labels from 0 on; and how to fix it.

    python -m tools.doctor
    python -m tools.doctor oxford_pets dtd --data data --decode all

Reads only. Exit code 1 if something is wrong, or if a dataset that you name is not there.
"""

import argparse
from collections.abc import Sequence

from runs import command
from runs.config import REPOSITORY
from tools.data.checks import DECODED, check_all
from tools.data.report import show


def _decode_count(text: str) -> int | None:
    """The argument of --decode."""
    if text == "all":
        return None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, or all")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.doctor")
    add = parser.add_argument
    add("datasets", nargs="*", metavar="DATASET", help="a name, folder:PATH or csv:PATH")
    add("--data", type=command.path, default=REPOSITORY / "data", help="folder of the datasets")
    add(
        "--decode",
        type=_decode_count,
        default=DECODED,
        metavar="N|all",
        help=f"images of each dataset that are decoded (default: {DECODED}, spread over all)",
    )
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Check what the command line names, and print what is wrong and how to fix it.

    Raises:
        SystemExit: code 1 if something is wrong, or a dataset that is named is not there.
    """
    args = build_parser().parse_args(argv)
    data, named = args.data, bool(args.datasets)
    reports = check_all(args.datasets, data, args.decode)
    print(show(reports, data, named))
    if any(r.state == "wrong" or (named and not r.present) for r in reports):
        raise SystemExit(1)


if __name__ == "__main__":
    command.run(main)
