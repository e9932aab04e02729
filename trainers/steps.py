"""One training step on image features, short of the optimiser: what a device can do by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dassl.metrics import compute_accuracy

LEAST_SCALE = 2.0**-10  # of the gradient scaler; it halves with every step that is skipped
SCALE_FREQ = 16  # batches from one look at it to the next: each makes the host wait


@dataclass(frozen=True)
class Terms:
    """Figures of a step, on the device.

    Attributes:
        names: of V figures: the loss terms, then "acc", the accuracy on the batch in percent.
        values: (V,).
    """

    names: tuple[str, ...]
    values: Tensor

    def unread(self) -> dict[str, Tensor]:
        """Each figure as a scalar tensor; the host waits for nothing."""
        return dict(zip(self.names, self.values.unbind(), strict=True))

    def read(self) -> dict[str, float]:
        """Each figure as a number, by one transfer.

        Raises:
            FloatingPointError: a loss term is not finite; the message gives all terms.
        """
        # 0.0 + -0.0 is 0.0
        summary = {n: 0.0 + v for n, v in zip(self.names, self.values.tolist(), strict=True)}
        losses = {name: value for name, value in summary.items() if name != "acc"}
        if not all(map(math.isfinite, losses.values())):
            shown = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
            raise FloatingPointError(f"Loss is infinite or NaN! Loss terms: {shown}.")
        return summary


def compute(trainer: Any, features: Tensor, label: Tensor) -> Terms:
    """Gradients of what is learned, in its parameters, and the figures of the step.

    Args:
        trainer: a `PromptTrainer`.
        features: (B, D) unit image features.
        label: (B,) class indices.
    """
    B = len(label)
    size = trainer.images_per_pass(B)
    logits, parts = [], []
    trainer.model_zero_grad()
    for part, part_label in zip(features.split(size), label.split(size), strict=True):
        part_logits, terms = trainer.losses(part, part_label)
        # terms are means over images, so that those of the parts add up to the batch's
        terms = {name: term * (len(part) / B) for name, term in terms.items()}
        parts.append([term.detach().reshape(1).to(label.device) for term in terms.values()])
        trainer.backward(terms)
        logits.append(part_logits.detach())
    found = parts[0]
    for more in parts[1:]:  # in float64, one after another, as the host would
        found = [total.double() + term for total, term in zip(found, more, strict=True)]
    found += compute_accuracy(torch.cat(logits), label)
    return Terms((*terms, "acc"), torch.cat(found))


def scaled_update(trainer: Any) -> None:
    """Optimiser step of a trainer with a gradient scaler.

    Raises:
        FloatingPointError: gradients overflow at any scale, so that no step was made for long.
    """
    scaler = trainer.scaler
    scaler.step(trainer.optim)
    scaler.update()
    if trainer.batch_idx % SCALE_FREQ == 0 and scaler.get_scale() < LEAST_SCALE:
        raise FloatingPointError(
            "Gradients overflow in half precision in every step: "
            f"use TRAINER.{trainer.node()}.PREC bf16 or fp32"
        )
