"""Top-k accuracy."""

from collections.abc import Sequence

import torch

__all__ = ["compute_accuracy"]


def compute_accuracy(
    output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor, topk: Sequence[int] = (1,)
) -> list[torch.Tensor]:
    """Return the accuracy in percent for each k, as tensors of shape (1,).

    Args:
        output: logits (B, C); of a tuple or list the first element is used.
        target: labels (B,).
        topk: the values of k, each at most C.
    """
    logits = output[0] if isinstance(output, (tuple, list)) else output
    assert isinstance(logits, torch.Tensor)
    ranked = logits.topk(max(topk), dim=1).indices  # (B, max k)
    hits = ranked == target.view(-1, 1)  # (B, max k)
    return [hits[:, :k].sum().float().reshape(1) * (100.0 / target.size(0)) for k in topk]
