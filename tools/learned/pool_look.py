"""What the teachers of a pool know and how alike they are, on the shots of a dataset."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.engine import build_trainer
from dassl.utils import UserError
from runs.jobs import Job
from runs.run_job import settings
from trainers.features.loaders import as_tested


@dataclass(frozen=True)
class Teachers:
    """A pool on the training images of a dataset.

    Attributes:
        pool: H templates.
        features: (H, C, D) unit class features.
        images: (N, D) unit features of the training images, as they are tested.
        label: (N,).
        scale: CLIP's logit scale.
        dataset: as pools name it.
    """

    pool: list[str]
    features: Tensor
    images: Tensor
    label: Tensor
    scale: float
    dataset: str

    def likeness(self) -> Tensor:
        """Mean over the classes of the cosine of two teachers' class features (H, H)."""
        flat = self.features.flatten(1)
        return flat @ flat.T / self.features.shape[1]

    def ensemble(self, numbers: list[int] | None = None) -> Tensor:
        """Unit means (C, D) of the class features of some teachers, or of all."""
        chosen = self.features if numbers is None else self.features[numbers]
        return F.normalize(chosen.mean(dim=0), dim=-1)

    def accuracy(self, classes: Tensor) -> float:
        """Accuracy of unit class features (C, D), in percent."""
        right = (self.images @ classes.T).argmax(dim=-1) == self.label
        return 100 * right.double().mean().item()

    def certainty(self, classes: Tensor) -> float:
        """Mean log-probability of the label with unit class features (C, D)."""
        return -F.cross_entropy(self.scale * self.images @ classes.T, self.label).item()


@torch.no_grad()
def look_at_pool(job: Job, classes: str) -> Teachers:
    """Read a pool, and encode it and the training images of a dataset.

    Args:
        job: of ZeroshotCLIP2, with the pool among its settings.
        classes: base, new or all.

    Raises:
        UserError, MethodError, DatasetError: pool, dataset or weights cannot be used.
    """
    test = next(one for one in job.evaluations() if one.classes == classes)
    cfg = settings(job, test)
    with redirect_stdout(io.StringIO()):
        trainer: Any = build_trainer(cfg)
        items = trainer.dm.dataset.train_x
        if not items or getattr(trainer.dm.dataset, "test_only", False):
            raise UserError(f"{job.dataset} has no training images: give another --dataset")
        batches = map(trainer.parse_batch_test, as_tested(trainer, items))
        found = [(trainer.image_features(images), label) for images, label in batches]
        images, label = (torch.cat(parts) for parts in zip(*found, strict=True))
        scale = trainer.clip.logit_scale.item()
        return Teachers(trainer.pool, trainer.teachers, images, label, scale, cfg.DATASET.NAME)


# ---- numbers ---------------------------------------------------------------------------------


def pool_numbers(found: Teachers) -> dict[str, Any]:
    """Size, likeness and accuracies of a pool; plain values for JSON."""
    H, C, _ = found.features.shape
    likeness = found.likeness()
    others = likeness - 3 * torch.eye(H).to(likeness)  # none is its own twin
    several = H > 1
    return {
        "teachers": [str(template) for template in found.pool],
        "size": H,
        "classes": C,
        "images": len(found.label),
        "mean_cosine": _rounded((likeness.sum() - H) / (H * (H - 1))) if several else None,
        "accuracy": [round(found.accuracy(classes), 4) for classes in found.features],
        "ensemble": round(found.accuracy(found.ensemble()), 4),
        "redundancy": [_rounded(value) if several else None for value in others.amax(dim=1)],
        "twin": [value if several else None for value in others.argmax(dim=1).tolist()],
        "places": places(likeness).tolist(),
    }


def _rounded(value: Any) -> float:
    return round(float(value), 6)


def places(likeness: Tensor) -> Tensor:
    """Where teachers stand (H, 2): the two main components of their class features.

    Args:
        likeness: (H, H) inner products.
    """
    H = len(likeness)
    centre = torch.eye(H, dtype=torch.float64) - 1 / H
    values, vectors = torch.linalg.eigh(centre @ likeness.double().cpu() @ centre)  # ascending
    vectors = F.pad(vectors.flip(1), (0, 2))[:, :2]
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0)  # else a matter of the library
    spread = F.pad(values.flip(0), (0, 2))[:2].clamp(min=0).sqrt()
    return (vectors * signs * spread).round(decimals=6) + 0.0


# ---- choosing --------------------------------------------------------------------------------


def by_coverage(found: Teachers, count: int, seed: int) -> list[int]:
    """Greedily, that each teacher of the pool has a chosen one which is as like it as can be."""
    likeness = found.likeness().double()
    chosen: list[int] = []
    best = torch.full((len(likeness),), -1.0).to(likeness)
    for _ in range(count):
        gain = torch.maximum(likeness, best).sum(dim=1)  # of each candidate
        gain[chosen] = -torch.inf
        chosen.append(int(gain.argmax()))
        best = torch.maximum(best, likeness[chosen[-1]])
    return chosen


def by_accuracy(found: Teachers, count: int, seed: int) -> list[int]:
    """Greedily, that the ensemble is right most often on the shots, and then most certain."""
    chosen: list[int] = []
    for _ in range(count):
        others = [h for h in range(len(found.pool)) if h not in chosen]
        ensembles = {h: found.ensemble([*chosen, h]) for h in others}
        right = {h: found.accuracy(classes) for h, classes in ensembles.items()}
        best = [h for h in others if right[h] == max(right.values())]
        chosen.append(max(best, key=lambda h: found.certainty(ensembles[h])))
    return chosen


def by_chance(found: Teachers, count: int, seed: int) -> list[int]:
    """Drawn with the seed; larger draws have the smaller ones."""
    H = len(found.pool)
    return random.Random(seed).sample(range(H), H)[:count]


RULES: dict[str, Callable[[Teachers, int, int], list[int]]] = {
    "coverage": by_coverage,
    "accuracy": by_accuracy,
    "random": by_chance,
}
