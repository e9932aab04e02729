"""CLIP's text tower, frozen, exact, and short.

The tower is causal and reads one position, the end token. So, without changing a result:

1. positions after a prompt's end token are never computed (77 -> 6..23);
2. tokens that all classes share at the start (start token, generic context) are computed once, and
   their keys and values serve every class, gradients included; `packing` says how;
3. what comes after the last attention is computed for the end positions only.

On a GPU a short computation costs what its kernels cost to launch: their number is the same for
every list of classes, and below that of the plain tower.

Memory is bounded: more than `TOKENS_PER_PASS` tokens are computed in parts, some classes at a time,
and the backward pass computes each part again instead of keeping its activations.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainers.backbones.packing import Layout

# a backward pass keeps 5 GiB of so many at ViT-B/16's size in fp32, half of it in fp16
TOKENS_PER_PASS = 2**14
SLOPE = 1.702  # of CLIP's QuickGELU


class TextTower(nn.Module):
    """The text half of a `clip` model: the only text encoder of this project.

    Symbols: C classes, P shared tokens, S tokens of a class after them, T the sum of all S,
    N = P + T, W text width, D joint width; G sets of prompts, where each image has its own.

    Args:
        clip_model: a model built by OpenAI's `clip`; its text modules are taken over.
    """

    blocks: Any
    token_embedding: Any
    ln_final: Any

    def __init__(self, clip_model: Any):
        super().__init__()
        self.blocks = nn.ModuleList(clip_model.transformer.resblocks)
        self.token_embedding = clip_model.token_embedding
        self.ln_final = clip_model.ln_final
        self.positional_embedding = clip_model.positional_embedding
        self.text_projection = clip_model.text_projection
        self.heads: int = self.blocks[0].attn.num_heads

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the activations."""
        return self.text_projection.dtype

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt, start and end token included (77)."""
        return self.positional_embedding.shape[0]

    @property
    def width(self) -> int:
        """Width W of a token vector."""
        return self.positional_embedding.shape[1]

    def forward(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """Encode C prompts that start alike, or G such sets at once.

        Args:
            prefix: (P, W) token vectors that all classes share, P >= 1 (the start token);
                (G, P, W) for a prefix of each set.
            suffix: (T, W) token vectors of each class after the prefix, up to its end token,
                packed as `layout` says; (G, T, W) if they differ between sets.
            layout: where each class' tokens are.

        Returns:
            (C, D) or (G, C, D) features in float32, not normalised, in the order of the classes.
        """
        suffix = suffix.expand(*prefix.shape[:-2], -1, -1)
        sets, tails = (t.reshape(-1, *t.shape[-2:]) for t in (prefix, suffix))  # (G, P or T, W)
        N = sets.shape[1] + tails.shape[1]
        if len(sets) * N <= TOKENS_PER_PASS:
            x = self._encode(sets, tails, layout)  # (G, C, D)
        else:
            some = max(1, TOKENS_PER_PASS // N)  # sets in a pass
            passes = zip(sets.split(some), tails.split(some), strict=True)
            x = torch.cat([self._in_parts(*one, layout) for one in passes])
        return x.reshape(*prefix.shape[:-2], *x.shape[-2:])

    def _in_parts(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """As `_encode`, some classes at a time; the backward pass computes them again."""
        most = TOKENS_PER_PASS - prefix.shape[1]  # several sets are here only if all fits
        parts = [
            checkpoint(
                self._encode, prefix, suffix[:, rows], part,
                use_reentrant=False, preserve_rng_state=False,
            )
            for rows, part in layout.parts(most)
        ]  # fmt: skip
        return torch.cat(parts, dim=1)

    def _encode(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """(G, P, W) and (G, T, W) -> (G, C, D) in float32."""
        G, P, W = prefix.shape
        rows = layout.rows(P, prefix.device, self.dtype)
        x = torch.cat([prefix, suffix.index_select(1, rows.source)], dim=1)  # (G, R * L, W)
        x = (x + self.positional_embedding.float()[rows.position]).to(self.dtype)
        bias = rows.bias.expand(G, -1, -1, -1, -1).flatten(0, 1)  # (G * R, 1, L, keys)
        for block, biases in zip(self.blocks, self._mlp_biases(), strict=True):
            x = x + self._attend(block, block.ln_1(x), P, rows.count, bias)
            if block is self.blocks[-1]:
                x = x.index_select(1, rows.ends)  # (G, C, W)
            x = _add_mlp(x, block.ln_2(x), block.mlp, *biases)
        return (self.ln_final(x).to(self.dtype) @ self.text_projection).float()

    @torch.no_grad()
    def encode_tokens(self, tokens: list[list[int]], chunk: int = 512) -> Tensor:
        """Encode ready prompts, for example hard ones: lists of token ids, end token last.

        Args:
            tokens: N prompts, each from start to end token, at most `context_length` ids.
            chunk: prompts that are encoded at a time, a bound on memory.

        Returns:
            (N, D) features in float32, not normalised.
        """
        device = self.positional_embedding.device
        features = []
        for i in range(0, len(tokens), chunk):
            part = tokens[i : i + chunk]
            shared = _common_start(part)
            layout = Layout.of([len(ids) - shared for ids in part])
            packed = [token for ids in part for token in ids[shared:]]
            prefix = self.token_embedding(torch.tensor(part[0][:shared], device=device))
            suffix = self.token_embedding(torch.tensor(packed, device=device))
            features.append(self(prefix.float(), suffix.float(), layout))
        return torch.cat(features)

    def _attend(self, block: Any, h: Tensor, P: int, R: int, bias: Tensor) -> Tensor:
        """Attention of tokens in R rows: (G, R * L, W) -> the same; see `Rows` for P and `bias`."""
        found = F.linear(h, block.attn.in_proj_weight, block.attn.in_proj_bias)
        found = found.unflatten(-1, (3 * self.heads, -1))  # (G, R * L, 3 heads, W / heads)
        q, k, v = found.chunk(3, dim=2) if R == 1 else self._in_rows(found, P, R)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (G * R, heads, L or keys, W / heads)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[..., : k.shape[2]])
        return block.attn.out_proj(seen.transpose(1, 2).reshape(h.shape))

    def _in_rows(self, found: Tensor, P: int, R: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (G * R, L, heads, W / heads) of each row; keys and values, the start's first.

        Keys and values go together: a gradient comes back with as few kernels as for one of them.
        """
        q, kv = found.split([self.heads, 2 * self.heads], dim=2)
        q, kv = (t.unflatten(1, (R, -1)) for t in (q, kv))  # (G, R, L, ..)
        start = kv.flatten(1, 2)[:, None, :P].expand(-1, R, -1, -1, -1)
        k, v = torch.cat([start, kv], dim=2).flatten(0, 1).chunk(2, dim=2)  # (G * R, P + L, ..)
        return q.flatten(0, 1), k, v

    def _mlp_biases(self) -> list[tuple[Tensor, Tensor]]:
        """Both biases of the MLP of each block, times `SLOPE`: one kernel for all of them."""
        mlps = [block.mlp for block in self.blocks]
        found = torch._foreach_mul([m.bias for mlp in mlps for m in (mlp.c_fc, mlp.c_proj)], SLOPE)
        return list(zip(found[::2], found[1::2], strict=True))


def _add_mlp(x: Tensor, h: Tensor, mlp: Any, wide: Tensor, narrow: Tensor) -> Tensor:
    """x + mlp(h), both (..., W), with the MLP's biases times `SLOPE`.

    QuickGELU(z) = z * sigmoid(SLOPE * z) = SiLU(SLOPE * z) / SLOPE, which is one kernel where the
    matrix product before and the sum after it do the scaling.
    """
    z = torch.addmm(wide, h.flatten(0, -2), mlp.c_fc.weight.T, alpha=SLOPE)  # (N, 4W)
    out = F.linear(F.silu(z), mlp.c_proj.weight, narrow)  # (N, W)
    return torch.add(x, out.view_as(x), alpha=1 / SLOPE)


def _common_start(tokens: list[list[int]]) -> int:
    """How many leading ids all prompts share; at least one id of each prompt is left over."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False))
    return min(max(len(list(alike)), 1), min(map(len, tokens)) - 1)
