"""Losses that several methods share."""

import torch.nn.functional as F
from torch import Tensor


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each image (Hinton et al. 2015).

    Args:
        student: (..., C) logits.
        teacher: (..., C) logits, broadcast against the student's.
        temperature: T > 0.

    Returns:
        (...), one value for each image (and teacher).
    """
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    log_q = F.log_softmax(student / temperature, dim=-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1)
