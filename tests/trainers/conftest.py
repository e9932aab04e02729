"""Trainers on a dataset that is only a list of names, with the golden CLIP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import clip
import pytest
import torch
from PIL import Image

import train
from dassl.data import dataset_wrapper, image_memory
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import build_trainer
from runs.config import default_cfg
from tests.golden.tiny_clip import tiny_clip_state_dict
from trainers.backbones.clip_model import FrozenCLIP
from trainers.features.cache import FeatureCache

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


@DATASET_REGISTRY.register()
class NamesOnly(DatasetBase):
    """One grey image for each line of DATASET.ROOT/names.txt."""

    def __init__(self, cfg):
        root = Path(cfg.DATASET.ROOT)
        names = (root / "names.txt").read_text().splitlines()
        items = [
            Datum(impath=str(root / "grey.png"), label=label, classname=name)
            for label, name in enumerate(names)
        ]
        super().__init__(train_x=items, test=items)


@pytest.fixture(scope="session")
def golden_clip(tmp_path_factory) -> Path:
    """The golden weights as a file."""
    path = tmp_path_factory.mktemp("clip") / "golden.pt"
    torch.save(tiny_clip_state_dict(), path)
    return path


@pytest.fixture
def make_trainer(tmp_path, golden_clip) -> Callable[..., Any]:
    """Build a trainer: `make_trainer(name, classnames, KEY=value for TRAINER.<NAME>, ...)`."""

    def make(name: str, classnames: list[str], **knobs: Any) -> Any:
        root = tmp_path / "names"
        root.mkdir(exist_ok=True)
        (root / "names.txt").write_text("\n".join(classnames))
        Image.new("RGB", (32, 32), "grey").save(root / "grey.png")
        cfg = default_cfg()
        cfg.TRAINER.NAME = name
        cfg.DATASET.NAME, cfg.DATASET.ROOT = "NamesOnly", str(root)
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.MODEL.BACKBONE.NAME = str(golden_clip)
        cfg.INPUT.SIZE, cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = (32, 32), CLIP_MEAN, CLIP_STD
        cfg.INPUT.TRANSFORMS = ("normalize",)
        cfg.OPTIM.NAME, cfg.OPTIM.LR = "sgd", 0.002
        cfg.OUTPUT_DIR = str(tmp_path / "output")
        for key, value in knobs.items():
            setattr(cfg.TRAINER[name.upper()], key, value)
        cfg.USE_CUDA = False
        cfg.freeze()
        return build_trainer(cfg)

    return make


@pytest.fixture
def in_float64(monkeypatch) -> Callable[[Any], Any]:
    """`in_float64(trainer)` computes in float64, which the product has not.

    Where formulas are compared, rounding is then far below what a wrong one would change.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    # OpenAI's LayerNorm goes through float32
    monkeypatch.setattr(clip.model.LayerNorm, "forward", torch.nn.LayerNorm.forward)

    def convert(trainer: Any) -> Any:
        trainer.clip.double()
        trainer.prompt_learner.double()
        if hasattr(trainer, "pool"):  # not from the cache, which others' float32 may fill
            names = trainer.dm.dataset.classnames
            trainer.teachers = trainer.clip.encode_templates(trainer.pool, names)
        return trainer

    return convert


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """A cache of this test alone."""
    return FeatureCache(tmp_path / "cache", 2.0**30)


@pytest.fixture
def run(job, tmp_path, cache):
    """`run(trainer, name, KEY, VALUE, ...)` trains into a folder `name`, which is returned."""

    def start(trainer: str, name: str, *more: str) -> Path:
        words = job(trainer, *more, "CACHE.DIR", str(cache.folder), output=tmp_path / name)
        train.main(words)
        return tmp_path / name

    start.folder = tmp_path
    return start


@pytest.fixture
def no_images(monkeypatch):
    """From when it is called on, neither the image tower nor an image file may be used."""

    def forbid() -> None:
        def fail(*_args, **_more):
            raise AssertionError("images are read")

        monkeypatch.setattr(FrozenCLIP, "encode_image", fail)
        for module in (dataset_wrapper, image_memory):
            monkeypatch.setattr(module, "read_image", fail)

    return forbid
