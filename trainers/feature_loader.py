"""Loaders of image features instead of images, from a cache where it has them.

The image tower is frozen. So the features of test images are the same in every job, and those of
augmented training images in every job that draws the same views: same images, same transform, same
state of the random generator. Both are computed as without a cache, batch by batch, and only
then kept, so that results are the same bits.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.clip_model import weights_digest
from trainers.errors import MethodError
from trainers.feature_cache import FeatureCache

Batch = dict[str, Tensor]  # feature (B, D), label (B,)


class FeatureLoader:
    """A loader of images as one of their unit features: batches {"feature", "label"}.

    Other attributes are those of the loader of images.

    Args:
        loader: of images, as Dassl builds it.
        encode: images (B, 3, R, R) -> features (B, D) on the device.
        cache: where features are kept; None: nowhere.
        key: what features depend on beside the images; with "kind".
        about: what they are, in words.
    """

    def __init__(
        self,
        loader: Any,
        encode: Callable[[Tensor], Tensor],
        cache: FeatureCache | None,
        key: dict[str, Any],
        about: str,
    ):
        self.loader = loader
        self.encode = encode
        self.cache = cache
        self.about = about
        self._key = key
        self._whole_key: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # while an object is copied it has none
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Batch]:
        raise NotImplementedError

    def key(self) -> dict[str, Any]:
        """All that the features depend on; empty if that cannot be told.

        The list of images is looked at once, when it is needed first.
        """
        if self._whole_key is None:
            data = self.loader.dataset
            transform = repr(getattr(data, "transform", None))
            images = list_digest(getattr(data, "data_source", None))
            told = images and self.loader.batch_size and " object at 0x" not in transform
            self._whole_key = (
                {
                    **self._key,
                    "images": images,
                    "transform": transform,
                    "batch": [self.loader.batch_size, self.loader.drop_last],
                    "versions": [version(name) for name in ("torchvision", "pillow")],
                }
                if told
                else {}
            )
        return self._whole_key

    def compute(self) -> Iterator[Batch]:
        """One pass over the images."""
        for batch in self.loader:
            yield {"feature": self.encode(batch["img"]), "label": batch["label"]}

    def replay(self, feature: np.ndarray, label: np.ndarray) -> Iterator[Batch]:
        """The batches of an earlier pass, from all features (N, D) and labels (N,)."""
        size = self.loader.batch_size
        for i in range(0, len(label), size):
            yield {
                "feature": torch.from_numpy(feature[i : i + size]),
                "label": torch.from_numpy(label[i : i + size]),
            }


class SplitFeatures(FeatureLoader):
    """Features of test images: always the same. A pass leaves the random generators alone."""

    _kept: dict[str, np.ndarray] | None = None

    def __iter__(self) -> Iterator[Batch]:
        # loaders draw a number even if they need none; an evaluation must not move a training
        state = torch.get_rng_state()
        try:
            if self._kept is None and self.cache is not None and self.key():
                self._kept = self.cache.load(self.key())
                if self._kept is not None:
                    print(f"Image features of {len(self._kept['label'])} images: from the cache")
            if self._kept is not None:
                yield from self.replay(**self._kept)
            else:
                yield from self._compute_and_keep()
        finally:
            torch.set_rng_state(state)

    def _compute_and_keep(self) -> Iterator[Batch]:
        batches = []
        for batch in self.compute():
            yield batch
            if self.cache is not None:
                batches.append(batch)
        if self.cache is not None:
            self._kept = _joined(batches)
            if self.key():
                self.cache.store(self.key(), self.about, **self._kept)


class ViewFeatures(FeatureLoader):
    """Features of augmented views, an epoch at a time, found by the generator's state."""

    cache: FeatureCache
    _told = False

    def __iter__(self) -> Iterator[Batch]:
        if not self.key():
            raise MethodError(
                "CACHE.VIEWS is True, but the training images or their transform cannot be "
                "described, so views cannot be shared: set CACHE.VIEWS False"
            )
        state = torch.get_rng_state().numpy().tobytes()
        key = {**self.key(), "generator": hashlib.sha256(state).hexdigest()}
        kept = self.cache.load(key)
        return self._compute_and_keep(key) if kept is None else self._repeat(**kept)

    def _repeat(self, generator: np.ndarray, **kept: np.ndarray) -> Iterator[Batch]:
        """The batches of another job, and the generator as they left it."""
        if not self._told:
            print("Features of augmented images: from the cache")
            self._told = True
        start = torch.get_rng_state()
        for batch in self.replay(**kept):
            yield batch
            if not torch.equal(start, torch.get_rng_state()):
                raise MethodError(
                    "the method draws from torch's global generator in its steps, which would "
                    "change the views: set CACHE.VIEWS False, or draw from a torch.Generator of "
                    "its own"
                )
        torch.set_rng_state(torch.from_numpy(generator))

    def _compute_and_keep(self, key: dict[str, Any]) -> Iterator[Batch]:
        others, batches, alone = _other_generators(), [], True
        for batch in self.compute():
            batches.append(batch)
            before = torch.get_rng_state()
            yield batch
            alone = alone and torch.equal(before, torch.get_rng_state())
        if alone and others == _other_generators():
            state = torch.get_rng_state().numpy()
            self.cache.store(key, self.about, generator=state, **_joined(batches))
        else:
            self.cache.tell(
                "views are not kept: the method, the sampler or a transform draws random numbers "
                "that the cache cannot repeat"
            )


