"""Write the training shots of a run as a file that other code reads.

    python -m tools.splits export oxford_pets --shots 16 --seed 1 --out pets_16_1.jsonl
    python -m tools.splits export folder:my_images --shots 4 --part val

A line is an image: {"impath": ..., "label": ..., "classname": ...}, with the path below the folder
of the datasets. `DATASET.SPLIT_FILE` reads it, and files of others in this layout.
"""

import argparse
from collections.abc import Sequence

from dassl.utils import UserError
from runs import command
from runs.config import REPOSITORY
from runs.results import write_atomically
from tools.data.shots import PARTS, shots_lines, shots_of


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.splits")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("export", help="write shots as a file").add_argument
    add("dataset", metavar="DATASET", help="a name, folder:PATH or csv:PATH")
    add("--shots", type=command.count, required=True, help="images of each class")
    add("--seed", type=int, default=1, help="of the draw (default: 1)")
    add("--part", choices=tuple(PARTS), default="train", help="default: train")
    add("--data", type=command.path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--out", type=command.path, help="the file (default: it is printed)")
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Write what the command line names.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}, expected a whole number from 0")
    if args.out and args.out.exists():
        raise UserError(f"{args.out} exists already: give another --out")
    items = shots_of(args.dataset, args.data.absolute(), args.shots, args.seed, args.part)
    text = shots_lines(items)
    if args.out is None:
        print(text, end="")
        return
    write_atomically(args.out, text, other="another --out")
    classes = len({item.label for item in items})
    print(f"{args.out}: {len(items)} {args.part} images of {classes} classes")


if __name__ == "__main__":
    command.run(main)
