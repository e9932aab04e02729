"""Training steps on a GPU one after another: launched one by one, and as a CUDA graph.

    python -m benchmarks.graphs --methods MoPD CoOp --classes 5 50 500

A step is all of it from image features on, optimiser included; the figures of its terms stay on the
device, as in a training. The GPU is waited for once, after `--steps` steps, so that what the host
takes to launch a step is hidden behind the steps before, where they are long enough to hide it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from tabulate import tabulate

from benchmarks import measure
from benchmarks.training_step import BATCH, Step, learning_methods
from runs import command
from trainers.graphs import CHECKS

MODES = ("off", "on")
HEADERS = ["method", "classes", "images", "one by one (ms)", "graph (ms)", "faster"]


def step_seconds(
    method: str,
    classes: int,
    images: int | None = None,
    size: str = "text",
    precision: str = "fp16",
    steps: int = 50,
    device: str = "cuda",
) -> dict[str, Any]:
    """Seconds of a training step, both ways.

    Args:
        method: registered name.
        classes: C.
        images: of a batch; None for 32 (CoCoOp: 1).
        size: of the text tower, a key of `benchmarks.reference.SIZES`.
        precision: of the towers.
        steps: that are timed together.
        device: where.

    Returns:
        method, classes, images; off, seconds of a step whose kernels are launched one by one; on,
        those of a graph, None where steps of the method are not captured; note, what was said of
        the graph.
    """
    images = images or BATCH.get(method, 32)
    row: dict[str, Any] = {"method": method, "classes": classes, "images": images}
    for mode in MODES:
        pairs = ("TRAIN.CUDA_GRAPH", mode)
        step = Step(method, classes, images, size, device, precision, plain=False, pairs=pairs)
        trainer, shown = step.trainers[0], io.StringIO()
        # no end of an epoch, where rates change, and no step that looks at the gradient scaler
        trainer.num_batches, trainer.batch_idx = steps + 1, 1
        with redirect_stdout(shown):
            for _ in range(CHECKS):  # the first one is captured
                trainer.forward_backward(step.batch)
        row["note"] = shown.getvalue().strip()
        taken = _seconds(trainer, step.batch, steps)
        row[mode] = taken if mode == trainer.step_graph.mode else None
        trainer.step_graph.release()
    return row


def _seconds(trainer: Any, batch: Any, steps: int) -> float:
    measure.synchronize(trainer.device)
    started = time.perf_counter()
    for _ in range(steps):
        trainer.forward_backward(batch)
    measure.synchronize(trainer.device)
    return (time.perf_counter() - started) / steps


def table(rows: Sequence[dict[str, Any]], style: str = "simple") -> str:
    """The rows as a table."""
    shown = []
    for row in rows:
        eager, graph = row["off"], row["on"]
        ways = ["-", "-"] if graph is None else [f"{1e3 * graph:.2f}", f"{eager / graph:.1f}x"]
        shown.append([row["method"], row["classes"], row["images"], f"{1e3 * eager:.2f}", *ways])
    return tabulate(shown, HEADERS, style, disable_numparse=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser(__doc__, "benchmarks.graphs")
    add = parser.add_argument
    methods = learning_methods()
    add("--methods", nargs="+", choices=methods, default=methods, metavar="METHOD")
    add("--classes", type=int, nargs="+", default=[5, 50, 500])
    add("--images", type=int, help="images of a batch (default: 32, CoCoOp 1)")
    add("--steps", type=int, default=50, help="steps that are timed together")
    add("--size", choices=("text", "small"), default="text", help="text: that of ViT-B/16")
    add("--precision", choices=tuple(measure.TOLERANCE), default="fp16")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device here, and a CPU has no CUDA graphs")
    print(f"{args.precision}; {measure.hardware('cuda')}")
    rows = [
        step_seconds(method, count, args.images, args.size, args.precision, args.steps)
        for method in args.methods
        for count in args.classes
    ]
    print(table(rows))
    print("\n".join(f"{row['method']}, {row['classes']} classes: {row['note']}" for row in rows))


if __name__ == "__main__":
    main()
