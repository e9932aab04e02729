"""What a CLIP is made of: what each family reads from its built model, and all else is built on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from trainers.backbones.tokens import Tokenizer

# positions that a text tower may read: the end token's, or the last or first of a full prompt
END, LAST, FIRST = "end", "last", "first"
SHORTEST, SQUASH = RESIZES = ("shortest", "squash")
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """How images were made ready for a model when it was trained.

    Attributes:
        size: height and width, in pixels.
        resize: SHORTEST, the smaller edge, then a centre crop; SQUASH, both edges.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    interpolation: str = "bicubic"
    resize: str = SHORTEST


@dataclass(frozen=True)
class TextParts:
    """A text tower, as its family has found it in the built model.

    Attributes:
        blocks: residual blocks of OpenAI's form; open_clip's may scale and normalise more.
        token_embedding, positional_embedding, ln_final: as in the model.
        projection: (W, D), a Linear(W, D), or None where there is none.
        causal: a position sees none that come after it.
        reads: END, LAST or FIRST.
        tokenizer: whose ids the tower reads.
    """

    blocks: Sequence[Any]
    token_embedding: Any
    positional_embedding: Tensor
    ln_final: Any
    projection: Any
    causal: bool
    reads: str
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Parts:
    """Both towers of a CLIP.

    Attributes:
        visual: images (B, 3, height, width) -> features (B, D).
        text: the text tower.
        logit_scale: logarithm of the factor of cosines.
        logit_bias: what a sigmoid model adds to its logits; None for a softmax model.
        preprocessing: of images.
    """

    visual: nn.Module
    text: TextParts
    logit_scale: Tensor
    logit_bias: Tensor | None
    preprocessing: Preprocessing
