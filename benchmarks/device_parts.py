"""Parts of the report of a device: towers, input, precisions, whole jobs."""

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks import base2new, image_tower, measure, text_side, training_step
from benchmarks import input as image_input
from benchmarks.budget import Part
from benchmarks.images import SIZE, write_folder
from benchmarks.reference import SIZES, plain_clip
from runs.config import CONFIGS

STYLE = "github"  # tables in markdown
DISTINCT = 48  # files that are drawn for a job; the others are copies
TRAINED = ("checkpoint", "accuracy", "nll")  # of results.json, what both ways must agree in

Rows = list[tuple[str, Callable[[], Any]]]


def text_part(args: argparse.Namespace, seconds: float) -> Part:
    """Class features and their gradient."""
    precisions = ("fp32", "fp16") if args.device == "cuda" else ("fp32",)
    pairs = [(precision, count) for precision in precisions for count in args.classes]
    each = seconds / len(pairs) / 3

    def make(precision: str, count: int) -> tuple[str, dict[str, Any]]:
        side = text_side.TextSide(count, 4, args.text, args.device, precision)
        return precision, text_side.compare(side, args.runs, each)

    def show(found: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
        for precision in dict.fromkeys(name for name, _ in found):
            yield f"{precision}:"
            yield text_side.tables([row for name, row in found if name == precision], STYLE)

    rows: Rows = [(f"{p}, {n} classes", partial(make, p, n)) for p, n in pairs]
    return Part(f"Text side ({args.tower})", rows, show)


def method_part(args: argparse.Namespace, seconds: float) -> Part:
    """A step of every method that learns, both ways."""
    methods = training_step.learning_methods()

    def make(method: str) -> dict[str, Any]:
        images = training_step.BATCH.get(method, 32)
        given = (method, args.step_classes, images, args.text, args.device, args.precision)
        step = training_step.Step(*given)
        return training_step.compare(step, args.runs, seconds / len(methods) / 2)

    rows: Rows = [(method, partial(make, method)) for method in methods]
    title = f"Training steps ({args.tower}), {args.precision}, beside the plain way"
    return Part(title, rows, lambda found: [training_step.table(found, STYLE)])


def tower_part(args: argparse.Namespace, seconds: float) -> Part:
    """Images per second in every precision, as they are and compiled."""
    names = ("fp32", "bf16", "fp16") if args.device == "cuda" else ("fp32", "bf16")
    ways = (False, True) if args.compile else (False,)
    batch = 8 if args.small else 128 if args.device == "cuda" else 16
    each = min(6.0, seconds / len(names) / 4)

    def make(name: str, compiled: bool) -> list[Any]:
        if compiled:  # in a process that can be ended: a compiler takes what it takes
            words = ["--size", args.tower, "--precision", name, "--compile", "--batch", str(batch)]
            words += ["--device", args.device, "--seconds", str(each)]
            found = measure.fresh_process("benchmarks.image_tower", words)[1]
        else:
            found = image_tower.tower_speed(args.tower, name, False, batch, args.device, each)
        shown = [f"{found['rate']:,.0f}", f"{found['matmul'] / 1e12:.2f}"]
        shown += [f"{100 * found['share']:.0f}", f"{found['first']:.2f}"]
        return [name, str(compiled), batch, *shown]

    headers = ["precision", "MODEL.COMPILE", "images", "images/s", "matrix product (TFLOP/s)"]
    headers += ["% of it", "first batch (s)"]
    rows: Rows = [
        (f"{name}{', compiled' if way else ''}", partial(make, name, way))
        for way in ways
        for name in names
    ]
    return Part(f"Image tower ({args.tower})", rows, lambda found: [_table(found, headers)])


def input_part(args: argparse.Namespace, seconds: float) -> Part:
    """An evaluation beside decoding alone and the tower alone."""
    counts = sorted({0, 2} if args.device == "cpu" else {0, 8, os.cpu_count() or 8})
    sizes: dict[str, Any] = {"files": 600} if args.device == "cuda" else {"files": 20, "batch": 5}
    sizes = image_input.SMALL if args.small else sizes
    place = args.place / "input"
    place.mkdir()

    def make(workers: int) -> dict[str, Any]:
        side = image_input.Input(place, **sizes, workers=workers, device=args.device)
        return image_input.compare(side, args.runs, seconds / len(counts) / 2)

    rows: Rows = [(f"{workers} workers", partial(make, workers)) for workers in counts]
    title = f"Input of an evaluation ({args.tower}), {sizes['files']} JPEG files"
    return Part(title, rows, lambda found: [image_input.table(found, STYLE)])


def precision_part(args: argparse.Namespace, seconds: float) -> Part:
    """MoPD on the embedded world, train and test, in every precision."""
    names = ("fp32", "fp16", "bf16", "amp") if args.device == "cuda" else ("fp32", "bf16", "amp")
    graphs = args.device == "cuda"
    shots = 2 if args.small else 16

    def train(name: str, place: str, *pairs: str) -> dict[str, Any]:
        words = ["--root", str(args.place / "data"), "--seed", "1", "--trainer", "MoPD"]
        words += ["--dataset-config-file", str(CONFIGS / "datasets/shapes.yaml")]
        words += ["--config-file", str(CONFIGS / "trainers/MoPD/embedded.yaml")]
        words += ["--output-dir", str(args.place / "precisions" / name / place)]
        words += ["TRAINER.MOPD.PREC", name, "OPTIM.MAX_EPOCH", "2", "CACHE.VIEWS", "True"]
        words += ["DATASET.NUM_SHOTS", str(shots), "USE_CUDA", str(args.device == "cuda")]
        words += ["CACHE.DIR", str(args.place / "cache"), *pairs]
        return measure.fresh_process("benchmarks.job", ["train", *words])[1]["results"][0]

    def make(name: str) -> list[Any]:
        results = train(name, "usual")
        memory = [results["memory"][key] for key in ("process_gib", "device_gib")]
        same = "-"
        if graphs:
            eager = train(name, "eager", "TRAIN.CUDA_GRAPH", "off")
            differ = [key for key in TRAINED if results[key] != eager[key]]
            same = f"differ: {', '.join(differ)}" if differ else "same"
        shown = [f"{results['accuracy']:.2f}", f"{results['nll']:.4f}"]
        shown += [f"{results['seconds']['train']:.1f}"]
        return [name, *shown, *("-" if m is None else f"{m:.2f}" for m in memory), same]

    headers = ["precision", "accuracy", "NLL", "training (s)", "process (GiB)", "GPU (GiB)"]
    headers += ["with graphs and without"]
    rows: Rows = [(name, partial(make, name)) for name in names]
    title = f"Precisions: MoPD on shapes, {shots} shots, 2 epochs, the embedded CLIP"
    return Part(title, rows, lambda found: [_table(found, headers)])


def job_part(args: argparse.Namespace, seconds: float) -> Part:
    """A whole base2new job of two methods, in every way."""
    classes, train, test = (4, 2, 2) if args.small else (20, 16, 20)
    place = args.place / "jobs"
    settings = _job(args, place, 2 if args.small else 16)
    ways = {**base2new.WAYS, "device augment": ("INPUT.DEVICE_AUGMENT", "True")}
    # a GPU adds up gradients in no fixed order, so that even two equal runs differ
    exact = ("views",) if args.device == "cpu" else ()
    outcome: base2new.Outcome = {}

    def make(way: str) -> str:
        if not place.exists():
            names = text_side.class_names(classes)
            pixels = (64, 48) if args.small else SIZE
            write_folder(place / "images", names, train, test, pixels, DISTINCT)
            model: Any = plain_clip(**SIZES[args.tower])
            torch.save(model.state_dict(), place / "clip.pt")
        outcome.update(base2new.one_round(settings, {way: ways[way]}, place))
        beside = {key: found for key, found in outcome.items() if key[0] in ("ours", way)}
        base2new.check_results(beside, exact, close=())
        return way

    def show(found: list[str]) -> Iterator[str]:
        pairs = [(method, way) for method in settings.methods for way in found]
        shown = [base2new.row([outcome], way, method) for method, way in pairs]
        yield _table(shown, base2new.HEADERS)

    rows: Rows = [(way, partial(make, way)) for way in ("ours", "plain", "views", "device augment")]
    title = (
        f"base2new ({args.tower}), {classes} classes, {train} + {test} files of each, "
        f"{args.epochs} epochs (random weights: accuracies mean nothing)"
    )
    return Part(title, rows, show)


def _job(args: argparse.Namespace, place: Path, shots: int) -> argparse.Namespace:
    """The arguments of `benchmarks.base2new`."""
    pairs = ["OPTIM.MAX_EPOCH", str(args.epochs)]
    pairs += ["MODEL.BACKBONE.NAME", str(place / "clip.pt")]
    pairs += ["USE_CUDA", str(args.device == "cuda")]
    if args.small:
        pairs += ["INPUT.SIZE", "(32, 32)", "DATALOADER.NUM_WORKERS", "0"]
    words = ["--methods", *args.methods, "--dataset", f"folder:{place / 'images'}"]
    words += ["--shots", str(shots), "--data", str(place), "--", *pairs]
    parser = argparse.ArgumentParser()
    base2new.add_arguments(parser)
    return parser.parse_args(words)


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    return tabulate(rows, headers, STYLE, disable_numparse=True)
