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
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

import dassl.data
from trainers.backbones.clip_model import weights_digest
from trainers.errors import MethodError
from trainers.features.cache import FeatureCache

# files below trainers/ that decide about the bits of features
CODE = ("backbones/*.py", "features/loaders.py")

Batch = dict[str, Tensor]  # feature (B, D), label (B,)


class FeatureLoader:
    """A loader of images as one of their unit features: batches {"feature", "label"}.

    Other attributes are those of the loader of images.

    Args:
        loader: of images, as Dassl builds it.
        encode: images (B, 3, R, R) -> features (B, D) on the device.
        cache: where features are kept.
        key: what features depend on beside the images; with "kind".
        about: what they are, in words.

    Class attributes:
        samplers: those whose order follows from the images and torch's global generator.
    """

    samplers: ClassVar[tuple[type, ...]] = (SequentialSampler,)

    def __init__(
        self,
        loader: Any,
        encode: Callable[[Tensor], Tensor],
        cache: FeatureCache,
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
            self._whole_key = self._describe() if self.can_be_told() else {}
        return self._whole_key

    def can_be_told(self) -> bool:
        """Whether all that makes batches of the images is code of torch, torchvision or Dassl."""
        loader = self.loader
        return (
            isinstance(loader, DataLoader)
            and loader.batch_size is not None
            and type(loader.sampler) in self.samplers
            and loader.generator is None
            and getattr(loader.sampler, "generator", None) is None
            and _is_known(type(loader.dataset))
            and _is_known(loader.collate_fn)
            and _tells_all(getattr(loader.dataset, "transform", None))
        )

    def _describe(self) -> dict[str, Any]:
        import torchvision  # slow to import, and there by now

        data = self.loader.dataset
        images = list_digest(getattr(data, "data_source", None))
        if not images:
            return {}
        return {
            **self._key,
            "images": images,
            "transform": repr(data.transform),
            "batch": [self.loader.batch_size, self.loader.drop_last],
            "versions": [torchvision.__version__, PIL.__version__],
        }

    def compute(self) -> Iterator[Batch]:
        """One pass over the images."""
        for batch in self.loader:
            yield {"feature": self.encode(batch["img"]), "label": batch["label"]}

    def replay(self, feature: np.ndarray, label: np.ndarray) -> Iterator[Batch]:
        """The batches of an earlier pass, from all features (N, D) and labels (N,)."""
        size = self.loader.batch_size
        for i in range(0, len(label), size):
            yield {
                "feature": torch.tensor(feature[i : i + size]),  # copies: a step may write to them
                "label": torch.tensor(label[i : i + size]),
            }


class SplitFeatures(FeatureLoader):
    """Features of test images: always the same."""

    _kept: dict[str, np.ndarray] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is None and self.key():
            self._kept = self.cache.load(self.key())
            if self._kept is not None:
                print(f"Image features of {len(self._kept['label'])} images: from the cache")
        if self._kept is None:
            return self._compute_and_keep()
        # a loader of images draws the seed of its workers, even without any: what is trained
        # after a validation must not depend on where features are from
        torch.empty((), dtype=torch.int64).random_()
        return self.replay(**self._kept)

    def _compute_and_keep(self) -> Iterator[Batch]:
        batches = []
        for batch in self.compute():
            if self.key():
                batches.append(_copy(batch))
            yield batch
        if self.key():
            self._kept = _joined(batches)
            self.cache.store(self.key(), self.about, **self._kept)


class ViewFeatures(FeatureLoader):
    """Features of augmented views, an epoch at a time, found by the generator's state."""

    samplers = (SequentialSampler, RandomSampler)
    _told = False

    def __iter__(self) -> Iterator[Batch]:
        if not self.can_be_told():
            raise MethodError(
                "CACHE.VIEWS is True, but views can only be shared where "
                "DATALOADER.TRAIN_X.SAMPLER is RandomSampler or SequentialSampler, the transforms "
                "are torchvision's or Dassl's, and so is all else that makes batches: "
                "set CACHE.VIEWS False"
            )
        if not self.key():  # an image is gone: whoever reads it says which
            return self.compute()
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
            batches.append(_copy(batch))
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
    tests = ("test", "model_inference", "parse_batch_test", "image_features")
    if cfg.CACHE.FEATURES and not own(*tests):
        for split in ("val", "test"):
            loader = getattr(trainer, f"{split}_loader")
            if loader is not None:
                key = {"kind": "images", **shared}
                features = SplitFeatures(loader, encode, cache, key, f"{about}, {split}")
                setattr(trainer, f"{split}_loader", features)
    if cfg.CACHE.VIEWS and trainer.learns and trainer.train_loader_x is not None:
        steps = ("run_epoch", "forward_backward", "parse_batch_train", "image_features")
        if mine := own(*steps):
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
        "float32": _float32_arithmetic(),
        "device": device,
        "torch": torch.__version__,
        "code": _code_digest(),
    }


def _float32_arithmetic() -> list[str]:
    """How precisely matrices and convolutions of float32 are computed, as it is set."""
    parts: Any = torch.backends
    if not hasattr(parts.cuda.matmul, "fp32_precision"):  # torch 2.8
        return [torch.get_float32_matmul_precision(), str(parts.cudnn.allow_tf32)]
    # the older function raises where these were set
    kinds = (parts.cuda.matmul, parts.cudnn.conv, parts.mkldnn.matmul, parts.mkldnn.conv)
    return [kind.fp32_precision for kind in kinds]


@cache
def _code_digest() -> str:
    """Digest of the code between files and features: another version may give other bits."""
    trainers = Path(__file__).parents[1]
    own = [path for pattern in CODE for path in sorted(trainers.glob(pattern))]
    loading = sorted(Path(dassl.data.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for path in (*own, *loading):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def list_digest(items: Any) -> str:
    """Digest of a list of `Datum`: path, label, size and time of each file; "" without a file."""
    if not items:
        return ""
    digest = hashlib.sha256()
    try:
        for item in items:
            status = os.stat(item.impath)
            digest.update(os.fsencode(item.impath))  # which may hold any bytes
            digest.update(f"\0{item.label}\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
    except OSError:  # whoever reads the images says what is wrong
        return ""
    return digest.hexdigest()


def _is_known(thing: Any) -> bool:
    """Whether a class or function is a library's, not a plugin's own."""
    return getattr(thing, "__module__", "").partition(".")[0] in ("dassl", "torch", "torchvision")


def _tells_all(transform: Any) -> bool:
    """Whether the text of a transform says all that it does."""
    kind, inner = type(transform), getattr(transform, "transforms", ())
    return (
        _is_known(kind)
        and kind.__name__ != "Lambda"
        and " object at 0x" not in repr(transform)
        and all(_tells_all(step) for step in inner)
    )


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
