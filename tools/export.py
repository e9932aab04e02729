"""Take a trained prompt along: a folder that plain CLIP, open_clip and NumPy can use.

    python -m tools.export --run output/base2new/shapes/CoOp/embedded/shots_16/seed1 --out prompt
    python -m tools.export --run RUN --out prompt --classes-file names.txt --onnx
    python -m tools.export --run RUN --out prompt --push me/shapes-coop

The folder is accepted wherever a run is, as by tools.predict and train.py --eval-only --model-dir.
--onnx needs onnx, onnxscript and onnxruntime; --push needs huggingface_hub, and your login there.
"""

import argparse
import os
from collections.abc import Sequence

from inference.options import add_source, classes_of
from runs import command


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.export")
    add_source(parser)
    add = parser.add_argument
    add("--out", type=command.path, required=True, metavar="FOLDER",
        help="new, empty, or with an earlier export of the same run")  # fmt: skip
    add("--onnx", action="store_true", help="the image tower with the classifier as model.onnx")
    add("--push", metavar="REPO", help="upload to this repository of the Hugging Face hub")
    add("--public", action="store_true", help="with --push: a new repository is not private")
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder, and upload it if asked for.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.public and not args.push:
        parser.error("--public is for --push")
    from inference import export, hub  # the parser needs no torch

    if args.push:
        hub.check_package()
    folder = export(
        args.run,
        args.out,
        classes_of(args),
        onnx=args.onnx,
        epoch=args.load_epoch,
        backbone=args.backbone,
        data=args.data,
    )
    for name in sorted(os.listdir(folder)):
        print(args.out / name)
    if not (folder / "classifier.pt").is_file():
        print("Note: no classifier.pt, since what an image is compared with depends on the image")
    if args.push:
        print(f"Pushed: {hub.push(folder, args.push, args.public)}")


if __name__ == "__main__":
    command.run(main)
