"""The text tower of CLIPs whose positions see what comes after them: frozen, exact, full length.

Padding takes part in attention, so that a prompt is computed with all of it. Only what comes after
the keys and values of the last block is left out for all positions but the one that is read.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.backbones import text_tower as packed
from trainers.backbones.packing import Layout
from trainers.backbones.parts import END, FIRST, LAST, TextParts
from trainers.backbones.text_tower import TextTower


class FullTower(TextTower):
    """As `TextTower`, with every prompt at L tokens, the context length; B = G * C prompts."""

    def tokens(self, P: int, layout: Layout) -> int:
        """Positions that are computed for a set of prompts."""
        return len(layout.lengths) * self.context_length

    def _parts(self, P: int, layout: Layout) -> list[tuple[slice, Layout]]:
        return layout.few(max(1, packed.TOKENS_PER_PASS // self.context_length))

    def _encode(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """(G, P, W) and (G, T, W) -> (G, C, D) in float32."""
        G, P, W = prefix.shape
        L = self.context_length
        index, ends = layout.padded(P, L, prefix.device)
        blank = self.token_embedding.weight[self.tokenizer.pad].float().expand(G, 1, W)
        x = torch.cat([prefix, suffix, blank], dim=1).index_select(1, index.flatten())
        x = x.view(-1, L, W)  # (B, L, W)
        x = (x + self.positional_embedding.float()).to(self.dtype)
        read: Any = {END: ends.repeat(G), LAST: L - 1, FIRST: 0}[self.reads]
        rows = torch.arange(len(x), device=x.device)
        bias = self._bias(L, x) if self.causal else None
        biases = self._mlp_biases()
        for block, own in zip(self.blocks[:-1], biases, strict=False):
            q, k, v = self._split(block, block.ln_1(x))
            x = packed.add_mlp(x + packed.attended(block, q, k, v, bias), block, own)
        block = self.blocks[-1]
        q, k, v = self._split(block, block.ln_1(x), (rows, read))
        bias = None if bias is None else bias.expand(len(x), L, L)[rows, read][:, None, None]
        x = x[rows, read][:, None] + packed.attended(block, q, k, v, bias)  # (B, 1, W)
        x = packed.add_mlp(x, block, biases[-1])
        return self._project(x).view(G, -1, self.embed_dim)

    def _split(
        self, block: Any, h: Tensor, read: tuple[Any, Any] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, L, heads, W / heads); one query a prompt for `read`."""
        attn, W = block.attn, h.shape[-1]
        weight, bias = attn.in_proj_weight, attn.in_proj_bias
        if read is None:
            found = F.linear(h, weight, bias).unflatten(-1, (3 * self.heads, -1))
            return found.chunk(3, dim=2)
        q_bias, kv_bias = (None, None) if bias is None else (bias[:W], bias[W:])
        q = F.linear(h[read][:, None], weight[:W], q_bias).unflatten(-1, (self.heads, -1))
        kv = F.linear(h, weight[W:], kv_bias).unflatten(-1, (2 * self.heads, -1))
        return q, *kv.chunk(2, dim=2)

    def _bias(self, L: int, x: Tensor) -> Tensor:
        """(1, L, L), added to attention: -inf for what comes later."""
        return torch.full((1, L, L), float("-inf"), dtype=x.dtype, device=x.device).triu(1)


def text_tower(parts: TextParts) -> TextTower:
    """The tower that computes such a text half exactly, and as little as that needs."""
    short = parts.causal and parts.reads == END
    return TextTower(parts) if short else FullTower(parts)
