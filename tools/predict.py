"""Classify images with a trained prompt; `inference.predict` does it from Python.

    python -m tools.predict --run output/base2new/shapes/CoOp/embedded/shots_16/seed1 photos/
    python -m tools.predict --run RUN a.jpg "more/**/*.png" --classes "cat,dog,hot air balloon"
    python -m tools.predict --run RUN photos/ --classes-file names.txt --out predictions.csv

RUN is the folder of a run, of one of its tests (RUN/new: its classes), or of an exported prompt. An
image that cannot be read is named, the others are classified, and the exit code is 1.
"""

import argparse
import sys
from collections.abc import Sequence

from inference.options import add_source, classes_of
from runs import command


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.predict")
    add = parser.add_argument
    add("images", nargs="+", type=command.path_text, metavar="IMAGES",
        help="files, folders, or globs in quotes")  # fmt: skip
    add_source(parser)
    add("--top", type=command.count, default=5, metavar="K",
        help="classes to tell for each (default: 5)")  # fmt: skip
    add("--out", type=command.path, metavar="FILE", help="write all to a .csv, .json or .jsonl")
    add("--batch", type=command.count, default=64, metavar="B",
        help="images that are computed at once (default: 64)")  # fmt: skip
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Classify the images and print a table, or write a file.

    Raises:
        SystemExit: code 1 after a message on stderr, also where single images cannot be read.
    """
    args = build_parser().parse_args(argv)
    from inference import predict, report  # the parser needs no torch

    if args.out:
        report.check_out(args.out)
    found = predict(
        args.run,
        args.images,
        classes_of(args),
        top=args.top,
        batch=args.batch,
        epoch=args.load_epoch,
        backbone=args.backbone,
        data=args.data,
    )
    if args.out:
        report.write(found, args.out)
    print(report.table(found, report.SHOWN if args.out else None))
    if args.out:
        print(f"Written: {args.out} ({len(found['predictions'])} images)")
    if found["unreadable"]:
        print(report.problems(found), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    command.run(main)
