"""A trainer as the module that code around CoOp knows: `trainer.model`."""

from typing import Any

import torch
from torch import Tensor, nn


class CustomCLIP(nn.Module):
    """Images to logits with all that a trainer holds, under the names of the CoOp codebase.

    A view: the modules are the trainer's own, and no checkpoint is made of this one.

    Attributes:
        prompt_learner: what is trained; None for a method that learns nothing.
        clip: both frozen towers, in evaluation mode whatever the mode of this module is.

    Args:
        trainer: a `PromptTrainer` whose model is built.
    """

    def __init__(self, trainer: Any):
        super().__init__()
        self.clip = trainer.clip
        self.prompt_learner = trainer.prompt_learner
        self._trainer = trainer

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, R, R), or of their unit features (B, D).

        Class features are computed anew each time, as what is learned may have moved. Gradients
        reach `prompt_learner`, not the images.
        """
        return self._trainer.fresh_inference(image)

    @property
    def image_encoder(self) -> nn.Module:
        """Images (B, 3, R, R) of `dtype` -> features (B, D), not normalised."""
        return self.clip.visual

    @property
    def text_encoder(self) -> nn.Module:
        """What `prompt_learner()` returns, three parts -> features (C, D), not normalised."""
        return self.clip.text

    @property
    def logit_scale(self) -> Tensor:
        """Scalar whose exp is the factor of the cosines, as CLIP's parameter of this name."""
        return self.clip.logit_scale.log()

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the image tower reads."""
        return self.clip.image_dtype
