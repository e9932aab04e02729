"""How a step of MoPD grows with teachers H, picked teachers K, classes C and images B, and how an
epoch of training images grows with their number, decoded in every epoch or kept in memory.

    python -m benchmarks.growth
    python -m benchmarks.growth --teachers 12 36 200 --classes 10 100 500 --files 64 256

A step is that of `benchmarks.training_step`, ours. "kept" is what autograd keeps for the backward
pass, "hard prompts" is the once-per-job cost of the teachers' features. Images are JPEG files of
500x375 pixels that the benchmark writes; an epoch is one pass of the training loader, with the
augmentation of the ViT-B/16 configurations and without the image tower.
"""

import io
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import yaml
from tabulate import tabulate

from benchmarks import measure
from benchmarks.images import SIZE, write_folder
from benchmarks.text_side import class_names
from benchmarks.training_step import Step
from dassl.data import DataManager
from runs import command
from runs.config import CONFIGS, build_parser, setup_cfg

MIB = 2**20
USUAL = {"H": 12, "K": 3, "C": 50, "B": 32}
AXES = {
    "H": "teachers", "K": "picked teachers", "C": "classes", "B": "images of a batch",
}  # fmt: skip


def growth(sizes: Sequence[float], values: Sequence[float]) -> str:
    """How values grow with sizes, as a power between the first and the last."""
    times = sizes[-1] / sizes[0]
    gain = values[-1] / values[0]
    power = math.log(gain) / math.log(times) if times > 1 else 0.0
    return f"{times:.3g} times as many take {gain:.2f} times as long (power {power:.2f})"


def write_pool(folder: Path, count: int) -> Path:
    """A pool of so many different templates."""
    looks = ("photo", "drawing", "sketch", "painting", "picture", "print", "close-up", "scan")
    words = ("good", "bad", "bright", "dark", "large", "small", "old", "new", "plain", "odd")
    ends = ("", " at night", " in the rain", " from above", " in a book", " on a wall")
    found = [f"a {word} {look} of a {{}}{e}." for e, look, word in product(ends, looks, words)]
    if count > len(found):
        raise SystemExit(f"--teachers {count}: at most {len(found)}")
    path = folder / f"pool_{count}.yaml"
    path.write_text(yaml.safe_dump(found[:count]))
    return path


def steps(axis: str, sizes: Sequence[int], size: str, folder: Path) -> list[Step]:
    """A step for each size along one axis, the usual sizes along the others."""
    found = []
    for value in sizes:
        use = USUAL | {axis: value}
        use["K"] = min(use["K"], use["H"]) if axis != "K" else use["K"]
        use["H"] = max(use["H"], use["K"])
        pool = write_pool(folder, use["H"])
        pairs = ("TRAINER.MOPD.POOL", str(pool), "TRAINER.MOPD.NUM_TEACHERS", str(use["K"]))
        found.append(Step("MoPD", use["C"], use["B"], size, plain=False, pairs=pairs))
    return found


def step_table(axis: str, sizes: Sequence[int], size: str, runs: int) -> str:
    """A table of steps along one axis, and a line on their growth."""
    with tempfile.TemporaryDirectory() as folder:
        found = steps(axis, sizes, size, Path(folder))
    ways: list[Callable[[], Any]] = [partial(step.step, step.trainers[0]) for step in found]
    measure.in_turn(ways, 1)  # warm up
    timed = measure.in_turn(ways, runs)
    seconds = [timed.seconds(way) for way in range(len(ways))]
    rows = []
    for value, step, taken in zip(sizes, found, seconds, strict=True):
        trainer = step.trainers[0]
        row = [value, f"{taken * 1000:.1f}", f"{step.kept(trainer) / MIB:.1f}"]
        if axis == "H":
            started = time.perf_counter()
            teachers = trainer.clip.encode_templates(trainer.pool, class_names(step.count))
            row.append(f"{time.perf_counter() - started:.2f}")
            row.append(f"{teachers.nbytes / MIB:.1f}")
        rows.append(row)
    headers = [axis, "step (ms)", "kept (MiB)"]
    headers += ["hard prompts, once (s)", "their features (MiB)"] if axis == "H" else []
    shown = tabulate(rows, headers, disable_numparse=True)
    return f"{shown}\nWith {axis}, {AXES[axis]}: {growth(sizes, seconds)}."


