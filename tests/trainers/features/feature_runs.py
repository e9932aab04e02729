"""What is left of runs, and of caches, for tests that compare them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image

from trainers.features.cache import FeatureCache


def results(run: Path, classes: str = "base") -> dict:
    """results.json without what no two runs share."""
    found = json.loads((run / classes / "results.json").read_text())
    return {key: value for key, value in found.items() if key not in ("seconds", "memory")}


def metrics(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights(run: Path, epoch: int = 2) -> dict[str, torch.Tensor]:
    path = run / f"prompt_learner/model.pth.tar-{epoch}"
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_run(one: Path, other: Path) -> None:
    assert results(one) == results(other)
    assert metrics(one) == metrics(other)
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def kinds(cache: FeatureCache) -> dict[str, int]:
    """How many entries of features of each kind there are."""
    found = [entry.kind for entry in cache.entries() if entry.kind != "files"]
    return {kind: found.count(kind) for kind in sorted(set(found))}


def own_images(folder: Path) -> None:
    """Two classes with six images each, a class in a folder."""
    for c, colour in enumerate(("red", "blue")):
        (folder / colour).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (40, 32), (200 * c, 10 * i, 50)).save(folder / colour / f"{i}.png")
