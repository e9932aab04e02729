"""Parts of the report of a device: steps of every method for class lists of the paper.

Steps come from image features: the method's losses, backward pass and optimiser step, with the
settings and the batch size that are shipped.
"""

import argparse
import io
import math
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cached_property, partial
from typing import Any

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import flops, kernels, measure, whole_table
from benchmarks.budget import Part
from benchmarks.reference import SIZES, plain_clip
from benchmarks.training_step import bare_trainer
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision
from trainers.graphs import CHECKS, has_graphs

STYLE = "github"  # tables in markdown
# base lists, from the smallest to the largest
DATASETS = ("EuroSAT", "DescribableTextures", "Caltech101", "StanfordCars", "ImageNet")
BACKWARDS = {"ProGrad": 2}  # backward passes of a step; the others take one
TOGETHER = 10  # steps that are timed together on a GPU, where one is short
MIB = 2**20


def base_lists(most: int) -> list[tuple[str, list[str]]]:
    """Dataset and class names of each list, the first `most` of `DATASETS`."""
    found = {dataset: names for dataset, _, names in kernels.class_lists(DATASETS, ["base"])}
    return [(dataset, found[dataset]) for dataset in DATASETS[:most]]


def methods() -> list[str]:
    """Those of the table that learn."""
    return list(dict.fromkeys(training.method for training in whole_table.trainings()))


