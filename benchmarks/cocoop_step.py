"""CoCoOp's training step: the plain way (77 tokens, image by image) beside ours.

    python -m benchmarks.cocoop_step                      # 50 classes, ViT-B/16's text tower
    python -m benchmarks.cocoop_step --classes 500 --ours # ImageNet's base classes, memory as well

A step is the text side's forward and backward for a batch of image features: meta-net, prompts,
text tower, cross-entropy, ours in parts of the batch as in training. Both ways are timed in turn in
one process, and their losses and gradients are compared. "kept" is the most that autograd keeps for
a backward pass, counted exactly.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.reference import plain_clip, plain_text_features
from benchmarks.text_side import class_names
from trainers.clip_model import FrozenCLIP
from trainers.cocoop import CoCoOp
from trainers.precision import resolve_precision
from trainers.prompt_learner import PromptLearner

CONTEXT = 4
Losses = Callable[[], Iterator[Tensor]]  # of the parts of a batch; they add up to the batch's


class Ours(CoCoOp):
    """The method's own loss, without data, optimiser and image tower."""

    def __init__(self, clip: FrozenCLIP, learner: nn.Module):
        self.clip, self.prompt_learner = clip, learner

    def parts(self, features: Tensor, label: Tensor) -> Iterator[Tensor]:
        """The loss of each part of a batch, as in a training step."""
        size = self.images_per_pass(len(label))
        for part, part_label in zip(features.split(size), label.split(size), strict=True):
            yield self.losses(part, part_label)[1]["loss"] * (len(part) / len(label))


def plain_loss(
    model: Any, learner: Any, names: list[str], features: Tensor, label: Tensor
) -> Iterator[Tensor]:
    """Mean cross-entropy as the published code computes it: the text tower once per image."""
    shift = learner.meta_net(features)  # (B, W)
    logits = []
    for feature, own in zip(features, shift, strict=True):
        classes = plain_text_features(model, names, learner.ctx + own)  # (C, D)
        logits.append(model.logit_scale.exp() * feature @ classes.T)
    yield F.cross_entropy(torch.stack(logits), label)


def kept_bytes(losses: Losses, weights: set[int]) -> int:
    """Bytes of the tensors that autograd keeps for the first part's backward, without weights."""
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        graph = next(losses())  # alive while counting, so that no storage takes another's place
    total = sum(storages.values())
    del graph
    return total


def gradients(losses: Losses, learner: nn.Module) -> tuple[float, float, Tensor]:
    """Seconds of one step, its loss, and all gradients as one vector."""
    learner.zero_grad()
    started = time.perf_counter()
    value = 0.0
    for loss in losses():
        loss.backward()
        value += loss.item()
    seconds = time.perf_counter() - started
    vector = torch.cat([p.grad.flatten() for p in learner.parameters() if p.grad is not None])
    return seconds, value, vector.clone()


def compare(count: int, images: int, runs: int, plain: bool) -> tuple[list, float]:
    """A row of the table for `count` classes, and how many times ours is faster."""
    model = plain_clip()
    clip = FrozenCLIP(model, resolve_precision("fp32", "cpu"))
    torch.manual_seed(0)
    names = class_names(count)
    learner: Any = PromptLearner(clip.text, names, n_ctx=CONTEXT)
    D, W = clip.embed_dim, clip.text.width
    layers = (nn.Linear(D, D // 16), nn.ReLU(), nn.Linear(D // 16, W))
    learner.meta_net = nn.Sequential(*layers)
    features = F.normalize(torch.randn(images, D), dim=-1)
    label = torch.randint(count, (images,))
    ours = Ours(clip, learner)
    ways: list[Losses] = [lambda: ours.parts(features, label)]
    if plain:
        ways.insert(0, lambda: plain_loss(model, learner, names, features, label))
    weights = {p.untyped_storage().data_ptr() for p in (*clip.parameters(), *learner.parameters())}
    kept = [kept_bytes(way, weights) / 2**30 for way in ways]
    steps = [[gradients(way, learner) for way in ways] for _ in range(runs)]
    seconds = [median(step[i][0] for step in steps) for i in range(len(ways))]
    if not plain:
        return [count, images, "-", f"{seconds[0]:.2f}", "-", "-", f"{kept[0]:.2f}", "-"], 0.0
    (_, plain_value, plain_grad), (_, value, grad) = steps[-1]
    difference = ((plain_grad - grad).norm() / plain_grad.norm()).item()
    assert abs(plain_value - value) < 1e-4 * abs(plain_value) and difference < 1e-4, difference
    ratio = median(step[0][0] / step[1][0] for step in steps)
    shown = [f"{seconds[0]:.2f}", f"{seconds[1]:.2f}", f"{ratio:.1f}x"]
    memory = [f"{kept[0]:.2f}", f"{kept[1]:.2f}", f"{difference:.0e}"]
    return [count, images, *shown, *memory], ratio


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, nargs="+", default=[50])
    parser.add_argument("--images", type=int, default=1, help="images of a batch")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ours", action="store_true", help="leave the plain way out")
    parser.add_argument("--at-least", type=float, default=0.0, help="else exit with code 1")
    args = parser.parse_args(argv)
    compared = [compare(n, args.images, args.runs, not args.ours) for n in args.classes]
    print(f"CoCoOp, ViT-B/16 text tower, {CONTEXT} context tokens, fp32, CPU, ", end="")
    print(f"{torch.get_num_threads()} threads, forward + backward")
    headers = ["classes", "images", "plain (s)", "ours (s)", "faster", "plain kept (GiB)",
               "ours kept (GiB)", "gradients differ"]  # fmt: skip
    print(tabulate([row for row, _ in compared], headers, disable_numparse=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process: {peak:.1f} GiB")
    if not args.ours and min(ratio for _, ratio in compared) < args.at_least:
        raise SystemExit(f"not {args.at_least:g} times faster")


if __name__ == "__main__":
    main()
