"""The text tower of causal CLIPs, frozen, exact, and short.

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
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainers.backbones.packing import Layout
from trainers.backbones.parts import TextParts

# a backward pass keeps 5 GiB of so many at ViT-B/16's size in fp32, half of it in fp16
TOKENS_PER_PASS = 2**14
SLOPE = 1.702  # of CLIP's QuickGELU


class TextTower(nn.Module):
    """The text half of a causal CLIP, and what it shares with one that is not (`FullTower`).

    Symbols: C classes, P shared tokens, S tokens of a class after them, T the sum of all S,
    N = P + T, W text width, D joint width; G sets of prompts, where each image has its own.

    Args:
        parts: what the family has read from the built model; its modules are taken over.
    """

    blocks: Any
    token_embedding: Any
    ln_final: Any

    def __init__(self, parts: TextParts):
        super().__init__()
        self.blocks = nn.ModuleList(parts.blocks)
        self.token_embedding = parts.token_embedding
        self.ln_final = parts.ln_final
        self.positional_embedding = parts.positional_embedding
        self.text_projection = parts.projection
        self.heads: int = self.blocks[0].attn.num_heads
        self.tokenizer, self.reads, self.causal = parts.tokenizer, parts.reads, parts.causal
        self.quick = all(map(_is_quick, self.blocks))

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the activations."""
        return self.blocks[0].mlp.c_fc.weight.dtype

    @property
    def embed_dim(self) -> int:
        """Joint width D."""
        if self.text_projection is None:
            return self.width
        linear = isinstance(self.text_projection, nn.Linear)
        return self.text_projection.out_features if linear else self.text_projection.shape[1]

    @property
    def context_length(self) -> int:
        """Most tokens of a prompt, start and end token included (77 for OpenAI's)."""
        return self.positional_embedding.shape[0]

    @property
    def width(self) -> int:
        """Width W of a token vector."""
        return self.positional_embedding.shape[1]

    def forward(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """Encode C prompts that start alike, or G such sets at once.

        Args:
            prefix: (P, W) token vectors that all classes share, the start token where there is one;
                (G, P, W) for a prefix of each set.
            suffix: (T, W) token vectors of each class after the prefix, up to its end token,
                packed as `layout` says; (G, T, W) if they differ between sets.
            layout: where each class' tokens are.

        Returns:
            (C, D) or (G, C, D) features in float32, not normalised, in the order of the classes.
        """
        suffix = suffix.expand(*prefix.shape[:-2], -1, -1)
        G = prod(prefix.shape[:-2])
        sets, tails = (t.reshape(G, *t.shape[-2:]) for t in (prefix, suffix))  # (G, P or T, W)
        N = self.tokens(sets.shape[1], layout)
        if len(sets) * N <= TOKENS_PER_PASS:
            x = self._encode(sets, tails, layout)  # (G, C, D)
        else:
            some = max(1, TOKENS_PER_PASS // N)  # sets in a pass
            passes = zip(sets.split(some), tails.split(some), strict=True)
            x = torch.cat([self._in_parts(*one, layout) for one in passes])
        return x.reshape(*prefix.shape[:-2], *x.shape[-2:])

    def _in_parts(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """As `_encode`, some classes at a time; the backward pass computes them again."""
        parts = [
            checkpoint(
                self._encode, prefix, suffix[:, rows], part,
                use_reentrant=False, preserve_rng_state=False,
            )
            for rows, part in self._parts(prefix.shape[1], layout)
        ]  # fmt: skip
        return torch.cat(parts, dim=1)

    def tokens(self, P: int, layout: Layout) -> int:
        """Positions that are computed for a set of prompts, but for padding of rows."""
        return P + sum(layout.lengths)

    def _parts(self, P: int, layout: Layout) -> list[tuple[slice, Layout]]:
        """Parts of a list that fit into a pass."""
        return layout.parts(TOKENS_PER_PASS - P)  # several sets are here only if all fits

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
            x = add_mlp(x, block, biases)
        return self._project(x)

    def _project(self, x: Tensor) -> Tensor:
        """What is read (..., W) -> features (..., D) in float32."""
        x = self.ln_final(x).to(self.dtype)
        if isinstance(self.text_projection, nn.Linear):
            x = self.text_projection(x)
        elif self.text_projection is not None:
            x = x @ self.text_projection
        return x.float()

    @torch.no_grad()
    def encode_tokens(self, tokens: list[list[int]], chunk: int = 512) -> Tensor:
        """Encode ready prompts, for example hard ones: lists of token ids, the end token last.

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
            ids = torch.tensor([*part[0][:shared], *packed], device=device)
            prefix, suffix = self.token_embedding(ids).split([shared, len(packed)])
            features.append(self(prefix.float(), suffix.float(), layout))
        return torch.cat(features)

    def _attend(self, block: Any, h: Tensor, P: int, R: int, bias: Tensor) -> Tensor:
        """Attention of tokens in R rows: (G, R * L, W) -> the same; see `Rows` for P and `bias`."""
        found = F.linear(h, block.attn.in_proj_weight, block.attn.in_proj_bias)
        found = found.unflatten(-1, (3 * self.heads, -1))  # (G, R * L, 3 heads, W / heads)
        q, k, v = found.chunk(3, dim=2) if R == 1 else self._in_rows(found, P, R)
        keys = k.shape[1]
        return attended(block, q, k, v, bias[..., :keys]).reshape(h.shape)

    def _in_rows(self, found: Tensor, P: int, R: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (G * R, L, heads, W / heads) of each row; keys and values, the start's first.

        Keys and values go together: a gradient comes back with as few kernels as for one of them.
        """
        q, kv = found.split([self.heads, 2 * self.heads], dim=2)
        q, kv = (t.unflatten(1, (R, -1)) for t in (q, kv))  # (G, R, L, ..)
        start = kv.flatten(1, 2)[:, None, :P].expand(-1, R, -1, -1, -1)
        k, v = torch.cat([start, kv], dim=2).flatten(0, 1).chunk(2, dim=2)  # (G * R, P + L, ..)
        return q.flatten(0, 1), k, v

    def _mlp_biases(self) -> list[tuple[Tensor, Tensor] | None]:
        """Both biases of the MLP of each block, times `SLOPE`: one kernel for all of them."""
        if not self.quick:
            return [None] * len(self.blocks)
        mlps = [block.mlp for block in self.blocks]
        found = torch._foreach_mul([m.bias for mlp in mlps for m in (mlp.c_fc, mlp.c_proj)], SLOPE)
        return list(zip(found[::2], found[1::2], strict=True))


def attended(block: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """What a block adds to its input before its MLP: (B, queries, W).

    Args:
        block: its attention may normalise queries and keys, scale heads, and normalise after it.
        q, k, v: (B, queries or keys, heads, W / heads).
        bias: added to attention, see `Rows`; None where all keys are seen.
    """
    attn = block.attn
    q, k = _through(q, attn, "ln_q"), _through(k, attn, "ln_k")
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, heads, queries or keys, W / heads)
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    if getattr(attn, "head_scale", None) is not None:
        seen = seen * attn.head_scale
    seen = _through(seen.transpose(1, 2).flatten(2), attn, "ln_inner").to(v.dtype)
    # scales may be in float32 where matrices are not
    return _through(attn.out_proj(seen), block, "ln_attn", "ls_1").to(v.dtype)


def _through(x: Tensor, holder: Any, *names: str) -> Tensor:
    """`x` through the modules of these names that there are."""
    for name in names:
        module = getattr(holder, name, None)
        x = x if module is None else module(x)
    return x


def _is_quick(block: Any) -> bool:
    """Whether a block's MLP is Linear - QuickGELU - Linear and nothing else."""
    kinds = [type(m).__name__ for m in block.mlp if not isinstance(m, nn.Identity)]
    return kinds[1:2] == ["QuickGELU"] and len(kinds) == 3


def add_mlp(x: Tensor, block: Any, biases: tuple[Tensor, Tensor] | None) -> Tensor:
    """x + mlp(ln_2(x)), both (..., W); `biases` are the MLP's, times `SLOPE`, if it is quick.

    QuickGELU(z) = z * sigmoid(SLOPE * z) = SiLU(SLOPE * z) / SLOPE, which is one kernel where the
    matrix product before and the sum after it do the scaling.
    """
    h, mlp = block.ln_2(x), block.mlp
    if biases is None:
        return x + _through(mlp(h), block, "ls_2").to(x.dtype)
    wide, narrow = biases
    z = torch.addmm(wide, h.flatten(0, -2), mlp.c_fc.weight.T, alpha=SLOPE)  # (N, 4W)
    out = F.linear(F.silu(z), mlp.c_proj.weight, narrow).view_as(x)  # (N, W)
    if _has(block, "ls_2"):
        return x + block.ls_2(out / SLOPE).to(x.dtype)
    return torch.add(x, out, alpha=1 / SLOPE)


def _has(block: Any, name: str) -> bool:
    """Whether a block has a module of this name that does anything."""
    return not isinstance(getattr(block, name, nn.Identity()), nn.Identity)


def _common_start(tokens: list[list[int]]) -> int:
    """How many leading ids all prompts share; at least one id of each prompt is left over."""
    alike = takewhile(lambda column: len(set(column)) == 1, zip(*tokens, strict=False))
    return min(len(list(alike)), min(map(len, tokens)) - 1)
