"""Loaders of image features instead of images, from a cache where it has them.

The image tower is frozen. So the features of test images are the same in every job, and those of
augmented training images in every job that draws the same views: same images, same transform, same
state of the random generator. Both are computed as without a cache, batch by batch, and only
then kept, so that results are the same bits.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from yacs.config import CfgNode

from trainers.errors import MethodError
from trainers.features.ahead import OnDevice, on_device
from trainers.features.cache import FeatureCache
from trainers.features.keys import batches_key, can_be_told, tower_key

Batch = dict[str, Tensor]  # feature (B, D), label (B,)
# what a method may not have of its own if its loaders are to give features
TEST_STEPS = ("test", "model_inference", "parse_batch_test", "image_features")
TRAIN_STEPS = ("run_epoch", "forward_backward", "parse_batch_train", "image_features")


@dataclass(eq=False)
class FeatureLoader:
    """A loader of images as one of their unit features: batches {"feature", "label"}.

    Other attributes are those of the loader of images.

    Args:
        loader: of images, as Dassl builds it.
        device: of the tower; images are copied there ahead of it.
        encode: images (B, 3, R, R) -> features (B, D) on the device.
        cache: where features are kept.
        own_key: what features depend on beside the images; with "kind".
        about: what they are, in words.

    Class attributes:
        samplers: those whose order follows from the images and torch's global generator.
    """

    samplers: ClassVar[tuple[type, ...]] = (SequentialSampler,)

    loader: Any
    device: torch.device
    encode: Callable[[Tensor], Tensor]
    cache: FeatureCache
    own_key: dict[str, Any]
    about: str

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # while an object is copied it has none
            raise AttributeError(name)
        return getattr(self.loader, name)

    @cached_property
    def key(self) -> dict[str, Any]:
        """All that the features depend on; empty if that cannot be told."""
        return self._key()

    def _key(self) -> dict[str, Any]:
        known = can_be_told(self.loader, self.samplers)
        told = batches_key(self.loader, self.cache) if known else {}
        return {**self.own_key, **told} if told else {}

    def keep(self, key: dict[str, Any], **arrays: np.ndarray) -> None:
        """Keep what was computed, unless an image has changed meanwhile."""
        if self._key() == self.key:
            self.cache.store(key, self.about, **arrays)

    def compute(self) -> Iterator[Batch]:
        """One pass over the images."""
        for batch in on_device(self.loader, self.device):
            yield {"feature": self.encode(batch["img"]), "label": batch["label"]}

    def replay(self, feature: np.ndarray, label: np.ndarray) -> Iterator[Batch]:
        """The batches of an earlier pass, from all features (N, D) and labels (N,).

        Where there is a GPU they are pinned, as those of loaders: copies need not be waited for.
        """
        size, pinned = self.loader.batch_size, self.device.type == "cuda"
        for i in range(0, len(label), size):
            rows = {"feature": feature[i : i + size], "label": label[i : i + size]}
            batch = {n: torch.tensor(row) for n, row in rows.items()}  # copies: steps may write
            yield {n: t.pin_memory() for n, t in batch.items()} if pinned else batch


class SplitFeatures(FeatureLoader):
    """Features of test images: always the same."""

    _kept: dict[str, np.ndarray] | None = None

    @property
    def known(self) -> bool:
        """Whether the features are there, so that no image has to be read."""
        return bool(self.key) and (self._kept is not None or self.cache.has(self.key))

    def __iter__(self) -> Iterator[Batch]:
        if not self.key:
            return self.compute()
        if self._kept is None:
            self._kept = self.cache.load(self.key)
            if self._kept is None:
                return self._compute_and_keep()
            print(f"Image features of {len(self._kept['label'])} images: from the cache")
        # a loader of images draws the seed of its workers, even without any: what is trained
        # after a validation must not depend on where features are from
        torch.empty((), dtype=torch.int64).random_()
        return self.replay(**self._kept)

    def _compute_and_keep(self) -> Iterator[Batch]:
        batches = []
        for batch in self.compute():
            batches.append(_copy(batch))
            yield batch
        self._kept = _joined(batches)
        self.keep(self.key, **self._kept)


class ViewFeatures(FeatureLoader):
    """Features of augmented views, an epoch at a time, found by the generator's state."""

    samplers = (SequentialSampler, RandomSampler)
    _told = False

    def __iter__(self) -> Iterator[Batch]:
        if not can_be_told(self.loader, self.samplers):
            raise MethodError(
                "CACHE.VIEWS is True, but views can only be shared where "
                "DATALOADER.TRAIN_X.SAMPLER is RandomSampler or SequentialSampler, the transforms "
                "are torchvision's or Dassl's, and so is all else that makes batches: "
                "set CACHE.VIEWS False"
            )
        if not self.key:  # an image is gone: whoever reads it says which
            return self.compute()
        state = torch.get_rng_state().numpy().tobytes()
        key = {**self.key, "generator": hashlib.sha256(state).hexdigest()}
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
            batches.append(_copy(batch))
            before = torch.get_rng_state()
            yield batch
            alone = alone and torch.equal(before, torch.get_rng_state())
        if alone and others == _other_generators():
            state = torch.get_rng_state().numpy()
            self.keep(key, generator=state, **_joined(batches))
        else:
            self.cache.tell(
                "views are not kept: the method, the sampler or a transform draws random numbers "
                "that the cache cannot repeat"
            )


