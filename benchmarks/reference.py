"""The plain way, as CoOp's code family computes it: every prompt at 77 tokens, every position.

Tests compare our text tower with it, benchmarks time it.
"""

from __future__ import annotations

from typing import Any

import clip
import torch
from clip.simple_tokenizer import SimpleTokenizer
from torch import Tensor, nn


def plain_clip(
    embed_dim: int = 512,
    text_width: int = 512,
    text_layers: int = 12,
    resolution: int = 224,
    patch: int = 16,
    width: int = 768,
    layers: int | tuple[int, int, int, int] = 12,
    seed: int = 0,
) -> nn.Module:
    """OpenAI's CLIP with random weights in float32; the defaults are ViT-B/16's sizes.

    Weights are those that fp16 files can hold, as all published ones.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = clip.model.CLIP(
            embed_dim, resolution, layers, width, None if isinstance(layers, tuple) else patch,
            77, 49408, text_width, text_width // 64, text_layers,
        )  # fmt: skip
    clip.model.convert_weights(model)
    return model.float().eval()


def plain_text_features(
    model: Any, classnames: list[str], ctx: Tensor, position: str = "end"
) -> Tensor:
    """Unit class features (C, D) of soft prompts, 77 tokens each.

    Args:
        model: from `plain_clip`.
        classnames: C names.
        ctx: (M, W) or (C, M, W).
        position: end, middle or front.
    """
    names = [name.replace("_", " ") for name in classnames]
    M = ctx.shape[-2]
    fill = " ".join(["X"] * M)
    tokens = torch.cat([clip.tokenize(f"{fill} {name}.") for name in names])  # (C, 77)
    with torch.no_grad():
        embedding = model.token_embedding(tokens)  # (C, 77, W)
    ctx = ctx if ctx.dim() == 3 else ctx.expand(len(names), -1, -1)  # (C, M, W)
    start, tail = embedding[:, :1], embedding[:, 1 + M :]
    tokenizer = SimpleTokenizer()
    prompts = []
    for c, name in enumerate(names):
        n = len(tokenizer.encode(name))
        before, after = {
            "end": (ctx[c], ctx[c, :0]),
            "middle": (ctx[c, : M // 2], ctx[c, M // 2 :]),
            "front": (ctx[c, :0], ctx[c]),
        }[position]
        n = 0 if position == "end" else n
        prompts.append(torch.cat([start[c], before, tail[c, :n], after, tail[c, n:]]))
    return plain_encode(model, torch.stack(prompts), tokens)


def plain_encode(model: Any, prompts: Tensor, tokens: Tensor) -> Tensor:
    """Unit features (C, D) of assembled prompts (C, 77, W) whose ids are tokens (C, 77)."""
    x = prompts + model.positional_embedding
    x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)  # (C, 77, W)
    x = model.ln_final(x)
    x = x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ model.text_projection
    return x / x.norm(dim=-1, keepdim=True)
