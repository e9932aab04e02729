"""CLIP's text tower, frozen, exact, and short.

The tower is causal and reads one position, the end token. So, without changing a result:

1. positions after a prompt's end token are never computed (77 -> 6..23), and prompts of
   different lengths are packed without padding;
2. tokens that all classes share at the start (start token, generic context) are computed once,
   and their keys and values serve every class, gradients included;
3. the last block is computed for the end positions only.

Memory is bounded: more than `TOKENS_PER_PASS` tokens are computed in parts, some classes at a time,
and the backward pass computes each part again instead of keeping its activations.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, takewhile
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# a backward pass keeps 5 GiB of so many at ViT-B/16's size in fp32, half of it in fp16
TOKENS_PER_PASS = 2**14


@dataclass(frozen=True)
class Layout:
    """How the tokens of C classes lie packed one after another, shortest class first.

    Attributes:
        groups: (classes, tokens of each) of every length, ascending.
        order: the class that stands at each place.
    """

    groups: tuple[tuple[int, int], ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Layout:
        """The layout for classes of these lengths (each at least 1)."""
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        groups = [(len(list(same)), n) for n, same in groupby(lengths[c] for c in order)]
        return cls(tuple(groups), tuple(order))

    def places(self) -> list[int]:
        """The place at which each class stands: the inverse of `order`."""
        return sorted(range(len(self.order)), key=self.order.__getitem__)

    def parts(self, most: int) -> Iterator[tuple[slice, Layout]]:
        """Neighbours of at most `most` tokens together, one class at least: rows and own layout.

        As few parts as fit, of about the same size: the largest decides about memory.
        """
        lengths = [n for classes, n in self.groups for _ in range(classes)]
        starts = list(accumulate(lengths, initial=0))
        count = ceil(starts[-1] / max(most, 1))
        most = min(most, ceil(starts[-1] / count) + lengths[-1] - 1)
        first = 0
        while first < len(lengths):
            stop = max(first + 1, bisect_right(starts, starts[first] + most) - 1)
            yield slice(starts[first], starts[stop]), Layout.of(lengths[first:stop])
            first = stop


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
        x = x[:, layout.places()]
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
        """(G, P, W) and (G, T, W) -> (G, C, D) in float32, in the order of the places."""
        P = prefix.shape[1]
        pos = self.positional_embedding.float()  # (77, W)
        own = [pos[P : P + S].repeat(C, 1) for C, S in layout.groups]  # (C*S, W) each
        x = torch.cat([prefix, suffix], dim=1) + torch.cat([pos[:P], *own])  # (G, N, W)
        x = x.to(self.dtype)
        for block in self.blocks[:-1]:
            x = x + self._attend(block, block.ln_1(x), P, layout)
            x = x + block.mlp(block.ln_2(x))
        x = self._last_block(x, P, layout)  # (G, C, W)
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
            packed = [token for c in layout.order for token in part[c][shared:]]
            prefix = self.token_embedding(torch.tensor(part[0][:shared], device=device))
            suffix = self.token_embedding(torch.tensor(packed, device=device))
            features.append(self(prefix.float(), suffix.float(), layout))
        return torch.cat(features)

    def _split(self, x: Tensor, C: int) -> Tensor:
        """(G, C*S, W) -> (G, C, heads, S, W/heads)."""
        return x.unflatten(1, (C, -1)).unflatten(-1, (self.heads, -1)).transpose(2, 3)

    def _keys(self, x: Tensor, P: int, rows: slice, C: int) -> Tensor:
        """Keys or values of C classes at `rows` of x (G, N, W) -> (G*C, heads, P+S, W/heads)."""
        shared = self._split(x[:, :P], 1).expand(-1, C, -1, -1, -1)  # (G, C, heads, P, W/heads)
        return torch.cat([shared, self._split(x[:, rows], C)], dim=3).flatten(0, 1)

    def _attend(self, block: Any, h: Tensor, P: int, layout: Layout) -> Tensor:
        """Causal attention over the packed tokens (G, N, W) -> (G, N, W)."""
        G = h.shape[0]
        q, k, v = F.linear(h, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
        shared = [self._split(t[:, :P], 1).flatten(0, 1) for t in (q, k, v)]  # (G, heads, P, ..)
        out = [F.scaled_dot_product_attention(shared[0], shared[1], shared[2], is_causal=True)]
        for rows, C, S in _groups(P, layout):
            # token i of a class sees the whole prefix and its own tokens up to i
            causal = torch.ones(S, P + S, dtype=torch.bool, device=h.device).tril(P)
            keys, values = self._keys(k, P, rows, C), self._keys(v, P, rows, C)
            queries = self._split(q[:, rows], C).flatten(0, 1)  # (G*C, heads, S, W/heads)
            out.append(F.scaled_dot_product_attention(queries, keys, values, attn_mask=causal))
        packed = [t.transpose(1, 2).reshape(G, -1, self.width) for t in out]
        return block.attn.out_proj(torch.cat(packed, dim=1))

    def _last_block(self, x: Tensor, P: int, layout: Layout) -> Tensor:
        """The last block for the end positions only: (G, N, W) -> (G, C, W)."""
        block, W = self.blocks[-1], self.width
        h, weight, bias = block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias
        k, v = F.linear(h, weight[W:], bias[W:]).chunk(2, -1)  # (G, N, W) each
        out = []
        for rows, C, S in _groups(P, layout):
            ends = slice(rows.start + S - 1, rows.stop, S)
            queries = self._split(F.linear(h[:, ends], weight[:W], bias[:W]), C).flatten(0, 1)
            keys, values = self._keys(k, P, rows, C), self._keys(v, P, rows, C)
            seen = F.scaled_dot_product_attention(queries, keys, values)  # (G*C, heads, 1, W/heads)
            out.append(x[:, ends] + block.attn.out_proj(seen.reshape(-1, C, W)))
        y = torch.cat(out, dim=1)  # (G, C, W)
        return y + block.mlp(block.ln_2(y))


def _groups(P: int, layout: Layout) -> Iterator[tuple[slice, int, int]]:
    """Rows of the packed tokens, classes C and tokens of each S, for each length."""
    start = P
    for C, S in layout.groups:
        yield slice(start, start + C * S), C, S
        start += C * S


def _common_start(tokens: list[list[int]]) -> int:
    """How many leading ids all prompts share; at least one id of each prompt is left over."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False))
    return min(max(len(list(alike)), 1), min(map(len, tokens)) - 1)
