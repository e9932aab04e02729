"""Class features and their gradient: the plain 77-token way beside ours, time and memory.

    python -m benchmarks.text_side                      # 50 classes, ViT-B/16's text tower
    python -m benchmarks.text_side --classes 10 50 100 500 1000
    python -m benchmarks.text_side --backbone open_clip:ViT-B-16-SigLIP2

With --backbone the plain way is open_clip's own `encode_text`; an architecture without a tag has
random weights, which take as long. Both ways are timed in turn in one process, forward alone and
forward + backward, and their features and gradients are compared. "kept" is what autograd keeps for
the backward pass, counted; "peak" is the most that a fresh process needs for forward + backward,
above what it had before.

Where the plain backward pass would take more than half of the free memory, its classes are worked
off in parts (their features do not depend on each other): the same work in less memory. Its peak is
then not measured; what it keeps is a lower bound of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks import measure
from benchmarks.measure import GIB, TOLERANCE
from benchmarks.reference import SIZES, plain_clip, plain_text_features
from runs import command
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision
from trainers.prompts.learner import PromptLearner

ADJECTIVES = (
    *("red", "old", "small", "wooden", "northern", "great", "common", "spotted", "long-tailed"),
)
NOUNS = ("fox", "sparrow", "oak", "tractor", "lighthouse", "violin", "harbour", "beetle", "teapot")
FEW = 4  # classes that tell what the plain way keeps for one


def class_names(count: int) -> list[str]:
    """Names of two to five tokens, all different."""
    names = [f"{a} {n}" for n in NOUNS for a in ADJECTIVES]
    return [
        names[i % len(names)] + (f" type {i // len(names)}" if i >= len(names) else "")
        for i in range(count)
    ]


@dataclass
class TextSide:
    """Both ways for C classes and M context tokens."""

    count: int
    tokens: int = 4
    size: str = "text"
    device: str = "cpu"
    precision: str = "fp32"
    share: float = 0.5  # of the free memory, for the plain backward pass

    def __post_init__(self) -> None:
        precision = resolve_precision(self.precision, self.device)
        self.model: Any = plain_clip(**SIZES[self.size], dtype=precision.dtype).to(self.device)
        self.clip = FrozenCLIP(self.model, precision).to(self.device)
        torch.manual_seed(0)
        self.names = class_names(self.count)
        self.learner = PromptLearner(self.clip.text, self.names, n_ctx=self.tokens).to(self.device)
        self.target = torch.randn(self.count, self.clip.embed_dim).to(self.device)

    def plain(self, part: slice = slice(None)) -> Tensor:
        """Class features (C, D) of some classes, the plain way."""
        with self.clip.precision.autocast():
            return plain_text_features(self.model, self.names[part], self.learner.ctx)

    def ours(self) -> Tensor:
        """Class features (C, D), our way."""
        return self.clip.encode_prompts(*self.learner())

    @cached_property
    def plain_kept(self) -> int:
        """Bytes that the plain way keeps for the backward pass.

        Every class keeps the same, as all have 77 tokens, so that two small counts tell the rest.
        """
        few = min(FEW, self.count)
        half = max(1, few // 2)
        kept = [
            measure.kept_bytes(partial(self.plain, slice(n)), self.model.parameters())
            for n in (few, half)
        ]
        if few == self.count:
            return kept[0]
        return kept[0] + (self.count - few) * (kept[0] - kept[1]) // (few - half)

    @cached_property
    def ours_kept(self) -> int:
        """Bytes that our way keeps for the backward pass."""
        return measure.kept_bytes(self.ours, self.model.parameters())

    @cached_property
    def parts(self) -> int:
        """Parts in which the plain backward pass fits into memory."""
        return ceil(self.plain_need / (self.share * measure.available_bytes(self.device)))

    @property
    def plain_need(self) -> float:
        """About as many bytes as the plain forward + backward needs."""
        return 1.25 * self.plain_kept

    def gradient(self, way: str) -> Tensor:
        """Gradient (M, W) of the context after forward + backward."""
        ctx = self.learner.ctx
        ctx.grad = None
        size = ceil(self.count / (self.parts if way == "plain" else 1))
        for first in range(0, self.count, size):
            part = slice(first, first + size)
            features = self.plain(part) if way == "plain" else self.ours()
            (features * self.target[part]).sum().backward()
        assert ctx.grad is not None
        return ctx.grad.clone()

    def peak(self, way: str) -> int:
        """Most bytes that forward + backward of one way needs, in a process of its own on a CPU."""
        if self.device != "cpu":
            return measure.peak_bytes(lambda: self.gradient(way), self.device)
        words = [*self.flags(), "--share", "1.0", "--peak-of", way]
        return measure.fresh_process("benchmarks.text_side", words, measure.GIVE_BACK)[1]

    def notes(self) -> list[str]:
        """What else is to be said of it, in lines."""
        return []

    def flags(self) -> list[str]:
        """Words of the command line that make this side."""
        words = ["--classes", str(self.count), "--context", str(self.tokens), "--size", self.size]
        return [*words, "--precision", self.precision]


def compare(side: TextSide, runs: int, seconds: float) -> dict[str, Any]:
    """Time and compare both ways; a row of figures, ratios as numbers."""
    ways = (side.plain, side.ours)
    with torch.no_grad():
        forward = measure.in_turn(ways, runs, seconds, side.device)
    both = measure.in_turn(
        [partial(side.gradient, way) for way in ("plain", "ours")],
        runs, seconds, side.device,
    )  # fmt: skip
    differ = [measure.difference(*timed.results) for timed in (forward, both)]
    where = f"for {side.count} classes"
    for what, found, most in zip(
        ("features", "gradients"), differ, TOLERANCE[side.precision], strict=True
    ):
        measure.check_same(f"{what} {where}", found, most)
    whole = side.parts == 1
    ours_peak = side.peak("ours")
    plain_peak = side.peak("plain") if whole else side.plain_kept
    return {
        "classes": side.count,
        "forward": [forward.seconds(0), forward.seconds(1), forward.ratio()],
        "both": [both.seconds(0), both.seconds(1), both.ratio()],
        "kept": [side.plain_kept, side.ours_kept, side.plain_kept / side.ours_kept],
        "peak": [plain_peak, ours_peak, plain_peak / ours_peak],
        "parts": side.parts,
        "differ": differ,
    }


def tables(rows: Sequence[dict[str, Any]], style: str = "simple") -> str:
    """Both tables, of time and of memory, and a line on rows that were worked off in parts."""
    times, memory, notes = [], [], []
    for row in rows:
        shown = [f"{s:.3f}" if i < 2 else f"{s:.1f}x" for k in ("forward", "both")
                 for i, s in enumerate(row[k])]  # fmt: skip
        times.append([row["classes"], *shown, *(f"{d:.0e}" for d in row["differ"])])
        least = ">" if row["parts"] > 1 else ""
        memory.append([row["classes"]])
        for key, sign in (("kept", ""), ("peak", least)):
            plain, ours, ratio = row[key]
            memory[-1] += [f"{sign}{plain / GIB:.2f}", f"{ours / GIB:.2f}", f"{sign}{ratio:.1f}x"]
        if least:
            notes.append(
                f"{row['classes']} classes: the plain backward pass was timed in {row['parts']} "
                "parts of the classes; its peak is at least what it keeps"
            )
    both = ["plain (s)", "ours (s)", "faster"]
    headers = ["classes", *(f"forward, {both[0]}", *both[1:], f"+ backward, {both[0]}", *both[1:])]
    first = tabulate(
        times, [*headers, "features differ", "gradients"], style, disable_numparse=True
    )
    both = ["plain (GiB)", "ours (GiB)", "less"]
    headers = ["classes", *(f"kept, {both[0]}", *both[1:], f"peak, {both[0]}", *both[1:])]
    second = tabulate(memory, headers, style, disable_numparse=True)
    return "\n".join([first, "", second, *notes])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = command.parser(__doc__, "benchmarks.text_side")
    add = parser.add_argument
    add("--classes", type=int, nargs="+", default=[50])
    add("--context", type=int, default=4, help="context tokens")
    add("--runs", type=int, default=5, help="rounds of both ways")
    add("--seconds", type=float, default=60.0, help="no further round after so many (each row)")
    add("--size", choices=("text", "small"), default="text", help="text: that of ViT-B/16")
    add("--device", default="cpu")
    add("--precision", choices=tuple(TOLERANCE), default="fp32")
    add("--share", type=float, default=0.5, help="of the free memory, for the plain way")
    add("--at-least", type=float, default=0.0, help="times faster, else exit with code 1")
    add("--memory-at-least", type=float, default=0.0, help="times less at the peak, else code 1")
    add("--peak-of", choices=("plain", "ours"), help="print the peak of one way in bytes, no more")
    add("--backbone", default="", help="open_clip:ARCHITECTURE, or with /TAG-OR-FILE its weights")
    args = parser.parse_args(argv)
    settings = (args.context, args.size, args.device, args.precision, args.share)

    def side_of(classes: int) -> TextSide:
        if not args.backbone:
            return TextSide(classes, *settings)
        from benchmarks.backbone_side import BackboneSide  # open_clip takes long to load

        return BackboneSide(classes, *settings, args.backbone)

    if args.peak_of:
        side_of(2).gradient(args.peak_of)  # libraries take memory of their own at first
        side = side_of(args.classes[0])
        assert side.parts >= 1  # counted before the peak is
        print(measure.peak_bytes(lambda: side.gradient(args.peak_of)))
        return
    rows, notes = [], []
    for count in args.classes:
        rows.append(compare(side := side_of(count), args.runs, args.seconds))
        notes += side.notes()
    tower = "ViT-B/16 text tower" if args.size == "text" else "small text tower"
    tower = f"text tower of {args.backbone}" if args.backbone else tower
    print(f"{tower}, {args.context} context tokens, {args.precision}")
    print(measure.hardware(args.device))
    print("\n".join([tables(rows), *notes]))
    for what in ("forward", "both"):
        where = what if what == "forward" else "forward + backward"
        measure.check_at_least(f"{where} is faster", [row[what][2] for row in rows], args.at_least)
    ratios = [row["peak"][2] for row in rows]
    measure.check_at_least("peak memory is less", ratios, args.memory_at_least)


if __name__ == "__main__":
    main()
