"""CLIP, loaded in one way for every backbone, and what it computes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.backbones import openai
from trainers.backbones.compiled import CompiledTower
from trainers.backbones.families import family_of
from trainers.backbones.full_tower import text_tower
from trainers.backbones.packing import Layout
from trainers.backbones.parts import Parts
from trainers.backbones.precision import Precision
from trainers.backbones.tokens import fill
from trainers.errors import MethodError


class FrozenCLIP(nn.Module):
    """Both towers of CLIP, frozen and in evaluation mode, in one precision.

    Attributes:
        visual: the image tower of the model (ViT, ResNet, whatever its family has).
        text: the text tower.
        logit_scale: scalar, exp of the learned temperature.
        logit_bias: scalar that a sigmoid model adds to all of its logits, else None. It is the same
            for all classes, so that softmax, losses and answers do not change with it: no method
            adds it.
        preprocessing: how images are made ready.
        embed_dim: D, the joint width.

    Args:
        clip_model: the parts of a model, or a model that OpenAI's `clip` has built.
        precision: of the towers.
    """

    visual: Any
    logit_scale: Tensor
    logit_bias: Tensor | None

    def __init__(self, clip_model: Any, precision: Precision):
        super().__init__()
        parts = clip_model if isinstance(clip_model, Parts) else openai.parts(clip_model)
        self.precision = precision
        self.visual = parts.visual
        self.text = text_tower(parts.text)
        scale, bias = parts.logit_scale.detach().float().exp(), parts.logit_bias
        self.register_buffer("logit_scale", scale.reshape(()))
        bias = None if bias is None else bias.detach().float().reshape(())
        self.register_buffer("logit_bias", bias)
        self.preprocessing = parts.preprocessing
        self.embed_dim: int = self.text.embed_dim
        self.compiled: CompiledTower | None = None
        self.requires_grad_(False).eval()

    @property
    def resolution(self) -> int:
        """Height of the images that the image tower reads, in pixels; mostly they are square."""
        return self.preprocessing.size[0]

    @property
    def image_dtype(self) -> torch.dtype:
        """Dtype that the image tower reads: that of its first matrix."""
        kinds = (nn.Conv2d, nn.Linear)
        return next(m.weight.dtype for m in self.visual.modules() if isinstance(m, kinds))

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Stay in evaluation mode: BatchNorm of a ResNet tower must never move."""
        return super().train(False)

    def compile_image_tower(self) -> None:
        """Encode images with a compiled tower from now on; it is compiled on first use."""
        self.compiled = CompiledTower(self.visual, self.logit_scale.device)

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Images (B, 3, height, width), normalised pixels -> unit features (B, D) in float32."""
        with self.precision.autocast():
            tower = self.compiled or self.visual
            features = tower(images.to(self.image_dtype))  # (B, D)
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
                self.text.tokenizer.prompt(fill(template, name), name, self.text.context_length)
                for name in classnames
            ]
            with self.precision.autocast():
                features.append(F.normalize(self.text.encode_tokens(tokens), dim=-1))  # (C, D)
        return torch.stack(features)  # (H, C, D)


def load_clip(name: str, precision: Precision) -> FrozenCLIP:
    """Load CLIP; all sizes come from the weights.

    Args:
        name: a name that OpenAI's `clip` knows (`ViT-B/16`, `RN50`, ...), or a path to a state
            dict or a TorchScript archive of OpenAI's layout, or `open_clip:...`, see
            `trainers.backbones.openclip`; relative paths are tried against the working folder, then
            against the repository.
        precision: dtype and device of the towers.

    Raises:
        MethodError: unknown name, no such file, a damaged file, or weights that are not CLIP's.
    """
    return FrozenCLIP(family_of(name).load(name, precision), precision).to(precision.device)


def check_image_size(clip: FrozenCLIP, size: tuple[int, ...], name: str) -> None:
    """Refuse images of another size than the image tower reads.

    Raises:
        MethodError: naming both sizes and the setting to change.
    """
    height, width = clip.preprocessing.size
    if tuple(size) != (height, width):
        raise MethodError(
            f"INPUT.SIZE is {tuple(size)}, but {name} reads images of {height}x{width} pixels: "
            f'set INPUT.SIZE "({height}, {width})"'
        )
