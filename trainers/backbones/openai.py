"""OpenAI's family: a causal text tower that reads the end token. Names and weight files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from trainers.backbones.parts import END, Parts, Preprocessing, TextParts
from trainers.backbones.precision import Precision
from trainers.backbones.tokens import CLIP, Tokenizer
from trainers.backbones.weights import find_weights, read_weights, weights_digest
from trainers.errors import MethodError

# one key of each part, to tell CLIP's weights from others before anything is built
NEEDED_KEYS = ("visual.conv1.weight", "positional_embedding", "text_projection", "logit_scale")
# sides of images, of names whose images are not 224 pixels wide
SIZES = {"RN50x4": 288, "RN50x16": 384, "RN50x64": 448, "ViT-L/14@336px": 336}
STRICT_IMAGES = False  # a run may make images ready as it likes, as published ones do
digest = weights_digest
weights_file = find_weights


def parts(model: Any) -> Parts:
    """The parts of a model that OpenAI's `clip` has built."""
    text = TextParts(
        blocks=model.transformer.resblocks,
        token_embedding=model.token_embedding,
        positional_embedding=model.positional_embedding,
        ln_final=model.ln_final,
        projection=model.text_projection,
        causal=True,
        reads=END,
        tokenizer=CLIP,
    )
    side = model.visual.input_resolution
    return Parts(model.visual, text, model.logit_scale, None, Preprocessing((side, side)))


def load(name: str, precision: Precision) -> Parts:
    """The parts of a name or file, see `load_clip`."""
    path = find_weights(name)
    weights = read_weights(path)
    missing = [key for key in NEEDED_KEYS if key not in weights]
    if missing:
        raise MethodError(
            f"{path} holds no weights of OpenAI's CLIP: {', '.join(missing)} not found among its "
            f"{len(weights)} keys; MODEL.BACKBONE.NAME takes a state dict in OpenAI's layout"
        )
    try:
        return parts(_build(weights, precision))
    except Exception as error:  # sizes that contradict each other fail anywhere in the builder
        raise MethodError(f"the weights in {path} do not fit together: {error}") from error


def preprocessing(name: str) -> Preprocessing:
    """How images are made ready for a name or file; no model is built."""
    if weights_digest(name) == name:
        side = SIZES.get(name, 224)
        return Preprocessing((side, side))
    weights = read_weights(find_weights(name))
    positions = weights.get("visual.positional_embedding")  # of patches and one class token
    patch = weights.get("visual.conv1.weight")
    if positions is None:
        positions, stride = weights.get("visual.attnpool.positional_embedding"), 32
    else:
        stride = patch.shape[-1] if patch is not None else 1
    if positions is None:
        raise MethodError(f"{name} holds no image tower of OpenAI's CLIP")
    side = stride * round((positions.shape[0] - 1) ** 0.5)
    return Preprocessing((side, side))


def tokenizer(name: str) -> Tokenizer:
    """OpenAI's tokenizer, whatever the name."""
    return CLIP


def clean(name: str) -> Callable[[str], str]:
    """A text as the tokenizer reads it, whatever the name."""
    return CLIP.clean


def recipe(name: str) -> dict[str, Any]:
    """How others load the model, beside OpenAI's own way: nothing to tell."""
    return {}


def versions(name: str) -> dict[str, str]:
    """Versions of code that features depend on, beside those of every family: none."""
    return {}


def vocabulary(name: str) -> Tensor | None:
    """Token vectors (V, W) of a name or file; nothing else is built."""
    return read_weights(find_weights(name)).get("token_embedding.weight")


def _build(weights: Mapping[str, Tensor], precision: Precision) -> Any:
    """OpenAI's model with these weights; no others are ever drawn, and no tensor is shared."""
    from clip.model import build_model  # `clip` loads torchvision, which is slow

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the builder's own copy goes to tensors without memory
        model = build_model(dict(weights))
    dtypes = {key: blank.dtype for key, blank in model.state_dict().items()}
    state = {}
    for key, value in weights.items():
        value = value.detach().to(precision.device).to(dtypes[key])
        # the builder rounds all but LayerNorm and embeddings to fp16, as OpenAI's files are
        dtype = precision.dtype if dtypes[key] is torch.float16 else dtypes[key]
        state[key] = value.to(dtype, copy=True)  # a mapped file may change, the towers must not
    model.load_state_dict(state, assign=True)
    for block in model.transformer.resblocks:  # no part of the state
        block.attn_mask = model.build_attention_mask()
    return model