def use_features(trainer: Any, base: type) -> None:
    """Let a trainer whose CLIP is loaded read features instead of images, as node CACHE says.

    Args:
        trainer: its loaders are replaced.
        base: the class whose steps take features; a method that overrides them handles images by
            itself and keeps its loaders.

    Raises:
        MethodError: views are to be shared, and the method handles images by itself.
    """
    cfg, cache = trainer.cfg, FeatureCache.of(trainer.cfg)
    if cache is None:
        return

    def own(*names: str) -> list[str]:
        return [name for name in names if getattr(type(trainer), name) is not getattr(base, name)]

    def encode(images: Tensor) -> Tensor:
        return trainer.clip.encode_image(images.to(trainer.device))

    shared = tower_key(trainer)
    subset = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
    about = f"{cfg.MODEL.BACKBONE.NAME}: {cfg.DATASET.NAME}, {subset} classes"
    if not own("model_inference", "parse_batch_test"):
        kept = cache if cfg.CACHE.FEATURES else None
        for split in ("val", "test"):
            loader = getattr(trainer, f"{split}_loader")
            if loader is not None:
                key = {"kind": "images", **shared}
                features = SplitFeatures(loader, encode, kept, key, f"{about}, {split}")
                setattr(trainer, f"{split}_loader", features)
    if cfg.CACHE.VIEWS and trainer.learns and trainer.train_loader_x is not None:
        if mine := own("forward_backward", "parse_batch_train"):
            raise MethodError(
                f"CACHE.VIEWS is True, but {cfg.TRAINER.NAME} has its own {' and '.join(mine)} and "
                "may need the images: set CACHE.VIEWS False"
            )
        node = cfg.DATALOADER.TRAIN_X
        drawn = [node.SAMPLER, node.N_DOMAIN, node.N_INS, cfg.DATALOADER.NUM_WORKERS]
        drawn.append(cfg.INPUT.get("DEVICE_AUGMENT", False))
        key = {"kind": "views", **shared, "drawn": drawn}
        about = f"{about}, {cfg.DATASET.NUM_SHOTS} shots, seed {cfg.SEED}"
        trainer.train_loader_x = ViewFeatures(trainer.train_loader_x, encode, cache, key, about)


def prompt_features(trainer: Any, templates: list[str]) -> Tensor:
    """Unit features (H, C, D) of hard prompts for a trainer's classes, cached as its images."""
    cfg, names = trainer.cfg, trainer.dm.dataset.classnames
    cache = FeatureCache.of(cfg)
    if cache is None or not cfg.CACHE.FEATURES:
        return trainer.clip.encode_templates(templates, names)
    key = {"kind": "prompts", **tower_key(trainer), "templates": templates, "classes": names}
    kept = cache.load(key)
    if kept is not None:
        return torch.from_numpy(kept["feature"]).to(trainer.device)
    features = trainer.clip.encode_templates(templates, names)
    what = f"{cfg.DATASET.NAME}, {len(names)} classes, {len(templates)} templates"
    about = f"{cfg.MODEL.BACKBONE.NAME}: {what}"
    cache.store(key, about, feature=features.cpu().numpy())
    return features


def tower_key(trainer: Any) -> dict[str, Any]:
    """The weights of a trainer's towers, and what decides the last bits of what they compute."""
    precision, model = trainer.clip.precision, trainer.cfg.MODEL
    if precision.device.type == "cuda":
        device = torch.cuda.get_device_name(precision.device)
    else:
        device = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return {
        "weights": weights_digest(model.BACKBONE.NAME),
        "precision": precision.name,
        "compiled": model.get("COMPILE", False),
        "matmul": torch.get_float32_matmul_precision(),
        "device": device,
        "torch": version("torch"),
    }


def list_digest(items: Any) -> str:
    """Digest of a list of `Datum`: path, label, size and time of each file; "" without a file."""
    if not items:
        return ""
    digest = hashlib.sha256()
    try:
        for item in items:
            status = os.stat(item.impath)
            line = f"{item.impath}\t{item.label}\t{status.st_size}\t{status.st_mtime_ns}\n"
            digest.update(line.encode())
    except OSError:  # whoever reads the images says what is wrong
        return ""
    return digest.hexdigest()


def _joined(batches: list[Batch]) -> dict[str, np.ndarray]:
    """All features (N, D) and labels (N,) of a pass."""
    return {
        name: torch.cat([batch[name].detach().cpu() for batch in batches]).numpy()
        for name in ("feature", "label")
    }


def _other_generators() -> tuple:
    name, words, *rest = np.random.get_state()
    return random.getstate(), (name, np.asarray(words).tobytes(), *rest)
