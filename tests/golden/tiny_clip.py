"""Deterministic CLIP weights for parity tests: no download, no dependence on a torch RNG.

Every tensor is drawn from NumPy's legacy RandomState (frozen by NumPy's policy), seeded
with the CRC-32 of its name, so any machine rebuilds the same weights bit for bit.
"""

import zlib

import numpy as np
import torch


def tensor(name, shape, scale=1.0, offset=0.0):
    """Draw float32 normal(offset, scale) of `shape`, seeded by `name`."""
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    return torch.from_numpy((rng.standard_normal(shape) * scale + offset).astype(np.float32))


def tiny_clip_state_dict(
    embed_dim=512,
    resolution=32,
    patch=8,
    width=64,
    layers=2,
    text_width=64,
    text_layers=2,
    vocab=49408,
    context=77,
):
    """State dict of a small ViT CLIP in OpenAI's key layout (float32).

    Feed it to `clip.model.build_model`, or `torch.save` it and load the file by path.
    """
    grid = resolution // patch
    sd = {}

    def put(name, shape, scale=0.08, offset=0.0):
        sd[name] = tensor(name, shape, scale, offset)

    def block(prefix, dim):
        put(f"{prefix}.attn.in_proj_weight", (3 * dim, dim), dim**-0.5)
        put(f"{prefix}.attn.in_proj_bias", (3 * dim,), 0.02)
        put(f"{prefix}.attn.out_proj.weight", (dim, dim), dim**-0.5)
        put(f"{prefix}.attn.out_proj.bias", (dim,), 0.02)
        for ln in ("ln_1", "ln_2"):
            put(f"{prefix}.{ln}.weight", (dim,), 0.05, 1.0)
            put(f"{prefix}.{ln}.bias", (dim,), 0.02)
        put(f"{prefix}.mlp.c_fc.weight", (4 * dim, dim), dim**-0.5)
        put(f"{prefix}.mlp.c_fc.bias", (4 * dim,), 0.02)
        put(f"{prefix}.mlp.c_proj.weight", (dim, 4 * dim), (4 * dim) ** -0.5)
        put(f"{prefix}.mlp.c_proj.bias", (dim,), 0.02)

    put("positional_embedding", (context, text_width), 0.05)
    put("text_projection", (text_width, embed_dim), text_width**-0.5)
    sd["logit_scale"] = torch.tensor(float(np.log(100.0)))
    put("visual.class_embedding", (width,), width**-0.5)
    put("visual.positional_embedding", (grid * grid + 1, width), width**-0.5)
    put("visual.proj", (width, embed_dim), width**-0.5)
    put("visual.conv1.weight", (width, 3, patch, patch), (3 * patch * patch) ** -0.5)
    for ln in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        dim = width if ln.startswith("visual") else text_width
        put(f"{ln}.weight", (dim,), 0.05, 1.0)
        put(f"{ln}.bias", (dim,), 0.02)
    put("token_embedding.weight", (vocab, text_width), 0.3)
    for i in range(layers):
        block(f"visual.transformer.resblocks.{i}", width)
    for i in range(text_layers):
        block(f"transformer.resblocks.{i}", text_width)
    return sd
