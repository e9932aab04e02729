"""Images per second of an evaluation, beside its parts: decoding alone, and the tower alone.

    python -m benchmarks.input                           # ViT-B/16, 500x375 JPEG files
    python -m benchmarks.input --device cuda --workers 0 4 8 16
    python -m benchmarks.input --size small              # where decoding bounds, not the tower
    python -m benchmarks.input --small                   # small images as well, seconds

"decode" reads, decodes and transforms the test images with the loader of a run, which has
`--workers` processes. "tower" encodes as many images that are on the device already. "evaluation"
is `trainer.test()` of zero-shot CLIP with an empty cache, and "plain" the same images one batch
after another: no worker, copies and counts that wait. All take turns. Features of the evaluation
must have the bits of the plain way. Weights are random; speed does not depend on them.
"""

import argparse
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks import measure
from benchmarks.images import SIZE, write_folder
from benchmarks.reference import SIZES, plain_clip
from benchmarks.text_side import class_names
from dassl.data.data_manager import DataManager
from dassl.engine import build_trainer
from runs import command
from runs.config import CONFIGS, build_parser, setup_cfg
from trainers.features.loaders import split_features

WAYS = ("decode", "tower", "evaluation", "plain")
CLASSES = 4
DISTINCT = 100  # images that are drawn, which takes longer than to decode them; others are copies
SMALL = {"size": "small", "files": 64, "batch": 16, "pixels": (64, 48)}


