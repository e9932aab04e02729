"""What images tell about a gate, as numbers: shares, information, agreement, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to import
    from tools.learned.gate_look import GateRun, Seen

PERMUTATIONS = 200  # of the labels, for what is found by chance
SEED = 0  # of them
EPOCH = ("epoch", "gate_load", "gate_weight", "gate_entropy")  # of metrics.jsonl
SHOWN = 8  # images that a teacher attracts most


def numbers(found: GateRun, epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """All numbers of a gate, plain values for JSON.

    Args:
        epochs: what metrics.jsonl says of the training, see `GateLog.take`; older runs lack it.
    """
    gate, H = found.gate, len(found.pool)
    return {
        "gate": gate.kind,
        "num_teachers": int(found.seen[0].picked[0].sum()),
        "epoch": found.epoch,
        "note": note(found),
        "teachers": found.pool,
        "epochs": told_epochs(epochs, H),
        "images": [part_numbers(part) for part in found.seen],
        "datasets": _between_datasets(found.seen),
    }


def told_epochs(epochs: Sequence[dict[str, Any]], H: int) -> list[dict[str, Any]]:
    """What the gate did, of the epochs that tell it of H teachers."""
    return [{key: record[key] for key in EPOCH} for record in epochs if _tells(record, H)]


def images_title(dataset: str, split: str, classes: str) -> str:
    """What the images of a list are, in words."""
    return f"{dataset}, {split} images" + ("" if classes == "all" else f", {classes} classes")


def _tells(record: dict[str, Any], H: int) -> bool:
    """Whether a record of an epoch says what the gate did, with a number for each teacher."""
    epoch, load, weight, entropy = map(record.get, EPOCH)
    lists = [one if isinstance(one, list) and len(one) == H else [None] for one in (load, weight)]
    return all(isinstance(one, int | float) for one in (epoch, entropy, *lists[0], *lists[1]))


def note(found: GateRun) -> str:
    """What to know before the numbers are read; "" for a gate that is learned and reads images."""
    return {
        "dataset": "GATE dataset learns one vector: all images have the same teachers and weights, "
        "so that nothing can depend on classes or domains",
        "uniform": "GATE uniform learns nothing: all teachers have the same weight for all images",
        "uniform_topk": "GATE uniform_topk learns nothing: teachers are drawn at random for each "
        "image, and differences are chance",
        "random": "GATE random learns nothing: teachers and weights are drawn at random for each "
        "image, and differences are chance",
        "oracle": "GATE oracle learns nothing: it reads the true label, which a test has not",
    }.get(found.gate.kind, "")


def part_numbers(seen: Seen) -> dict[str, Any]:
    """The numbers of one list of images."""
    names = np.array(seen.classnames)[seen.label]
    by = {"class": names} | ({seen.kind: np.array(seen.groups)} if seen.groups else {})
    same = seen.first == seen.oracle_first
    K = seen.picked.sum(axis=1)
    return {
        "dataset": seen.dataset,
        "split": seen.split,
        "classes": seen.classes,
        "images": len(seen.label),
        **_shares(seen, slice(None)),
        "entropy": {
            "image": _float(np.mean([entropy(weights) for weights in seen.weights])),
            "mean": _float(entropy(seen.weights.mean(axis=0))),
        },
        "accuracy": {
            "student": _percent(seen.student),
            "teachers": _floats(100 * seen.teachers.mean(axis=0)),
        },
        "oracle": {
            "load": _floats(seen.oracle_picked.mean(axis=0)),
            "same_first": _float(same.mean()),
            "same_first_by_chance": _float(1 / seen.picked.shape[1]),
            "same_picked": _float(((seen.picked & seen.oracle_picked).sum(axis=1) / K).mean()),
            "same_picked_by_chance": _float(seen.oracle_picked.mean()),
            "student_where_same": _percent(seen.student[same]),
            "student_where_other": _percent(seen.student[~same]),
        },
        "information": {kind: information(seen.picked, groups) for kind, groups in by.items()},
        "by": {
            kind: {name: _shares(seen, groups == name) for name in dict.fromkeys(groups.tolist())}
            for kind, groups in by.items()
        },
        "attracted": [
            [{"image": seen.paths[i], "weight": _float(seen.weights[i, h])} for i in places]
            for h, places in enumerate(attracted(seen))
        ],
    }


def attracted(seen: Seen, most: int = SHOWN) -> list[list[int]]:
    """Of each teacher the images for which it has the highest weight, none that do not pick it."""
    order = np.argsort(-seen.weights, axis=0, kind="stable")[:most]  # (most, H)
    return [[int(i) for i in order[:, h] if seen.picked[i, h]] for h in range(order.shape[1])]


def information(picked: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Mutual information of the picked teacher and the group of an image, in bits.

    The teacher is one of the K picked ones, each as likely. What is found by chance comes from
    the groups permuted among the images.

    Args:
        picked: (N, H), whether a teacher is picked.
        groups: (N,).

    Returns:
        bits; teacher_bits, the entropy of the teacher, which bounds it; chance_mean and chance_95,
        mean and 95th percentile over the permutations; p, the share of them, and of what was
        found, that have as much.
    """
    mass = picked / picked.sum(axis=1, keepdims=True) / len(picked)  # (N, H), sums to 1
    _, places = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(SEED)
    found = _bits(mass, places)
    chance = np.array([_bits(mass, rng.permutation(places)) for _ in range(PERMUTATIONS)])
    return {
        "bits": _float(found),
        "teacher_bits": _float(entropy(mass.sum(axis=0))),
        "chance_mean": _float(chance.mean()),
        "chance_95": _float(np.quantile(chance, 0.95)),
        "p": _float((1 + (chance >= found - 1e-9).sum()) / (1 + PERMUTATIONS)),
    }


def _bits(mass: np.ndarray, places: np.ndarray) -> float:
    """Mutual information of the columns of (N, H) and the groups (N,) of its rows."""
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    joint = np.add.reduceat(mass[order], starts, axis=0)  # (groups, H)
    bits = entropy(joint.sum(axis=0)) + entropy(joint.sum(axis=1)) - entropy(joint.ravel())
    return max(bits, 0.0)


def entropy(shares: np.ndarray) -> float:
    """Of shares that sum to 1, in bits."""
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def _between_datasets(parts: Sequence[Seen]) -> dict[str, Any]:
    """Information about the dataset of tested images; empty where only one was tested."""
    tested = [part for part in parts if part.split != "train"]
    if len({part.dataset for part in tested}) < 2:
        return {}
    groups = np.concatenate([np.full(len(part.label), part.dataset) for part in tested])
    picked = np.concatenate([part.picked for part in tested])
    return {"information": information(picked, groups)}


def _shares(seen: Seen, rows: Any) -> dict[str, Any]:
    """Mean weight and pick rate of each teacher on some of the images."""
    weights, picked = seen.weights[rows], seen.picked[rows]
    return {
        "images": len(weights),
        "weight": _floats(weights.mean(axis=0)),
        "load": _floats(picked.mean(axis=0)),
    }


def _percent(right: np.ndarray) -> float | None:
    """Accuracy in percent; None without an image."""
    return _float(100 * right.mean()) if len(right) else None


def _float(value: Any) -> float:
    """So many digits that the same results are the same text on any machine."""
    return round(float(value), 6) + 0.0


def _floats(values: np.ndarray) -> list[float]:
    return [_float(value) for value in values]
