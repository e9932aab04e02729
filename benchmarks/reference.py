"""The plain way, as CoOp's code family computes it: every prompt at 77 tokens, every position.

Tests compare our text tower with it, benchmarks time it.
"""

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import clip
import torch
import torch.nn.functional as F
from clip.simple_tokenizer import SimpleTokenizer
from torch import Tensor, nn

from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.packing import Layout
from trainers.backbones.precision import Precision
from trainers.backbones.tokens import fill

# sizes for `plain_clip`: a whole CLIP, a text tower of ViT-B/16 alone, and one for trials
SIZES: dict[str, dict[str, Any]] = {
    "ViT-B/16": {},
    "text": {"width": 64, "layers": 1},
    "small": {
        **{"embed_dim": 96, "text_width": 128, "text_layers": 3},
        **{"resolution": 32, "patch": 8, "width": 64, "layers": 1},
    },
}


def plain_clip(
    embed_dim: int = 512,
    text_width: int = 512,
    text_layers: int = 12,
    resolution: int = 224,
    patch: int = 16,
    width: int = 768,
    layers: int | tuple[int, int, int, int] = 12,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """OpenAI's CLIP with random weights; the defaults are ViT-B/16's sizes.

    Weights are those that fp16 files can hold, as all published ones. Those that OpenAI's code
    keeps in fp16 become `dtype`; the others (LayerNorm, embeddings) are float32.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = clip.model.CLIP(
            embed_dim, resolution, layers, width, None if isinstance(layers, tuple) else patch,
            77, 49408, text_width, text_width // 64, text_layers,
        )  # fmt: skip
    clip.model.convert_weights(model)
    for parameter in model.parameters():
        if parameter.dtype is torch.float16:
            parameter.data = parameter.data.to(dtype)
    return model.eval()


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
    words = " ".join(["X"] * M)
    tokens = torch.cat([clip.tokenize(f"{words} {name}.") for name in names])  # (C, 77)
    tokens = tokens.to(ctx.device)
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
    return plain_encode(model, torch.stack(prompts), tokens.argmax(dim=-1))


def plain_encode(model: Any, prompts: Tensor, ends: Tensor) -> Tensor:
    """Unit features (C, D) of assembled prompts (C, 77, W) whose end tokens stand at ends (C,)."""
    x = (prompts + model.positional_embedding).to(model.text_projection.dtype)
    x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)  # (C, 77, W)
    x = model.ln_final(x)
    x = x[torch.arange(len(x)), ends] @ model.text_projection
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def open_clip_text_features(model: Any, ids: Tensor, vectors: Tensor | None = None) -> Tensor:
    """Unit features (C, D) by open_clip's own forward, at full length.

    Args:
        model: as open_clip has built it.
        ids: (C, L), by its tokenizer.
        vectors: (C, L, W) in place of the embeddings of these ids.
    """
    embedding = getattr(model, "text", model).token_embedding
    if vectors is None:
        return model.encode_text(ids, normalize=True)
    with patch.object(embedding, "forward", lambda _: vectors):
        return model.encode_text(ids, normalize=True)


class PlainCLIP(FrozenCLIP):
    """`FrozenCLIP` as the published code computes it, so that every method can run on it.

    Prompts are padded to 77 tokens and go through every block at every position, class by class
    without sharing, and image by image where each image has its own.
    """

    def __init__(self, clip_model: Any, precision: Precision):
        super().__init__(clip_model, precision)
        text = self.text
        self.model: Any = SimpleNamespace(
            transformer=nn.Sequential(*text.blocks),
            token_embedding=text.token_embedding,
            positional_embedding=text.positional_embedding,
            ln_final=text.ln_final,
            text_projection=text.text_projection,
        )

    def encode_prompts(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """Prompts as `PromptLearner` gives them -> unit features (C, D), or (G, C, D)."""
        if prefix.dim() == 3:
            own = suffix.expand(len(prefix), -1, -1)
            sets = zip(prefix, own, strict=True)
            return torch.stack([self.encode_prompts(p, s, layout) for p, s in sets])
        prompts, ends = self.padded(prefix, suffix, layout)
        with self.precision.autocast():
            return plain_encode(self.model, prompts, ends)

    def padded(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Packed prompts, P shared tokens (P, W) and the rest (T, W), as (C, 77, W) and ends (C,).

        The padding is token 0, as OpenAI's tokenizer pads.
        """
        P, T = len(prefix), len(suffix)
        blank = self.model.token_embedding.weight[:1].detach()
        full = len(self.model.positional_embedding)
        index, ends, first = [], [], P
        for S in layout.lengths:
            own = range(first, first + S)
            index.append([*range(P), *own, *[P + T] * (full - P - S)])
            ends.append(P + S - 1)
            first += S
        table = torch.cat([prefix, suffix, blank])  # the last one is the padding
        return table[torch.tensor(index)], torch.tensor(ends)

    @torch.no_grad()
    def encode_templates(self, templates: list[str], classnames: list[str]) -> Tensor:
        """Hard prompts: H templates with one `{}` each -> unit features (H, C, D) in float32."""
        device = self.model.positional_embedding.device
        features = []
        for template in templates:
            tokens = clip.tokenize([fill(template, name) for name in classnames])  # (C, 77)
            prompts = self.model.token_embedding(tokens.to(device))
            with self.precision.autocast():
                features.append(plain_encode(self.model, prompts, tokens.argmax(dim=-1)))
        return torch.stack(features)
