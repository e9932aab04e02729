"""MoPD's gate: which K of the H teachers an image learns from, and with what weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# by what teachers are scored; the K with the highest scores are picked
GATES = {
    "learned": "the image feature times a learned matrix (the paper's gate)",
    "dataset": "one learned vector, the same for all images",
    "uniform": "all H teachers with equal weights",
    "uniform_topk": "K teachers drawn for each image, with equal weights",
    "random": "standard normal scores: K teachers drawn for each image, with random weights",
    "oracle": "the teacher's log-probability of the true label, an upper bound for analysis",
}
LEARNED = ("learned", "dataset")
DRAWN = ("uniform_topk", "random")
LARGE = 64  # teachers; pools from here on were too many to compute all


@dataclass(frozen=True)
class Gate:
    """One way of picking teachers.

    Attributes:
        kind: a key of `GATES`.
        num_teachers: K.
        noise: standard deviation of normal noise on the scores when teachers are picked; their
            weights come from the scores without it.
        warmup: epochs at the start in which all H teachers are picked.
        cosine: temperature of scores that are cosines; 0: plain products.
    """

    kind: str = "learned"
    num_teachers: int = 3
    noise: float = 0.0
    warmup: int = 0
    cosine: float = 0.0

    @property
    def draws(self) -> bool:
        """Whether random numbers are drawn for each batch."""
        return bool(self.noise) or self.kind in DRAWN

    def warms_up(self, epoch: int) -> bool:
        """Whether all H teachers are picked in an epoch, counted from 0."""
        return epoch < self.warmup

    def picks_few(self, B: int, H: int, epoch: int) -> bool:
        """Whether B images pick so few of H teachers, without a look at what teachers say, that
        only these need be computed: features of half of the pool are copied for it at most. Small
        pools, those of before, stay as they were to the last bit."""
        few = H >= LARGE and 2 * B * self.num_teachers <= H
        return few and self.kind in LEARNED and not self.warms_up(epoch)

    def parameter(self, embed_dim: int, H: int) -> nn.Parameter | None:
        """What is learned, (D, H), or (H,) for all images, or nothing.

        Zero at the start; columns of cosines are random, as zero has no direction.
        """
        if self.kind not in LEARNED:
            return None
        start = torch.randn if self.cosine else torch.zeros
        return nn.Parameter(start((embed_dim, H) if self.kind == "learned" else (H,)))

    def scores(self, weight: Tensor, features: Tensor) -> Tensor:
        """Scores (B, H) of a learned gate for unit image features (B, D)."""
        if self.kind == "dataset":
            return weight.expand(len(features), -1)
        if self.cosine:
            return features @ F.normalize(weight, dim=0) / self.cosine
        return features @ weight

    def pick(
        self,
        weight: Tensor | None,
        features: Tensor,
        teachers: Tensor | None,
        label: Tensor,
        epoch: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Pick teachers for a batch.

        Args:
            weight: the learned parameter, see `parameter`.
            features: (B, D) unit image features.
            teachers: (B, H, C) logits; a learned gate needs none.
            label: (B,).
            epoch: counted from 0, for the warm-up.
            generator: of the CPU, so that draws are the same on every device.

        Returns:
            weights (B, K), which sum to 1, and indices (B, K) of the picked teachers.
        """
        if self.kind in LEARNED:
            assert weight is not None
            scores = self.scores(weight, features)
        elif teachers is None:
            raise ValueError(f"GATE {self.kind} needs the teachers' logits")
        elif self.kind == "oracle":
            scores = teachers.log_softmax(dim=-1).take_along_dim(label[:, None, None], -1)[..., 0]
        elif self.kind == "uniform":
            scores = teachers.new_zeros(teachers.shape[:2])
        else:
            scores = self._normal(teachers, generator)
        K = scores.shape[1] if self.kind == "uniform" or self.warms_up(epoch) else self.num_teachers
        noise = self._normal(scores, generator) * self.noise if self.noise else None
        weights, picked = pick_teachers(scores, K, noise)
        if self.kind in ("uniform", "uniform_topk"):
            weights = torch.full_like(weights, 1 / K)
        return weights, picked

    @staticmethod
    def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal numbers (B, H), for a tensor (B, H, ...)."""
        return torch.randn(like.shape[:2], generator=generator).to(like)


def pick_teachers(
    scores: Tensor, num_teachers: int, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Pick K of H teachers for each image, the ones with the highest scores.

    Ties go to the lowest index, on every device: at the start a learned gate is zero, and the
    first K teachers of the pool are picked.

    Args:
        scores: (B, H), the gate's logits.
        num_teachers: K, 1 <= K <= H.
        noise: (B, H), added to the scores for the choice, not for the weights.

    Returns:
        weights (B, K), softmax of the picked scores, and their indices (B, K).
    """
    # a stable sort, because the tie order of topk differs from device to device
    ranked = scores if noise is None else scores + noise
    picked = ranked.argsort(dim=-1, descending=True, stable=True)[:, :num_teachers]  # (B, K)
    return scores.gather(-1, picked).softmax(dim=-1), picked


def agreement(features: Tensor, known: Tensor) -> Tensor:
    """A gate (D, H) whose scores are the teachers' log-probabilities of the label, as far as a
    linear map tells them: ridge regression, with a penalty of 1 on unit features.

    Args:
        features: (N, D) unit image features.
        known: (N, H) log-probabilities of the true label.
    """
    known = known - known.mean(dim=-1, keepdim=True)  # what all teachers know does not matter
    gram = features.T @ features
    gram.diagonal().add_(1.0)
    return torch.linalg.solve(gram, features.T @ known)


def spread_out(values: Tensor, picked: Tensor, H: int) -> Tensor:
    """Values (B, K) of picked teachers as (B, H), zero for all others."""
    return values.new_zeros(len(values), H).scatter(1, picked, values)


class GateLog:
    """What a gate does in an epoch, summed up on the device: a step waits for nothing.

    Attributes:
        sums: (2 H + 2,) float64, of picks and of weights of each teacher, of entropies, of images;
            always the same tensor.

    Args:
        num_teachers: H.
        device: of the gate.
    """

    def __init__(self, num_teachers: int, device: torch.device | str = "cpu"):
        self.num_teachers = num_teachers
        self.sums = torch.zeros(2 * num_teachers + 2, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, weights: Tensor, picked: Tensor) -> None:
        """Count a batch: weights (B, K) and indices (B, K) of the picked teachers."""
        weights, H = weights.detach().double(), self.num_teachers
        picks = weights.new_zeros(len(weights), H).scatter(1, picked, 1.0)
        entropy = torch.special.entr(weights).sum(dim=-1, keepdim=True)
        each = [picks, spread_out(weights, picked, H), entropy]
        self.sums[:-1].add_(torch.cat(each, dim=-1).sum(dim=0))
        self.sums[-1].add_(len(weights))

    def forget(self) -> None:
        """Start anew."""
        self.sums.zero_()

    def take(self) -> dict[str, Any]:
        """Means over the images since the last call, as metrics.jsonl has them; then forget them.

        Returns:
            gate_load: of each teacher, the share of images for which it is picked (sums to K).
            gate_weight: of each teacher, its mean weight (sums to 1).
            gate_entropy: mean entropy of an image's weights, in bits: 0 to log2 K.
        """
        *sums, images = self.sums.tolist()
        self.forget()
        if not images:
            return {}
        H, means = self.num_teachers, [one / images for one in sums]
        return {
            "gate_load": means[:H],
            "gate_weight": means[H:-1],
            "gate_entropy": means[-1] / math.log(2),
        }