def use_features(trainer: Any, base: type) -> None:
    """Let a trainer whose CLIP is loaded read features instead of images, as node CACHE says.

    On a GPU images that it still reads are copied there ahead of the tower.

    Args:
        trainer: its loaders are replaced.
        base: the class whose steps take features; a method that overrides them handles images by
            itself and keeps its loaders.

    Raises:
        MethodError: views are to be shared, and the method handles images by itself.
    """
    cache = FeatureCache.of(trainer.cfg)
    if cache is not None:
        _share_features(trainer, base, trainer.cfg, cache)
    for name in ("train_loader_x", "val_loader", "test_loader"):
        loader = getattr(trainer, name)
        if trainer.device.type == "cuda" and isinstance(loader, DataLoader):
            setattr(trainer, name, OnDevice(loader, trainer.device))


def _share_features(trainer: Any, base: type, cfg: CfgNode, cache: FeatureCache) -> None:
    """Replace the loaders whose features the cache may hold; see `use_features`."""

    def own(names: tuple[str, ...]) -> list[str]:
        return [name for name in names if getattr(type(trainer), name) is not getattr(base, name)]

    if cfg.CACHE.FEATURES and not own(TEST_STEPS):
        for split in ("val", "test"):
            loader = getattr(trainer, f"{split}_loader")
            if loader is not None:
                setattr(trainer, f"{split}_loader", split_features(trainer, loader, cfg, split))
    if cfg.CACHE.VIEWS and trainer.learns and trainer.train_loader_x is not None:
        if mine := own(TRAIN_STEPS):
            raise MethodError(
                f"CACHE.VIEWS is True, but {cfg.TRAINER.NAME} has its own {' and '.join(mine)} and "
                "may need the images: set CACHE.VIEWS False"
            )
        node = cfg.DATALOADER.TRAIN_X
        drawn = [node.SAMPLER, node.N_DOMAIN, node.N_INS, cfg.DATALOADER.NUM_WORKERS]
        drawn.append(cfg.INPUT.get("DEVICE_AUGMENT", False))
        key = {"kind": "views", "drawn": drawn, **tower_key(trainer)}
        about = _about(cfg, f"{cfg.DATASET.NUM_SHOTS} shots, seed {cfg.SEED}")
        loader = trainer.train_loader_x
        place = trainer.device, _encoder(trainer)
        trainer.train_loader_x = ViewFeatures(loader, *place, cache, key, about)


def split_features(trainer: Any, loader: Any, cfg: CfgNode, split: str) -> SplitFeatures:
    """A loader of test images as one of their features, for a trainer whose CLIP is loaded.

    Args:
        cfg: that of the loader, whose cache is used.
        split: val or test, for the words about it.
    """
    cache = FeatureCache.of(cfg)
    assert cache is not None  # upstream Dassl has none, and keeps its loaders
    key = {"kind": "images", **tower_key(trainer)}
    place = trainer.device, _encoder(trainer)
    return SplitFeatures(loader, *place, cache, key, _about(cfg, split))


def _encoder(trainer: Any) -> Callable[[Tensor], Tensor]:
    return lambda images: trainer.clip.encode_image(images.to(trainer.device))


def _about(cfg: CfgNode, what: str) -> str:
    subset = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
    return f"{cfg.MODEL.BACKBONE.NAME}: {cfg.DATASET.NAME}, {subset} classes, {what}"


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


def _copy(batch: Batch) -> Batch:
    """A batch that stays as it is, whatever a step does to the tensors of the other."""
    return {name: value.detach().clone() for name, value in batch.items()}


def _joined(batches: list[Batch]) -> dict[str, np.ndarray]:
    """All features (N, D) and labels (N,) of a pass."""
    return {
        name: torch.cat([batch[name] for batch in batches]).cpu().numpy()
        for name in ("feature", "label")
    }


def _other_generators() -> tuple:
    name, words, *rest = np.random.get_state()
    return random.getstate(), (name, np.asarray(words).tobytes(), *rest)
