"""Forward and backward of the text side: the plain 77-token way beside ours.

    python -m benchmarks.text_side                      # 50 classes, ViT-B/16's text tower
    python -m benchmarks.text_side --classes 10 100

Both ways are timed in turn in one process, and their features and gradients are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks.reference import plain_clip, plain_text_features
from trainers.clip_model import FrozenCLIP
from trainers.precision import resolve_precision
from trainers.prompt_learner import PromptLearner

ADJECTIVES = (
    "red",
    "old",
    "small",
    "wooden",
    "northern",
    "great",
    "common",
    "spotted",
    "long-tailed",
)
NOUNS = ("fox", "sparrow", "oak", "tractor", "lighthouse", "violin", "harbour", "beetle", "teapot")


def class_names(count: int) -> list[str]:
    """Names of two to five tokens, all different."""
    names = [f"{a} {n}" for n in NOUNS for a in ADJECTIVES]
    return [
        names[i % len(names)] + (f" type {i // len(names)}" if i >= len(names) else "")
        for i in range(count)
    ]


def once(features: Callable[[], Tensor], ctx: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Seconds of one forward + backward, and the gradient of the context."""
    ctx.grad = None
    started = time.perf_counter()
    (features() * target).sum().backward()
    if ctx.device.type == "cuda":
        torch.cuda.synchronize()
    assert ctx.grad is not None
    return time.perf_counter() - started, ctx.grad.clone()


def compare(count: int, tokens: int, runs: int) -> tuple[list, float]:
    """Time both ways in turn for `count` classes; a row of the table, and the ratio."""
    model = plain_clip()
    names = class_names(count)
    clip = FrozenCLIP(model, resolve_precision("fp32", "cpu"))
    torch.manual_seed(0)
    learner = PromptLearner(clip.text, names, n_ctx=tokens)
    ctx = learner.ctx
    target = torch.randn(count, clip.embed_dim)
    ways = (
        lambda: plain_text_features(model, names, ctx),
        lambda: clip.encode_prompts(*learner()),
    )
    with torch.no_grad():
        plain, ours = (way() for way in ways)
        difference = ((plain - ours).norm() / plain.norm()).item()
    taken: list[list[float]] = [[], []]
    gradients: list[Tensor] = []
    for _ in range(runs):
        timed = [once(way, ctx, target) for way in ways]
        gradients = [gradient for _, gradient in timed]
        for times, (seconds, _) in zip(taken, timed, strict=True):
            times.append(seconds)
    g_difference = ((gradients[0] - gradients[1]).norm() / gradients[0].norm()).item()
    assert difference < 1e-5 and g_difference < 1e-4, (difference, g_difference)
    ratio = median(plain_s / ours_s for plain_s, ours_s in zip(*taken, strict=True))
    shown = [f"{median(times):.3f}" for times in taken]
    row = [count, *shown, f"{ratio:.1f}x", f"{difference:.0e}", f"{g_difference:.0e}"]
    return row, ratio


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[50])
    parser.add_argument("--context", type=int, default=4, help="context tokens")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--at-least", type=float, default=0.0, help="else exit with code 1")
    args = parser.parse_args(argv)
    compared = [compare(count, args.context, args.runs) for count in args.classes]
    print(f"ViT-B/16 text tower, fp32, CPU, {torch.get_num_threads()} threads, forward + backward")
    headers = ["classes", "77 tokens (s)", "ours (s)", "faster", "features differ", "gradient"]
    print(tabulate([row for row, _ in compared], headers, disable_numparse=True))
    if min(ratio for _, ratio in compared) < args.at_least:
        raise SystemExit(f"not {args.at_least:g} times faster")


if __name__ == "__main__":
    main()
