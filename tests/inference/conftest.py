"""Short runs of every method on the base classes of shapes, each trained once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from dassl.data.datasets import build_dataset
from dassl.evaluation import Classification
from runs.config import dataset_cfg

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """A run that is done.

    Attributes:
        folder: of the run.
        results: content of its results.json.
        predicted: the class that its test has predicted, by image.
    """

    folder: Path
    results: dict[str, Any]
    predicted: list[int]


def arguments(method: str, data: Path, output: Path, *pairs: str) -> list[str]:
    """Two epochs of two shots on the base classes of shapes, in a precision of every device."""
    return [
        *("--root", str(data), "--seed", "1", "--trainer", method, "--output-dir", str(output)),
        *("--dataset-config-file", str(ROOT / "configs/datasets/shapes.yaml")),
        *("--config-file", str(ROOT / f"configs/trainers/{method}/embedded.yaml")),
        *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base"),
        *("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"),
        *(f"TRAINER.{method.upper()}.PREC", "fp32", *pairs),
    ]


def observed(words: list[str]) -> tuple[dict[str, Any], list[int]]:
    """Results of train.py, and what its test has predicted."""
    predicted: list[int] = []
    process = Classification.process

    def watch(self: Any, mo: torch.Tensor, gt: torch.Tensor) -> None:
        predicted.extend(mo.argmax(dim=1).tolist())
        process(self, mo, gt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classification, "process", watch)
        results = train.main(words)
    assert results is not None
    return results, predicted


@pytest.fixture(scope="session")
def runs(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """`runs("CoOp", "KEY", "VALUE", ...)`: a run, trained on the first call."""
    done: dict[tuple[str, ...], Run] = {}

    def run(method: str, *pairs: str) -> Run:
        key = (method, *pairs)
        if key not in done:
            folder = tmp_path_factory.mktemp(method) / "seed1"
            done[key] = Run(folder, *observed(arguments(method, data_root, folder, *pairs)))
        return done[key]

    return run


@pytest.fixture(scope="session")
def images(runs: Callable[..., Run], data_root: Path) -> list[Any]:
    """The test images of the base classes, as `Datum`, in the order of the test."""
    runs("ZeroshotCLIP")  # makes the data
    cfg = dataset_cfg("Shapes", "", data_root).clone()
    cfg.defrost()
    cfg.DATASET.SUBSAMPLE_CLASSES = "base"
    return list(build_dataset(cfg).test)