@dataclass
class Input:
    """The test images of a folder, and a zero-shot CLIP that reads them.

    Attributes:
        place: a folder for files of this benchmark.
        files: test images to write.
        size: a key of `SIZES`.
        batch: B, images of a batch.
        workers: processes that load images.
        device, precision: of the tower.
        pixels: width and height of the files.
    """

    place: Path
    files: int = 400
    size: str = "ViT-B/16"
    batch: int = 100
    workers: int = 8
    device: str = "cpu"
    precision: str = "auto"
    pixels: tuple[int, int] = SIZE
    trainer: Any = field(init=False)

    def __post_init__(self) -> None:
        if not (self.place / "images").exists():
            names = class_names(CLASSES)
            each = max(1, self.files // CLASSES)
            write_folder(self.place / "images", names, 1, each, self.pixels, DISTINCT)
            model: Any = plain_clip(**SIZES[self.size])
            torch.save(model.state_dict(), self.place / "clip.pt")
        with redirect_stdout(io.StringIO()):
            self.trainer = build_trainer(self._cfg(self.workers))
            self.plain_loader = DataManager(self._cfg(0)).test_loader
        self.loader = self.trainer.dm.test_loader
        self.files = len(self.loader.dataset)
        self.trainer.class_features()  # once in a job
        self.images = next(iter(self.plain_loader))["img"].to(self.trainer.device)

    def _cfg(self, workers: int) -> Any:
        side = SIZES[self.size].get("resolution", 224)
        words = ["--trainer", "ZeroshotCLIP", "--seed", "1", "--config-file"]
        words += [str(CONFIGS / "trainers/ZeroshotCLIP/vit_b16.yaml")]
        words += ["DATASET.NAME", f"folder:{self.place / 'images'}"]
        words += ["MODEL.BACKBONE.NAME", str(self.place / "clip.pt")]
        words += ["INPUT.SIZE", f"({side}, {side})", "DATALOADER.NUM_WORKERS", str(workers)]
        words += ["DATALOADER.TEST.BATCH_SIZE", str(self.batch)]
        words += ["USE_CUDA", str(self.device == "cuda"), "CACHE.DIR", str(self.place / "cache")]
        words += ["TRAINER.ZEROSHOTCLIP.PREC", self.precision]
        return setup_cfg(build_parser().parse_args(words))

    def decode(self) -> int:
        """Load all images."""
        return sum(len(batch["label"]) for batch in self.loader)

    def tower(self) -> Tensor:
        """Encode as many images."""
        for first in range(0, self.files, self.batch):
            part = self.images[: min(self.batch, self.files - first)]
            features = self.trainer.clip.encode_image(part)
        return features

    def evaluation(self) -> Tensor:
        """Test as a run does, its features not yet in the cache; they are returned (N, D)."""
        cfg = self.trainer.cfg.clone()
        cfg.defrost()
        cfg.CACHE.DIR = tempfile.mkdtemp(dir=self.place)
        with redirect_stdout(io.StringIO()):
            loader = split_features(self.trainer, self.loader, cfg, "test")
            self.trainer.test_loader = loader
            self.trainer.test()
            return torch.cat([batch["feature"] for batch in loader])

    def plain(self) -> Tensor:
        """Features (N, D), one batch after another, with accuracies that the host reads."""
        features = []
        for batch in self.plain_loader:
            images, label = (batch[key].to(self.trainer.device) for key in ("img", "label"))
            features.append(self.trainer.clip.encode_image(images))
            self.trainer.predict(features[-1]).argmax(1).eq(label).sum().item()
        return torch.cat(features).cpu()


def compare(side: Input, runs: int, seconds: float = float("inf")) -> dict[str, Any]:
    """Time all ways and compare features; images per second by way, and what bounds.

    Raises:
        SystemExit: the features are not the same.
    """
    ways = [partial(getattr(side, way)) for way in WAYS]
    side.trainer.clip.encode_image(side.images)  # its kernels are loaded
    timed = measure.in_turn(ways, runs, seconds, side.device)
    found, expected = (timed.results[WAYS.index(way)] for way in ("evaluation", "plain"))
    if not torch.equal(found.cpu(), expected):
        differ = measure.difference(expected, found.cpu())
        raise SystemExit(f"not the same results: features of the evaluation differ by {differ:.1e}")
    rate = {way: side.files / timed.seconds(place) for place, way in enumerate(WAYS)}
    bound = min(("decode", "tower"), key=lambda way: rate[way])
    return {"workers": side.workers, "rate": rate, "bound": bound}


def table(rows: Sequence[dict[str, Any]], style: str = "simple") -> str:
    """Images per second, a row for each number of workers."""
    shown = [
        [
            *(row["workers"], *(f"{row['rate'][way]:,.1f}" for way in WAYS), row["bound"]),
            f"{100 * row['rate']['evaluation'] / row['rate'][row['bound']]:.0f}",
            f"{row['rate']['evaluation'] / row['rate']['plain']:.2f}x",
        ]
        for row in rows
    ]
    headers = ["workers", "decode (images/s)", "tower", "evaluation", "plain", "bound by"]
    headers += ["% of it", "faster than plain"]
    return tabulate(shown, headers, style, disable_numparse=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser(__doc__, "benchmarks.input")
    add = parser.add_argument
    on_gpu = torch.cuda.is_available()
    add("--device", choices=("cpu", "cuda"), default="cuda" if on_gpu else "cpu")
    add("--workers", type=int, nargs="+", default=[0, 2, 8], help="DATALOADER.NUM_WORKERS")
    add("--size", choices=("ViT-B/16", "small"), default="ViT-B/16", help="of CLIP")
    add("--files", type=int, help="test images (default: 2000 on a GPU, else 200)")
    add("--batch", type=int, default=100, help="images of a batch")
    add("--precision", default="auto", help="of the tower")
    add("--runs", type=int, default=3)
    add("--seconds", type=float, default=120.0, help="no further round after so many (each row)")
    add("--small", action="store_true", help="a small CLIP and few small images")
    add("--at-least", type=float, default=0.0, help="faster than plain in any row, else code 1")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not on_gpu:
        raise SystemExit("--device cuda, but torch sees no CUDA device here: use --device cpu")
    sizes = dict(SMALL) if args.small else {"files": 2000 if args.device == "cuda" else 200}
    sizes |= {"files": args.files} if args.files else {}
    rows = measured(sizes, args)
    print(f"{rows[0]['about']}; {measure.hardware(args.device)}")
    print(table(rows))
    best = max(row["rate"]["evaluation"] / row["rate"]["plain"] for row in rows)
    measure.check_at_least("the evaluation against the plain loop", [best], args.at_least)


def measured(sizes: dict[str, Any], args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of workers, with what it is of."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for workers in args.workers:
            given = {"batch": args.batch, "size": args.size, **sizes}
            side = Input(
                Path(place), **given, workers=workers, device=args.device, precision=args.precision
            )
            about = f"{side.files} test images, {side.size}, {side.trainer.clip.precision.name}"
            rows.append({**compare(side, args.runs, args.seconds), "about": about})
    return rows


if __name__ == "__main__":
    main()
