"""CLIP, loaded in one way for every backbone: a name, a state dict or a TorchScript archive."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.backbones.compiled import CompiledTower
from trainers.backbones.packing import Layout
from trainers.backbones.precision import Precision
from trainers.backbones.text_tower import TextTower
from trainers.backbones.tokens import encode_prompt, fill
from trainers.backbones.weights import find_weights, read_weights
from trainers.errors import MethodError

# one key of each part, to tell CLIP's weights from others before anything is built
NEEDED_KEYS = ("visual.conv1.weight", "positional_embedding", "text_projection", "logit_scale")


class FrozenCLIP(nn.Module):
    """Both towers of CLIP, frozen and in evaluation mode, in one precision.

    Attributes:
        visual: OpenAI's image tower (ViT or ResNet).
        text: the text tower.
        logit_scale: scalar, exp of the learned temperature.
        embed_dim: D, the joint width.
        resolution: side of the square images that the image tower reads, in pixels.
    """

    visual: Any
    logit_scale: Tensor

    def __init__(self, clip_model: Any, precision: Precision):
        super().__init__()
        self.precision = precision
        self.visual = clip_model.visual
        self.text = TextTower(clip_model)
        self.register_buffer("logit_scale", clip_model.logit_scale.detach().float().exp())
        self.embed_dim: int = clip_model.text_projection.shape[1]
        self.resolution: int = clip_model.visual.input_resolution
        self.compiled: CompiledTower | None = None
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Stay in evaluation mode: BatchNorm of a ResNet tower must never move."""
        return super().train(False)

    def compile_image_tower(self) -> None:
        """Encode images with a compiled tower from now on; it is compiled on first use."""
        self.compiled = CompiledTower(self.visual, self.logit_scale.device)

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Images (B, 3, R, R), normalised pixels -> unit features (B, D) in float32."""
        with self.precision.autocast():
            tower = self.compiled or self.visual
            features = tower(images.to(self.visual.conv1.weight.dtype))  # (B, D)
        return F.normalize(features.float(), dim=-1)

    def encode_prompts(self, prefix: Tensor, suffix: Tensor, layout: Layout) -> Tensor:
        """Prompts as `PromptLearner` gives them -> unit class features (C, D) in float32."""
        with self.precision.autocast():
            features = self.text(prefix, suffix, layout)  # (C, D)
        return F.normalize(features.float(), dim=-1)

    @torch.no_grad()
    def encode_templates(self, templates: list[str], classnames: list[str]) -> Tensor:
        """Hard prompts: H templates with one `{}` each -> unit features (H, C, D) in float32.

        Raises:
            MethodError: a prompt does not fit; the message names the class.
        """
        features = []
        for template in templates:
            tokens = [
                encode_prompt(fill(template, name), name, self.text.context_length)
                for name in classnames
            ]
            with self.precision.autocast():
                features.append(F.normalize(self.text.encode_tokens(tokens), dim=-1))  # (C, D)
        return torch.stack(features)  # (H, C, D)


def load_clip(name: str, precision: Precision) -> FrozenCLIP:
    """Load CLIP; all sizes come from the weights.

    Args:
        name: a name that OpenAI's `clip` knows (`ViT-B/16`, `RN50`, ...), or a path to a state
            dict or a TorchScript archive; relative paths are tried against the working folder,
            then against the repository.
        precision: dtype and device of the towers.

    Raises:
        MethodError: unknown name, no such file, a damaged file, or weights that are not CLIP's.
    """
    path = find_weights(name)
    weights = read_weights(path)
    missing = [key for key in NEEDED_KEYS if key not in weights]
    if missing:
        raise MethodError(
            f"{path} holds no weights of OpenAI's CLIP: {', '.join(missing)} not found among its "
            f"{len(weights)} keys; MODEL.BACKBONE.NAME takes a state dict in OpenAI's layout"
        )
    try:
        model = _build(weights, precision)
    except Exception as error:  # sizes that contradict each other fail anywhere in the builder
        raise MethodError(f"the weights in {path} do not fit together: {error}") from error
    return FrozenCLIP(model, precision).to(precision.device)


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


def check_image_size(clip: FrozenCLIP, size: tuple[int, ...], name: str) -> None:
    """Refuse images of another size than the image tower reads.

    Raises:
        MethodError: naming both sizes and the setting to change.
    """
    side = clip.resolution
    if tuple(size) != (side, side):
        raise MethodError(
            f"INPUT.SIZE is {tuple(size)}, but {name} reads images of {side}x{side} pixels: "
            f'set INPUT.SIZE "({side}, {side})"'
        )
