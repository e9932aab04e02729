"""What all methods share: CLIP, precision, optimiser, one training step, evaluation, checkpoints.

A method is a class with `defaults` (its knobs), `build_prompts` (what it learns) and `losses`
(its loss terms). Nothing else differs.
"""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_pretrained_weights
from trainers.backbones.clip_model import FrozenCLIP, check_image_size, load_clip
from trainers.backbones.families import family_of, weights_digest
from trainers.backbones.precision import PRECISIONS, resolve_precision
from trainers.backbones.weights import file_digest
from trainers.checkpoints import read_checkpoint
from trainers.custom_clip import CustomCLIP
from trainers.errors import MethodError
from trainers.features.loaders import prompt_features, use_features
from trainers.graphs import Static, StepGraph, mode_of
from trainers.other_classes import for_classes
from trainers.prompts.pool import load_pool
from trainers.settings import UNKNOWN, Setting
from trainers.steps import scaled_update


class PromptTrainer(TrainerX):
    """Base of the methods: a frozen CLIP and a module `prompt_learner` that is trained.

    Class attributes:
        defaults: the knobs of the method with their defaults, the node `TRAINER.<NAME>`.
        rows: what is known of them beside, by name, for the class and those that inherit it; a
            knob without a row takes any value of the kind of its default.
        learns: False for a method that is only tested.
        image_conditional: class features differ from image to image, so that each takes a pass of
            the text tower.
        reads_domains: the method uses DATASET.SOURCE_DOMAINS or TARGET_DOMAINS.
        upstream: keys that only the published code's configuration has -> the method's knob,
            empty where none is needed; a user who writes one of them is told ours. Knobs of the
            same name in another method's node need no entry.
        dead_keys: beginnings of keys in published checkpoints that nothing reads.

    Attributes:
        clip: the frozen towers.
        prompt_learner: all that is learned and saved; None for a method that learns nothing.
        pool: the H templates of the knob `POOL`, where there is one.
    """

    defaults: ClassVar[dict[str, Any]] = {"PREC": "auto"}
    rows: ClassVar[dict[str, Setting]] = {
        "PREC": Setting(
            "precision of the frozen towers; auto: fp16 on a GPU, fp32 on a CPU", choices=PRECISIONS
        ),
        "POOL": Setting(
            "hand-made prompts: a name under configs/pools, or a YAML file", kind="path"
        ),
    }
    learns: ClassVar[bool] = True
    image_conditional: ClassVar[bool] = False
    reads_domains: ClassVar[bool] = False
    upstream: ClassVar[dict[str, str]] = {}
    # class-dependent buffers; they follow from the class names
    dead_keys: ClassVar[tuple[str, ...]] = ("token_prefix", "token_suffix", "token_midfix")
    clip: FrozenCLIP
    pool: list[str]
    loaded_epoch: int | None = None  # of the checkpoint that load_model has read
    prompt_learner: Any  # a module, or None

    # ---- what a method says -------------------------------------------------------------

    def build_prompts(self, clip: FrozenCLIP, classnames: list[str]) -> nn.Module | None:
        """The module that is trained, on CPU, for C class names; None where nothing is."""
        return None

    def losses(self, features: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, C) and the loss terms, "loss" first: the one that is minimised.

        Args:
            features: (B, D) unit image features.
            label: (B,) class indices.
        """
        logits = self.logits(features, self.class_features())
        return logits, {"loss": nn.functional.cross_entropy(logits, label)}

    def class_features(self) -> Tensor:
        """Unit text features (C, D) of the classes."""
        return self.clip.encode_prompts(*self.prompt_learner())

    def images_per_pass(self, B: int) -> int:
        """Images of a batch of B whose losses are computed at once, a bound on memory.

        Fewer than B are exact where each loss term is a mean over images.
        """
        return B

    def backward(self, terms: dict[str, Tensor]) -> None:
        """Add the gradients of the loss terms to the parameters."""
        self.scaled(terms["loss"]).backward()

    def static_step(self) -> Static:
        """What holds for each step alike, so that it may be captured as a CUDA graph.

        Each class says it itself: what it inherits need not be true of what it changes.
        """
        return Static()

    @cached_property
    def step_graph(self) -> StepGraph:
        """Gradients and figures of a step: `steps.compute`, captured where it can be."""
        return StepGraph(self)

    @cached_property
    def model(self) -> CustomCLIP:
        """The trainer as one module, images to logits, as notebooks and plugins expect it."""
        return CustomCLIP(self)

    @cached_property
    def teachers(self) -> Tensor:
        """Unit features (H, C, D) of the pool's prompts, encoded on first use."""
        return prompt_features(self, self.pool)

    @cached_property
    def hand_made(self) -> Tensor:
        """Unit class features (C, D) of the pool: the unit mean over its prompts."""
        return nn.functional.normalize(self.teachers.mean(dim=0), dim=-1)

    # ---- configuration ------------------------------------------------------------------

    @classmethod
    def node(cls) -> str:
        """Name of the method's node under TRAINER: the class name in upper case."""
        return cls.__name__.upper()

    @classmethod
    def extend_cfg(cls, cfg: CfgNode) -> None:
        """Add the method's knobs to a default configuration."""
        cfg.TRAINER[cls.node()] = CfgNode(cls.defaults)

    @classmethod
    def knob_rows(cls) -> dict[str, Setting]:
        """The row of each knob, of the class or of one that it inherits from."""
        rows: dict[str, Setting] = {}
        for base in reversed(cls.__mro__):
            rows |= vars(base).get("rows", {})
        return {key: rows.get(key, UNKNOWN) for key in cls.defaults}

    @classmethod
    def fingerprint(cls, cfg: CfgNode) -> dict[str, Any]:
        """What a run depends on beside its settings: content of files, and the precision.

        Raises:
            MethodError: a file is missing or broken, or the precision does not fit the device.
        """
        found: dict[str, Any] = {"BACKBONE_DIGEST": weights_digest(cfg.MODEL.BACKBONE.NAME)}
        knobs = cfg.TRAINER[cls.node()]
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        node = f"TRAINER.{cls.node()}"
        found["PRECISION"] = resolve_precision(knobs.PREC, device, node).name
        start = Path(cfg.MODEL.INIT_WEIGHTS)
        if start.is_file():  # else it is said to be missing when it is loaded
            found["INIT_WEIGHTS_DIGEST"] = file_digest(start)
        if "POOL" in knobs:
            pool = cls.load_templates(cfg)
            found["POOL_DIGEST"] = hashlib.sha256("\n".join(pool).encode()).hexdigest()[:12]
            found["POOL_SIZE"] = len(pool)
        return found

    @classmethod
    def load_templates(cls, cfg: CfgNode) -> list[str]:
        """The H templates of the knob `POOL`.

        What was learned belongs to the pool of its training: tested on another dataset, the model
        keeps the templates for `DATASET.SOURCE`, and so the width of its gate.
        """
        source = cfg.DATASET.get("SOURCE") if cls.learns else None  # upstream Dassl has none
        backbone = cfg.MODEL.BACKBONE.NAME
        clean = family_of(backbone).clean(backbone)
        return load_pool(cfg.TRAINER[cls.node()].POOL, source or cfg.DATASET.NAME, clean)

    @property
    def knobs(self) -> CfgNode:
        """The method's own settings."""
        return self.cfg.TRAINER[self.node()]

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse bad knobs, and read the pool, before anything heavy loads.

        Each knob alone is checked by its row; a method adds what holds between them.

        Raises:
            MethodError: naming the key, its value and what was expected.
        """
        knobs = cfg.TRAINER[self.node()]
        for key, row in self.knob_rows().items():
            row.read(f"TRAINER.{self.node()}.{key}", knobs[key], self.defaults[key])
        if cfg.DATALOADER.K_TRANSFORMS != 1:
            raise MethodError(
                f"DATALOADER.K_TRANSFORMS is {cfg.DATALOADER.K_TRANSFORMS}, but methods on CLIP "
                "read one view of each image: set DATALOADER.K_TRANSFORMS 1"
            )
        if cfg.INPUT.NO_TRANSFORM:
            raise MethodError(
                "INPUT.NO_TRANSFORM is True, but methods on CLIP read images as tensors of one "
                "size: set INPUT.NO_TRANSFORM False"
            )
        if "POOL" in knobs:
            self.pool = self.load_templates(cfg)

    @classmethod
    def require(cls, cfg: CfgNode, key: str, holds: Any, expected: str) -> None:
        """Raise MethodError unless `holds(value)` for the knob `key`."""
        value = cfg.TRAINER[cls.node()][key]
        if not holds(value):
            raise MethodError(f"TRAINER.{cls.node()}.{key} is {value!r}, expected {expected}")

    # ---- building -----------------------------------------------------------------------

    def build_model(self) -> None:
        """Load CLIP, build what is learned, its optimiser and schedule, and register them."""
        cfg = self.cfg
        self.batch_idx = self.num_batches = 0
        precision = resolve_precision(self.knobs.PREC, self.device, f"TRAINER.{self.node()}")
        mode_of(cfg, self.device)  # before anything heavy loads
        name = cfg.MODEL.BACKBONE.NAME
        print(f"Loading CLIP (backbone: {name}, precision: {precision.name})")
        self.clip = load_clip(name, precision)
        check_image_size(self.clip, cfg.INPUT.SIZE, name)
        if cfg.MODEL.get("COMPILE"):  # upstream Dassl has no such key
            self.clip.compile_image_tower()
        self.scaler = precision.scaler()
        self._cached_class_features: Tensor | None = None
        use_features(self, PromptTrainer)
        # all methods go on with the same random numbers, so that a seed has one set of views
        with torch.random.fork_rng(devices=[]):
            self.prompt_learner = self.build_prompts(self.clip, self.dm.dataset.classnames)
        if self.prompt_learner is None:
            return
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.prompt_learner, cfg.MODEL.INIT_WEIGHTS)
        self.prompt_learner.to(self.device)
        names = [name for name, _ in self.prompt_learner.named_parameters()]
        print(f"Parameters to be updated: {', '.join(names)}")
        self.optim = build_optimizer(self.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.prompt_learner, self.optim, self.sched)
        if type(self).forward_backward is not PromptTrainer.forward_backward:
            self.step_graph.give_up(f"{type(self).__name__} has its own forward_backward")

    # ---- one step -----------------------------------------------------------------------

    def logits(self, features: Tensor, class_features: Tensor) -> Tensor:
        """Scaled cosines (B, C) of unit image (B, D) and class features (C, D)."""
        return self.clip.logit_scale * features @ class_features.T

    def forward_backward(self, batch: dict) -> dict[str, float] | dict[str, Tensor]:
        """One training step on `batch` = {"img": (B, 3, R, R) or "feature": (B, D), "label": (B,)}.

        Returns:
            The loss terms and `acc`, the accuracy on the batch in percent: numbers, or scalar
            tensors where the engine reads those of many steps at once (`holds_back`).

        Raises:
            FloatingPointError: a number of a loss is not finite; the message gives all terms, and
                nothing was updated. Of scalar tensors the engine raises it once it reads them, some
                updates later.
        """
        images, label = self.parse_batch_train(batch)
        terms = self.step_graph(self.image_features(images), label)
        # upstream's engine reads numbers of each step, and does not check them
        summary = terms.unread() if getattr(self, "holds_back", False) else terms.read()
        self.model_update()
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return summary

    def parse_batch_train(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Images (B, 3, R, R), or their features (B, D) if the loader has them; labels (B,)."""
        found = batch["feature"] if "feature" in batch else batch["img"]
        # loaders pin their batches where there is a GPU, so that copies need not be waited for
        return tuple(t.to(self.device, non_blocking=True) for t in (found, batch["label"]))

    parse_batch_test = parse_batch_train

    def image_features(self, input: Tensor) -> Tensor:
        """Unit features (B, D) of images (B, 3, R, R); features are returned as they are."""
        return input if input.dim() == 2 else self.clip.encode_image(input)

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as its gradient is taken: times the gradient scaler's factor, if any."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def model_update(self, names: Any = None) -> None:
        """Optimiser step, with the gradient scaler where there is one: see `scaled_update`."""
        if self.scaler is None:
            super().model_update(names)
        else:
            scaled_update(self)

    def after_train(self) -> None:
        """Test, with the memory that training steps no longer need."""
        self.step_graph.release()
        super().after_train()

    # ---- evaluation ---------------------------------------------------------------------

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        """Switch the mode; class features are computed anew after any switch."""
        self._cached_class_features = None
        super().set_model_mode(mode, names)

    def model_inference(self, input: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, R, R), or of their unit features (B, D)."""
        return self.predict(self.image_features(input))

    def predict(self, features: Tensor) -> Tensor:
        """Logits (B, C) of unit image features (B, D); class features are kept until trained on."""
        if self._cached_class_features is None:
            self._cached_class_features = self.class_features()
        return self.logits(features, self._cached_class_features)

    def fresh_inference(self, input: Tensor) -> Tensor:
        """As `model_inference`, with class features that are neither taken nor kept."""
        self._cached_class_features = None
        try:
            return self.model_inference(input)
        finally:
            self._cached_class_features = None

    def for_classes(self, classnames: list[str]) -> Self:
        """This method, with the same towers and what it has learned, for C other class names.

        Only to predict with: it has no images and no optimiser.

        Raises:
            MethodError: contexts of single classes, which other classes do not have.
        """
        return for_classes(self, classnames)

    # ---- checkpoints --------------------------------------------------------------------

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load `<directory>/prompt_learner/model.pth.tar-<epoch>` (or model-best.pth.tar).

        Raises MethodError for what does not fit, see `read_checkpoint`.
        """
        if self.prompt_learner is None:
            return
        checkpoint = read_checkpoint(self, directory, epoch)
        self.prompt_learner.load_state_dict(checkpoint["state_dict"])
        self.loaded_epoch = int(checkpoint["epoch"])
        self._cached_class_features = None
