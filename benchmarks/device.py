"""All measurements of a device in one report, for docs/performance.md.

    python -m benchmarks.device > report.md            # on the GPU, or the CPU where there is none
    python -m benchmarks.device --small                # a trial in a minute or two, on a CPU

ViT-B/16 has random weights (speed does not depend on them) and JPEG files of 500x375 pixels are
written to a folder that is deleted afterwards: nothing is downloaded, and your cache is not used.
Parts: text side, training steps, image tower, and a whole base2new job of two methods.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks import base2new, flops, measure, text_side, training_step
from benchmarks.images import SIZE, write_folder
from benchmarks.reference import SIZES, plain_clip
from runs import command
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision

STYLE = "github"  # tables in markdown
PARTS = ("text_side", "training_steps", "image_tower", "base2new")


class Report:
    """The parts of the report, each a block of markdown."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.device: str = args.device
        self.runs: int = args.runs
        on_gpu = self.device == "cuda"
        self.precisions = ("fp32", "fp16") if on_gpu else ("fp32",)
        self.tower = "small" if args.small else "ViT-B/16"
        self.text = "small" if args.small else "text"
        self.classes = [8, 16] if args.small else [10, 50, 100, 500, 1000]

    def blocks(self) -> Iterator[str]:
        """Title, and the parts that were asked for."""
        yield f"### {measure.hardware(self.device)}"
        yield f"`python -m benchmarks.device {' '.join(self.args.words)}`".replace(" `", "`")
        for part in self.args.parts:
            call: Callable[[], Iterator[str]] = getattr(self, part)
            yield from call()

    def text_side(self) -> Iterator[str]:
        """Class features and their gradient."""
        for precision in self.precisions:
            settings: Any = (4, self.text, self.device, precision)
            rows = []
            for count in self.classes:
                side = text_side.TextSide(count, *settings)
                rows.append(text_side.compare(side, self.runs, self.args.seconds))
            yield f"Text side ({self.tower}), {precision}:"
            yield text_side.tables(rows, STYLE)

    def training_steps(self) -> Iterator[str]:
        """A step of every method that learns."""
        precision = self.precisions[-1]
        rows = []
        for method in training_step.learning_methods():
            images = training_step.BATCH.get(method, 32)
            step = training_step.Step(
                method, self.classes[1], images, self.text, self.device, precision
            )
            rows.append(training_step.compare(step, self.runs, self.args.seconds))
        yield f"Training steps ({self.tower}), {precision}:"
        yield training_step.table(rows, STYLE)

    def image_tower(self) -> Iterator[str]:
        """Images per second in every precision, as they are and compiled."""
        names = ("fp32", "bf16", "fp16") if self.device == "cuda" else ("fp32", "bf16")
        rows = [
            self._images(name, compiled)
            for name in names
            for compiled in ((False, True) if self.args.compile else (False,))
        ]
        headers = ["precision", "MODEL.COMPILE", "images", "images/s", "matrix product (TFLOP/s)"]
        headers += ["% of it", "first batch (s)"]
        yield f"Image tower ({self.tower}):"
        yield tabulate(rows, headers, STYLE, disable_numparse=True)

    def _images(self, name: str, compiled: bool) -> list[Any]:
        """A row of the image tower."""
        batch = 8 if self.args.small else 128 if self.device == "cuda" else 16
        precision = resolve_precision(name, self.device)
        model: Any = plain_clip(**SIZES[self.tower], dtype=precision.dtype)
        clip = FrozenCLIP(model, precision)
        clip.to(precision.device)
        if compiled:
            clip.compile_image_tower()
        side = clip.resolution
        way = partial(clip.encode_image, torch.randn(batch, 3, side, side, device=self.device))
        first = measure.in_turn([way], 1, device=self.device).seconds(0)
        budget = self.args.seconds / 10
        each = measure.in_turn([way], 50, budget, self.device).seconds(0) / batch
        rate = flops.matmul_rate(precision.dtype, self.device)
        share = flops.image_flops(clip.visual) / each / rate
        shown = [f"{1 / each:,.0f}", f"{rate / 1e12:.2f}", f"{100 * share:.0f}", f"{first:.2f}"]
        return [name, "True" if compiled else "False", batch, *shown]

    def base2new(self) -> Iterator[str]:
        """A whole base2new job of two methods, in every way."""
        small = self.args.small
        classes, train, test = (4, 2, 2) if small else (20, 16, 20)
        pixels = (64, 48) if small else SIZE
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            names = text_side.class_names(classes)
            write_folder(folder / "images", names, train, test, pixels)
            model: Any = plain_clip(**SIZES[self.tower])
            torch.save(model.state_dict(), folder / "clip.pt")
            args = self._job(folder, 2 if small else 16)
            ways = {**base2new.WAYS, "device augment": ("INPUT.DEVICE_AUGMENT", "True")}
            # a GPU adds up gradients in no fixed order, so that even two equal runs differ
            exact = ("views",) if self.device == "cpu" else ()
            rows, headers, _ = base2new.run(args, ways, exact, close=())
        yield (
            f"base2new ({self.tower}), {classes} classes, {train} + {test} files of each, "
            f"{self.args.epochs} epochs (random weights: accuracies mean nothing):"
        )
        yield tabulate(rows, headers, STYLE, disable_numparse=True)

    def _job(self, folder: Path, shots: int) -> argparse.Namespace:
        """The arguments of `benchmarks.base2new`."""
        epochs = str(self.args.epochs)
        pairs = ["OPTIM.MAX_EPOCH", epochs, "MODEL.BACKBONE.NAME", str(folder / "clip.pt")]
        pairs += ["USE_CUDA", str(self.device == "cuda")]
        if self.args.small:
            pairs += ["INPUT.SIZE", "(32, 32)", "DATALOADER.NUM_WORKERS", "0"]
        words = ["--methods", *self.args.methods, "--dataset", f"folder:{folder / 'images'}"]
        words += ["--shots", str(shots), "--data", str(folder), "--", *pairs]
        parser = argparse.ArgumentParser()
        base2new.add_arguments(parser)
        return parser.parse_args(words)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report."""
    parser = command.parser(__doc__, "benchmarks.device")
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--small", action="store_true", help="a small CLIP and few small images")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    add("--methods", nargs=2, default=["CoOp", "MoPD"], metavar=("FIRST", "SECOND"))
    add("--epochs", type=int, help="of the jobs (default: 10; small: 1)")
    add("--runs", type=int, help="rounds (default: 5; small: 1)")
    add("--seconds", type=float, default=60.0, help="no further round after so many (each row)")
    add("--no-compile", dest="compile", action="store_false", help="leave MODEL.COMPILE out")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda, but torch sees no CUDA device here: use --device cpu")
    args.words = list(sys.argv[1:] if argv is None else argv)
    args.epochs = args.epochs or (1 if args.small else 10)
    args.runs = args.runs or (1 if args.small else 5)
    for block in Report(args).blocks():
        print(f"{block}\n", flush=True)


if __name__ == "__main__":
    main()
