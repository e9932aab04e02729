"""Floating-point operations of CLIP's towers, by formula, and what the device can do.

A multiplication and its addition count as two. Only matrix products are counted: all else is small.
"""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure


def block(tokens: int, width: int) -> int:
    """A transformer block on one sequence: its four matrices (12 W^2 weights), and attention."""
    return 2 * tokens * 12 * width**2 + 4 * tokens**2 * width


def image_flops(visual: Any) -> int:
    """One image through the image tower; a ResNet is counted as it runs."""
    side = visual.input_resolution
    if not hasattr(visual, "transformer"):
        weight = visual.conv1.weight
        images = torch.zeros(1, 3, side, side, dtype=weight.dtype, device=weight.device)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            visual(images)
        return counter.get_total_flops()
    width, _, patch, _ = visual.conv1.weight.shape
    patches = (side // patch) ** 2
    layers = len(visual.transformer.resblocks)
    ends = 2 * patches * 3 * patch**2 * width + 2 * visual.proj.numel()
    return ends + layers * block(patches + 1, width)


def text_flops(tower: Any, shared: int, own: int, prompts: int, sets: int, learns: bool) -> int:
    """A pass of the text tower over the tokens that are needed.

    Args:
        tower: the text tower.
        shared: tokens that all prompts share.
        own: tokens of all prompts after them.
        prompts: number of prompts, C.
        sets: number of sets of prompts, where each image has its own; else 1.
        learns: with a backward pass. It costs as much as the forward pass, as the weights are
            frozen, and twice as much in attention.
    """
    layers, width = len(tower.blocks), tower.width
    tokens = shared + own
    each = own / prompts
    # keys that a token sees, itself included, on average
    seen = shared * (shared + 1) / 2 + own * (shared + (each + 1) / 2)
    # the MLP of the last block, two thirds of a block, for the end tokens only
    linear = 2 * width**2 * (tokens * (12 * layers - 8) + prompts * 8)
    linear += 2 * prompts * tower.text_projection.numel()
    attention = 4 * width * seen * layers
    return round(sets * (linear * (1 + learns) + attention * (1 + 2 * learns)))


def matmul_rate(dtype: torch.dtype, device: str, seconds: float = 1.0) -> float:
    """Floating-point operations per second of a big matrix product, the best of several."""
    n = 8192 if torch.device(device).type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    timed = measure.in_turn([lambda: a @ b], 50, seconds, device)
    return 2 * n**3 / min(taken for (taken,) in timed.rounds)