def loader(folder: Path, memory: int, image_size: int) -> Any:
    """The training loader of the ViT-B/16 configurations over a folder of images."""
    words = ["--trainer", "CoOp", "--seed", "1", "--config-file"]
    words += [str(CONFIGS / "trainers/CoOp/vit_b16.yaml"), "DATASET.NAME", f"folder:{folder}"]
    words += ["INPUT.SIZE", f"({image_size}, {image_size})", "DATALOADER.NUM_WORKERS", "0"]
    words += ["DATALOADER.MEMORY_MB", str(memory), "VERBOSE", "False"]
    with redirect_stdout(io.StringIO()):
        cfg = setup_cfg(build_parser().parse_args(words))
        return DataManager(cfg).train_loader_x


def epoch(batches: Any) -> torch.Tensor:
    """One pass over the training images, from the same random state; the sum of all pixels."""
    torch.manual_seed(1)
    return torch.stack([batch["img"].double().sum() for batch in batches]).sum()


def data_table(counts: Sequence[int], runs: int, pixels: tuple[int, int], image_size: int) -> str:
    """A table of epochs over so many files, decoded each time and kept in memory."""
    rows, seconds = [], []
    for count in counts:
        with tempfile.TemporaryDirectory() as place:
            folder = write_folder(Path(place), class_names(8), math.ceil(count / 8), 1, pixels)
            ways = [partial(epoch, loader(folder, memory, image_size)) for memory in (0, 2048)]
            with redirect_stdout(io.StringIO()):  # says how many images are kept
                first = measure.in_turn(ways, 1).rounds[0][1]
            timed = measure.in_turn(ways, runs)
        decoded, kept = timed.results
        if decoded != kept:
            raise SystemExit(f"not the same results: views of {count} files kept in memory")
        seconds.append(timed.seconds(1))
        shown = [timed.seconds(0), first, timed.seconds(1)]
        rows.append([count, *(f"{taken:.2f}" for taken in shown), f"{timed.ratio():.1f}x"])
    headers = ["files", "decoded each epoch (s)", "kept: first epoch (s)", "later (s)", "faster"]
    shown = tabulate(rows, headers, disable_numparse=True)
    return f"{shown}\nWith the number of files: {growth(counts, seconds)}."


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = command.parser(__doc__, "benchmarks.growth")
    add = parser.add_argument
    add("--teachers", type=int, nargs="+", default=[12, 36, 200], help="H")
    add("--picked", type=int, nargs="+", default=[1, 3, 12], help="K")
    add("--classes", type=int, nargs="+", default=[10, 50, 100, 500], help="C")
    add("--images", type=int, nargs="+", default=[8, 32, 128], help="B")
    add("--files", type=int, nargs="+", default=[64, 256, 1024], help="training images")
    add("--runs", type=int, default=3)
    add("--size", choices=("text", "small"), default="text", help="text: that of ViT-B/16")
    add("--pixels", type=int, nargs=2, default=SIZE, help="width and height of the files")
    add("--image-size", type=int, default=224, help="side of the views")
    args = parser.parse_args(argv)
    tower = "ViT-B/16 text tower" if args.size == "text" else "small text tower"
    usual = ", ".join(f"{name} {value}" for name, value in USUAL.items())
    print(f"MoPD's step, {tower}, fp32, {usual} where not said otherwise; {measure.hardware()}")
    axes = zip(AXES, (args.teachers, args.picked, args.classes, args.images), strict=True)
    for axis, sizes in axes:
        print(f"\n{step_table(axis, sizes, args.size, args.runs)}")
    width, height = args.pixels
    print(f"\nAn epoch of JPEG files of {width}x{height}, views of {args.image_size} pixels")
    print(data_table(args.files, args.runs, (width, height), args.image_size))


if __name__ == "__main__":
    main()
