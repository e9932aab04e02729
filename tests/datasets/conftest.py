"""Small trees in the layouts of the real datasets; images are empty files, mostly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from runs.config import default_cfg

Entry = list  # [path, label, class name], as split files have it
GOLDEN = Path(__file__).resolve().parents[1] / "golden/fewshot.json"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """What CoOp's own code drew and cut."""
    return json.loads(GOLDEN.read_text())


def settings(root: Path, subset: str = "all", shots: int = -1, seed: int = 1) -> CfgNode:
    """A configuration as the readers see it."""
    cfg = default_cfg()
    cfg.DATASET.ROOT, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), subset
    cfg.DATASET.NUM_SHOTS, cfg.SEED = shots, seed
    return cfg


@pytest.fixture
def load(tmp_path) -> Callable[..., Any]:
    """Build a dataset from the tree in `tmp_path`: `load("UCF101", subset="base", shots=4)`."""

    def build(name: str, root: Path | None = None, **more) -> Any:
        return DATASET_REGISTRY.get(name)(settings(root or tmp_path, **more))

    return build


def touch(folder: Path, paths: Iterable[str]) -> None:
    """Make empty files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def write_split(path: Path, split: dict[str, Sequence[Sequence]]) -> None:
    """Write a split file as CoOp does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(split, indent=4, separators=(",", ": ")))


def entries(items: Sequence[Any], folder: Path) -> list[Entry]:
    """Items of a dataset as a split file has them, paths relative to a folder."""
    return [[str(Path(i.impath).relative_to(folder)), i.label, i.classname] for i in items]


def write_mat_annotations(path: Path, rows: Sequence[tuple[int, str]]) -> None:
    """Annotations of Stanford Cars: class from 1 and file name, beside a box."""
    content = np.zeros((1, len(rows)), dtype=[("bbox_x1", "O"), ("class", "O"), ("fname", "O")])
    for i, (label, name) in enumerate(rows):
        content[0, i] = (np.uint16(7), np.uint8(label), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": content})


def write_mat_names(path: Path, names: Sequence[str]) -> None:
    """Names of Stanford Cars' models."""
    content = np.empty((1, len(names)), dtype=object)
    content[0, :] = names
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"class_names": content})
