"""A tiny world: PNG files of three classes, a dataset over them, and a linear trainer."""

import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import close_logger

CLASSES = ("cat", "dog", "owl")
COUNTS = {"train": 7, "val": 2, "test": 3}  # images per class


def items(root: str, split: str) -> list[Datum]:
    """Return the images of a split, class by class."""
    return [
        Datum(f"{root}/{split}_{name}_{i}.png", label, 0, name)
        for label, name in enumerate(CLASSES)
        for i in range(COUNTS[split])
    ]


class TinyPets(DatasetBase):
    """Training, validation and test images."""

    def __init__(self, cfg: CfgNode) -> None:
        root = cfg.DATASET.ROOT
        super().__init__(
            train_x=items(root, "train"), val=items(root, "val"), test=items(root, "test")
        )


class TinyTestOnly(DatasetBase):
    """Test images only."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(test=items(cfg.DATASET.ROOT, "test"))


class LinearTrainer(TrainerX):
    """A linear classifier whose loss depends on every random generator."""

    def build_model(self) -> None:
        size = self.cfg.INPUT.SIZE
        self.model = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(3 * size[0] * size[1], self.num_classes)
        ).to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("linear", self.model, self.optim, self.sched)

    def forward_backward(self, batch: dict) -> dict:
        image, label, _ = self.parse_batch_train(batch)
        output = self.model(image)
        weight = 1 + random.random() + float(np.random.rand())
        loss = weight * nn.functional.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}


class NoTrainer(TrainerX):
    """A zero-shot method: nothing to train, always class 0."""

    def build_model(self) -> None:
        pass

    def model_inference(self, image: torch.Tensor) -> torch.Tensor:
        return torch.eye(self.num_classes)[torch.zeros(len(image), dtype=torch.long)]


DATASET_REGISTRY.register(TinyPets, force=True)
DATASET_REGISTRY.register(TinyTestOnly, force=True)
TRAINER_REGISTRY.register(LinearTrainer, force=True)
TRAINER_REGISTRY.register(NoTrainer, force=True)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the images."""
    root = tmp_path_factory.mktemp("world")
    generator = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for label, name in enumerate(CLASSES):
            for i in range(count):
                pixels = generator.integers(0, 200, (12, 10, 3), dtype=np.uint8)
                pixels[..., label] += 55  # something to learn
                Image.fromarray(pixels).save(root / f"{split}_{name}_{i}.png")
    return root


@pytest.fixture
def make_cfg(world: Path, tmp_path: Path) -> Callable[..., CfgNode]:
    """Return a function from ``KEY, value, ...`` to a frozen configuration of a short run."""

    def make(*overrides: object) -> CfgNode:
        cfg = get_cfg_default()
        base: list[object] = [
            *("DATASET.NAME", "TinyPets", "DATASET.ROOT", str(world)),
            *("TRAINER.NAME", "LinearTrainer", "OUTPUT_DIR", str(tmp_path / "out")),
            *("INPUT.SIZE", (8, 8), "OPTIM.MAX_EPOCH", 4, "USE_CUDA", False),
            *("INPUT.TRANSFORMS", ("random_resized_crop", "random_flip", "normalize")),
            *("OPTIM.NAME", "sgd", "OPTIM.LR", 0.002, "OPTIM.LR_SCHEDULER", "cosine"),
            *("DATALOADER.NUM_WORKERS", 0, "DATALOADER.TRAIN_X.BATCH_SIZE", 6),
            *("TRAIN.CHECKPOINT_FREQ", 1),
        ]
        cfg.merge_from_list(base + list(overrides))
        cfg.freeze()
        return cfg

    return make


@pytest.fixture(autouse=True)
def _no_log_is_left_open():
    yield
    close_logger()


@pytest.fixture
def workers_end() -> Callable[[], bool]:
    """Whether all processes that this one started end by themselves, however busy the machine."""

    def wait() -> bool:
        until = time.monotonic() + 60
        while multiprocessing.active_children() and time.monotonic() < until:
            time.sleep(0.05)
        return not multiprocessing.active_children()

    return wait