class Steps:
    """Times of steps, one method and class list after another.

    Args:
        args: of the report: device, text (a key of `SIZES`), runs, precision, lists.
        seconds: of the whole part.
    """

    def __init__(self, args: argparse.Namespace, seconds: float):
        self.args = args
        self.lists = base_lists(args.lists)
        self.seconds = seconds / (len(self.lists) * len(methods()))

    @cached_property
    def clip(self) -> FrozenCLIP:
        """The towers that all share."""
        precision = resolve_precision(self.args.precision, self.args.device)
        model: Any = plain_clip(**SIZES[self.args.text], dtype=precision.dtype)
        return FrozenCLIP(model, precision).to(precision.device)

    @cached_property
    def rate(self) -> float:
        """FLOP/s of a big matrix product."""
        return flops.matmul_rate(self.clip.precision.dtype, self.args.device)

    def part(self) -> Part:
        """All of them, the smallest lists first, so that the largest are left out if need be."""
        rows: list[tuple[str, Callable[[], Any]]] = [
            (f"{method}, {dataset}", partial(self.row, method, dataset, names))
            for dataset, names in self.lists
            for method in methods()
        ]
        title = (
            f"Steps of every method, base classes ({self.args.tower}), {self.args.precision}, from "
            "image features"
        )
        return Part(title, rows, self.show)

    def row(self, method: str, dataset: str, names: list[str]) -> dict[str, Any]:
        """Time one, its kernels launched one by one and, on a GPU, as a CUDA graph."""
        trainer, batch = self._made(method, names, "off")
        step = partial(trainer.forward_backward, batch)
        B = len(batch["label"])
        found = {"method": method, "dataset": dataset, "classes": len(names), "images": B}
        found["eager"] = self._seconds(step)
        found["graph"] = self._graphed(method, names) if has_graphs(trainer.device) else None
        found["floor"] = self._operations(trainer, B) / self.rate
        found["memory"] = self._memory(trainer, batch, step)
        return found

    def _made(self, method: str, names: list[str], graph: str) -> tuple[Any, dict[str, Tensor]]:
        """A method for these classes with TRAIN.CUDA_GRAPH as given, and a batch."""
        cfg = whole_table.shipped_cfg(method, "caltech101")
        B, D = cfg.DATALOADER.TRAIN_X.BATCH_SIZE, self.clip.embed_dim
        trainer = bare_trainer(method, self.clip, names, "TRAIN.CUDA_GRAPH", graph)
        trainer.batch_idx = 1  # of which the gradient scaler is not looked at
        torch.manual_seed(1)
        if hasattr(trainer, "pool"):  # encoded once in a job, and no part of a step
            teachers = F.normalize(torch.randn(len(trainer.pool), len(names), D), dim=-1)
            trainer.__dict__["teachers"] = teachers.to(trainer.device)
        features = F.normalize(torch.randn(B, D), dim=-1)
        label = torch.randint(len(names), (B,))
        return trainer, {"feature": features.to(trainer.device), "label": label.to(trainer.device)}

    def _graphed(self, method: str, names: list[str]) -> float | None:
        """Seconds of a step that is replayed; None where it is not captured."""
        trainer, batch = self._made(method, names, "on")
        with redirect_stdout(io.StringIO()):
            seconds = self._seconds(partial(trainer.forward_backward, batch))
        captured = trainer.step_graph.mode != "off"
        trainer.step_graph.release()
        return seconds if captured else None

    def _seconds(self, step: Callable[[], Any]) -> float:
        """Of one step."""
        on_gpu = self.args.device == "cuda"
        together = TOGETHER if on_gpu else 1
        for _ in range(CHECKS if on_gpu else 1):
            step()  # kernels are loaded, the optimiser's memory is there, a graph is compared
        some = [lambda: [step() for _ in range(together)]]
        timed = measure.in_turn(some, self.args.runs, self.seconds / 2, self.args.device)
        return timed.seconds(0) / together

    def _operations(self, trainer: Any, B: int) -> int:
        """Floating-point operations of a step that are needed, those of the text tower."""
        prefix, suffix, layout = trainer.prompt_learner()
        sets = B if trainer.image_conditional else 1
        numbers = (len(prefix), len(suffix), len(layout.lengths), sets)
        forward, both = (
            flops.text_flops(self.clip.text, *numbers, learns) for learns in (False, True)
        )
        return forward + BACKWARDS.get(trainer.cfg.TRAINER.NAME, 1) * (both - forward)

    def _memory(self, trainer: Any, batch: dict[str, Tensor], step: Callable[[], Any]) -> int:
        """Bytes of a step: its peak on a GPU, what autograd keeps on a CPU."""
        if self.args.device == "cuda":
            return measure.peak_bytes(step, self.args.device)
        weights = (*trainer.clip.parameters(), *trainer.prompt_learner.parameters())
        some = [batch[key] for key in ("feature", "label")]
        return measure.kept_bytes(lambda: trainer.losses(*some)[1]["loss"], weights)

    def show(self, rows: list[dict[str, Any]]) -> Iterator[str]:
        """The steps, and what they mean for the whole table."""
        shown = [
            [
                *(row["method"], row["dataset"], row["classes"], row["images"]),
                *(_ms(row["eager"]), _ms(row["graph"]), _ms(row["floor"])),
                f"{min(row['eager'], row['graph'] or math.inf) / row['floor']:.1f}x",
                f"{row['memory'] / MIB:,.1f}",
            ]
            for row in rows
        ]
        memory = "peak (MiB)" if self.args.device == "cuda" else "kept (MiB)"
        headers = ["method", "class list", "classes", "images", "step (ms)", "with graph (ms)"]
        headers += ["floor (ms)", "best, of the floor", memory]
        yield tabulate(shown, headers, STYLE, disable_numparse=True)
        yield (
            "The floor is the arithmetic of the tokens that are needed, by formula, at the rate of "
            f"a big matrix product, {self.rate / 1e12:.2f} TFLOP/s."
        )
        columns = [
            {(row["method"], row["classes"]): row[way] for row in rows if row[way]}
            for way in ("eager", "graph")
        ]
        yield (
            f"Whole table, {whole_table.seeds()} seeds: {whole_table.FORMULA}, with the shipped "
            "batch sizes B and epochs; times of other class lists are interpolated (>: some are "
            "larger than all that were measured, and take more). Steps only, from image features "
            "that are there:"
        )
        headers = ["method", "steps", "hours", "hours with graphs"]
        yield tabulate(whole_table.projection(columns), headers, STYLE, disable_numparse=True)


def kernel_part(args: argparse.Namespace, seconds: float) -> Part:
    """Kernels of a step, the plain way beside ours, counted without content."""
    mode = FakeTensorMode()
    made: list[kernels.Counting] = []

    def count(method: str, dataset: str, names: list[str]) -> list[Any]:
        with mode:
            if not made:
                made.append(kernels.Counting(args.text))
            plain, ours = (made[0].count(way, method, names) for way in ("plain", "ours"))
        found = [plain.kernels, ours.kernels, f"{ours.kernels / plain.kernels:.2f}", ours.transfers]
        return [method, dataset, len(names), *found]

    def show(rows: list[list[Any]]) -> Iterator[str]:
        headers = ["method", "class list", "classes", "kernels, plain", "ours", "ratio"]
        headers += ["transfers"]
        yield tabulate(rows, headers, STYLE, disable_numparse=True)

    rows: list[tuple[str, Callable[[], Any]]] = [
        (f"{method}, {dataset}", partial(count, method, dataset, names))
        for method in methods()
        for dataset, names in base_lists(args.lists)
    ]
    return Part(f"Kernels of a step, base classes ({args.tower})", rows, show)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.3g}"
