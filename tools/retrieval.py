r"""How well a context that was learned for classes finds images by captions, and the reverse.

    python -m tools.retrieval --run output/base2new/shapes/CoOp/embedded/shots_16/seed1 \
        --data shapes
    python -m tools.retrieval --run RUN --data dataset_flickr30k.json --images flickr30k-images

DATA lists images with their captions: a CSV file with the columns image and caption, JSON, the JSON
of Karpathy's splits of Flickr30k and COCO, or `shapes`, the test images of the drawn world.
docs/after_training.md explains the figures.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runs import command
from runs.config import REPOSITORY
from runs.results import write_atomically
from tools.results.table_format import Table


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.retrieval")
    add = parser.add_argument
    add("--run", type=command.path, required=True, metavar="RUN",
        help="folder of a run, of one of its tests, or of an exported prompt")  # fmt: skip
    add("--data", type=command.path, required=True, metavar="DATA", help="the captions")
    add("--images", type=command.path, help="folder of the images (default: that of DATA)")
    add("--split", default="test", help="of a file that tells splits (default: test)")
    add("--load-epoch", type=command.count, help="instead of the one that was tested")
    add("--backbone", type=command.path_text, default="", help="CLIP's file, where it has moved")
    add("--batch", type=command.count, default=64, help="images that are computed at once")
    add("--out", type=command.path, metavar="FILE", help="write all figures to a .json")
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the recalls, and write them where asked.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    command.load_torch()
    from inference import load_prompt
    from inference.retrieval import retrieve

    pairs = _pairs(args)
    prompt = load_prompt(args.run, ["caption"], epoch=args.load_epoch, backbone=args.backbone)
    found = retrieve(prompt, pairs, args.batch)
    print(table(found))
    if args.out:
        write_atomically(args.out, json.dumps(found, indent=1) + "\n", other="another --out")
        print(f"\n{args.out}")


def _pairs(args: argparse.Namespace) -> Any:
    from inference.retrieval import drawn_pairs, read_pairs

    if args.data == Path("shapes"):
        return drawn_pairs(args.images or REPOSITORY / "data")
    return read_pairs(args.data, args.images, args.split)


def table(found: Mapping[str, Any]) -> str:
    """Recalls in percent, a row for each way to write a caption."""
    recalls = found["recalls"]
    headers = ["caption", *next(iter(recalls.values()))]
    rows: list[Any] = [[name, *(f"{v:.2f}" for v in row.values())] for name, row in recalls.items()]
    notes = ["image R@k: images found by a caption; text R@k: captions found by an image."]
    if found["cut"]:
        notes.append(f"{found['cut']} captions were too long, and are cut at the end.")
    title = f"{found['run']}: {found['images']} images, {found['captions']} captions"
    return Table(title, headers, rows, 1, notes).show("text")


if __name__ == "__main__":
    command.run(main)
