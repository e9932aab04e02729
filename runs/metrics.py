"""What is told of a test beside its accuracy, from what the evaluator kept of each of N images.

All take `Outputs` of `dassl.evaluation`: label (N,), top (N, up to 5) classes, the likeliest first,
confidence (N,), the largest probability, and nll (N,), minus the log of the label's probability.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import NamedTuple

import numpy as np

Outputs = Mapping[str, np.ndarray]
BINS = 15  # of the calibration error
# keys of results.json -> their names in tables
METRICS = {
    "top5_accuracy": "top-5",
    "mean_class_accuracy": "class mean",
    "ece": "ECE",
    "nll": "NLL",
}
PERCENT = ("top5_accuracy", "mean_class_accuracy", "ece")


class Bin(NamedTuple):
    """Images whose confidence is above `low` and not above `high`, a share from 0 to 1."""

    low: float
    high: float
    images: int
    confidence: float  # means over the images; NaN without any
    accuracy: float


def metrics(outputs: Outputs) -> dict[str, float | None]:
    """The figures of `METRICS`: percent, but for nll in nats; None where it is infinite."""
    images, hits = class_counts(outputs)
    occurs = images > 0
    nll = float(outputs["nll"].mean())
    return {
        "top5_accuracy": 100 * float((outputs["top"] == outputs["label"][:, None]).any(1).mean()),
        "mean_class_accuracy": fmean((100 * hits[occurs] / images[occurs]).tolist()),
        "ece": 100 * calibration_error(outputs),
        "nll": nll if np.isfinite(nll) else None,
    }


def right(outputs: Outputs) -> np.ndarray:
    """Which of N images are classified correctly."""
    return outputs["top"][:, 0] == outputs["label"]


def class_counts(outputs: Outputs, classes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of each class, and how many of them are right; for C or more classes."""
    label = outputs["label"]
    images = np.bincount(label, minlength=classes)
    return images, np.bincount(label[right(outputs)], minlength=len(images))


def confusion(outputs: Outputs, classes: int) -> np.ndarray:
    """Counts (C, C): row the true class, column the predicted one."""
    pairs = outputs["label"].astype(np.int64) * classes + outputs["top"][:, 0]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def calibration(outputs: Outputs, bins: int = BINS) -> list[Bin]:
    """Confidence and accuracy in bins of equal width (Guo et al. 2017, arXiv 1706.04599)."""
    confidence, hit = outputs["confidence"], right(outputs)
    edges = np.linspace(0, 1, bins + 1)
    # a confidence on an edge belongs to the bin below
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found = []
    for at in range(bins):
        inside = place == at
        count = int(inside.sum())
        means = (float(x[inside].mean()) if count else np.nan for x in (confidence, hit))
        found.append(Bin(float(edges[at]), float(edges[at + 1]), count, *means))
    return found


def calibration_error(outputs: Outputs, bins: int = BINS) -> float:
    """Mean over the images of |accuracy - confidence| of their bin, from 0 to 1."""
    found = [one for one in calibration(outputs, bins) if one.images]
    total = sum(one.images for one in found)
    return sum(one.images / total * abs(one.accuracy - one.confidence) for one in found)


def mistakes(outputs: Outputs, most: int = 10) -> np.ndarray:
    """Places of the images that are wrong, the most confident first."""
    wrong = np.flatnonzero(~right(outputs))
    return wrong[np.argsort(-outputs["confidence"][wrong], kind="stable")][:most]


def confused(outputs: Outputs, classes: int, most: int = 10) -> list[tuple[int, int, int]]:
    """Pairs of classes that are confused most: true class, predicted class, images."""
    counts = confusion(outputs, classes)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = ((int(at) // classes, int(at) % classes) for at in order)
    return [(true, taken, int(counts[true, taken])) for true, taken in pairs if counts[true, taken]]
