"""open_clip's families: what their text towers are is read from the built model.

    open_clip:ViT-B-16/laion2b_s34b_b88k     an architecture and a tag of open_clip
    open_clip:MobileCLIP-S1/weights.pt       an architecture and a file
    open_clip:hf-hub:org/repo                a model of Hugging Face's hub
    open_clip:local-dir:/path                a folder with open_clip_config.json and weights

The package is loaded on first use. docs/backbones.md has the table of its families.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from trainers.backbones.openclip_names import (
    PREFIX,
    check_quick_gelu,
    clean,
    digest,
    library,
    preprocessing,
    recipe,
    spec,
    told,
    versions,
    vocabulary,
    weights_file,
)
from trainers.backbones.openclip_tokens import PROBE, HubTokenizer, wrap
from trainers.backbones.parts import END, FIRST, LAST, Parts, Preprocessing, TextParts
from trainers.backbones.precision import Precision
from trainers.backbones.tokens import Tokenizer
from trainers.errors import MethodError

__all__ = [
    "PREFIX", "clean", "digest", "load", "parts", "preprocessing", "recipe", "tokenizer",
    "versions", "vocabulary", "weights_file",
]  # fmt: skip

STRICT_IMAGES = True  # other images than the model's are refused unless they are asked for
CONVERTS = "convert_weights_to_lp"  # open_clip's function for half precision
# our precision -> open_clip's
PRECISIONS = {"fp32": "fp32", "amp": "fp32", "fp16": "fp16", "bf16": "bf16"}


def load(name: str, precision: Precision) -> Parts:
    """The parts of a model, see `load_clip`."""
    with torch.random.fork_rng(devices=[]):  # of weights, and of libraries on first use
        found = spec(name)
        check_quick_gelu(name)
        weights_file(name)  # says what is missing
        open_clip = library(name)
        with told(name), patch.object(open_clip.factory, CONVERTS, lowered):
            model = open_clip.create_model(
                found.model,
                found.pretrained or None,
                precision=PRECISIONS[precision.name],
                device=precision.device,
                require_pretrained=True,
            )
        return parts(model.eval(), tokenizer(name), preprocessing(name), name)


def lowered(model: Any, dtype: torch.dtype) -> None:
    """Give a model half precision by open_clip's function, which fails at a Linear projection.

    Those of SigLIP, which has its text projection with a bias.
    """
    from open_clip import model as built

    text = getattr(model, "text", model)
    projection = text.text_projection
    if isinstance(projection, nn.Linear):
        text.text_projection = None
    getattr(built, CONVERTS)(model, dtype)
    text.text_projection = projection
    if isinstance(projection, nn.Linear):
        projection.to(dtype)


def parts(model: Any, words: Tokenizer, images: Preprocessing, name: str) -> Parts:
    """The parts of a model that open_clip has built.

    Args:
        model: an `open_clip.CLIP` or `CustomTextCLIP`.
        words: its tokenizer.
        images: how its images are made ready.
        name: for messages.

    Raises:
        MethodError: a text tower of a kind that is not supported.
    """
    inner = getattr(model, "text", None)
    text = model if inner is None else inner
    prefix = "text_" if inner is None else ""
    _check_supported(model, text, name)
    pool, eos = getattr(text, f"{prefix}pool_type"), getattr(text, f"{prefix}eos_id", None)
    found = TextParts(
        blocks=text.transformer.resblocks,
        token_embedding=text.token_embedding,
        positional_embedding=text.positional_embedding,
        ln_final=text.ln_final,
        projection=text.text_projection,
        causal=text.attn_mask is not None,
        reads=_reads(pool, eos, words, len(text.positional_embedding), name),
        tokenizer=words,
    )
    return Parts(model.visual, found, model.logit_scale, model.logit_bias, images)


def read_position(pool: str, ids: list[int], eos: int | None) -> int:
    """Which position of a full prompt a text tower reads, by open_clip's rule."""
    if pool == "argmax":
        return ids.index(max(ids))
    if pool == "eos":
        return ids.index(eos) if eos in ids else 0
    return 0 if pool == "first" else len(ids) - 1


def _reads(pool: str, eos: int | None, words: Tokenizer, length: int, name: str) -> str:
    """END, LAST or FIRST; a rule that looks at ids must find the end token."""
    if pool in ("first", "last"):
        return {"first": FIRST, "last": LAST}[pool]
    ids = words.prompt(PROBE, PROBE, length)
    highest = pool != "argmax" or not isinstance(words, HubTokenizer) or words.highest <= ids[-1]
    full = [*ids, *[words.pad] * (length - len(ids))]
    if pool in ("argmax", "eos") and highest and read_position(pool, full, eos) == len(ids) - 1:
        return END
    raise MethodError(
        f"{name}: its text tower reads the position {pool!r} (end id {eos}), which is not that of "
        f"the end token of its tokenizer ({words.end}): this is not supported"
    )


def _check_supported(model: Any, text: Any, name: str) -> None:
    """Refuse text towers that the towers here do not compute."""
    problem = ""
    if hasattr(model, "text_decoder"):
        problem = "CoCa, which appends a class token to its prompts"
    elif not hasattr(text, "positional_embedding"):
        problem = f"a text tower of Hugging Face's transformers ({type(text).__name__})"
    elif getattr(text, "cls_emb", None) is not None or getattr(text, "use_pad_mask", False):
        problem = "a text tower that appends a class token or masks its padding"
    elif any(getattr(b.attn, "logit_scale", None) is not None for b in text.transformer.resblocks):
        problem = "a text tower with scaled cosine attention"
    elif getattr(model.visual, "output_tokens", False):
        problem = "an image tower that gives tokens beside its feature"
    if problem:
        raise MethodError(
            f"{name} is {problem}: this is not supported. docs/backbones.md has the families that "
            "are, for example open_clip:ViT-B-16/laion2b_s34b_b88k"
        )


def tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a model; its weights are not needed."""
    return _tokenizer(name, digest(name))


@cache
def _tokenizer(name: str, _: str) -> Tokenizer:
    with told(name):
        found = library(name).get_tokenizer(spec(name).model)
    try:
        return wrap(found)
    except MethodError as error:
        raise MethodError(f"{name}: {error}") from error
