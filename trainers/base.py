"""What all methods share: CLIP, precision, optimiser, one training step, evaluation, checkpoints.

A method is a class with `defaults` (its knobs), `build_prompts` (what it learns) and `losses`
(its loss terms). Nothing else differs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_checkpoint, load_pretrained_weights
from trainers.clip_model import FrozenCLIP, check_image_size, load_clip, weights_digest
from trainers.errors import MethodError
from trainers.pool import load_pool
from trainers.precision import PRECISIONS, resolve_precision

LEAST_SCALE = 2.0**-10  # of the gradient scaler; it halves with every step that is skipped
# class-dependent buffers in checkpoints of CoOp's family; they follow from the class names
DEAD_KEYS = ("token_prefix", "token_suffix", "token_midfix")


class PromptTrainer(TrainerX):
    """Base of the methods: a frozen CLIP and a module `prompt_learner` that is trained.

    Class attributes:
        defaults: the knobs of the method with their defaults, the node `TRAINER.<NAME>`.
        learns: False for a method that is only tested.

    Attributes:
        clip: the frozen towers.
        prompt_learner: all that is learned and saved; None for a method that learns nothing.
    """

    defaults: ClassVar[dict[str, Any]] = {"PREC": "auto"}
    learns: ClassVar[bool] = True
    clip: FrozenCLIP
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
    def fingerprint(cls, cfg: CfgNode) -> dict[str, str]:
        """What a run depends on beside its settings: content of files, and the precision.

        Raises:
            MethodError: a file is missing or broken, or the precision does not fit the device.
        """
        found = {"BACKBONE_DIGEST": weights_digest(cfg.MODEL.BACKBONE.NAME)}
        knobs = cfg.TRAINER[cls.node()]
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        node = f"TRAINER.{cls.node()}"
        found["PRECISION"] = resolve_precision(knobs.PREC, device, node).name
        if "POOL" in knobs:
            templates = "\n".join(load_pool(knobs.POOL, cfg.DATASET.NAME))
            found["POOL_DIGEST"] = hashlib.sha256(templates.encode()).hexdigest()[:12]
        return found

    @property
    def knobs(self) -> CfgNode:
        """The method's own settings."""
        return self.cfg.TRAINER[self.node()]

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse bad knobs before anything heavy loads.

        Raises:
            MethodError: naming the key, its value and what was expected.
        """
        self.require(cfg, "PREC", lambda v: v in PRECISIONS, f"one of: {', '.join(PRECISIONS)}")

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
        name = cfg.MODEL.BACKBONE.NAME
        print(f"Loading CLIP (backbone: {name}, precision: {precision.name})")
        self.clip = load_clip(name, precision)
        check_image_size(self.clip, cfg.INPUT.SIZE, name)
        self.scaler = precision.scaler()
        self._cached_class_features: Tensor | None = None
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

    # ---- one step -----------------------------------------------------------------------

    def logits(self, features: Tensor, class_features: Tensor) -> Tensor:
        """Scaled cosines (B, C) of unit image (B, D) and class features (C, D)."""
        return self.clip.logit_scale * features @ class_features.T

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """One training step on `batch` = {"img": (B, 3, R, R), "label": (B,)}.

        Returns:
            The loss terms and `acc`, the accuracy on the batch in percent.

        Raises:
            FloatingPointError: a loss term is not finite; the message gives all terms.
        """
        images, label = self.parse_batch_train(batch)
        logits, terms = self.losses(self.clip.encode_image(images), label)
        summary = {name: term.item() for name, term in terms.items()}
        if not all(torch.isfinite(term) for term in terms.values()):
            values = ", ".join(f"{name} {value:.4g}" for name, value in summary.items())
            raise FloatingPointError(f"Loss is infinite or NaN! Loss terms: {values}.")
        self.model_backward_and_update(terms["loss"])
        if self.batch_idx + 1 == self.num_batches:
            self.update_lr()
        return {**summary, "acc": compute_accuracy(logits, label)[0].item()}

    def parse_batch_train(self, batch: dict) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Images and labels on the device."""
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def model_backward_and_update(self, loss: Tensor, names: Any = None) -> None:
        """Backward and optimiser step, with the gradient scaler where there is one.

        Raises:
            FloatingPointError: gradients overflow at any scale, so that no step was made for long.
        """
        if self.scaler is None:
            super().model_backward_and_update(loss, names)
            return
        self.model_zero_grad(names)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optim)
        self.scaler.update()
        if self.scaler.get_scale() < LEAST_SCALE:
            raise FloatingPointError(
                "Gradients overflow in half precision in every step: "
                f"use TRAINER.{self.node()}.PREC bf16 or fp32"
            )

    # ---- evaluation ---------------------------------------------------------------------

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        """Switch the mode; class features are computed anew after any switch."""
        self._cached_class_features = None
        super().set_model_mode(mode, names)

    def model_inference(self, input: Tensor) -> Tensor:
        """Logits (B, C) of images (B, 3, R, R); class features are computed once per evaluation."""
        if self._cached_class_features is None:
            self._cached_class_features = self.class_features()
        return self.logits(self.clip.encode_image(input), self._cached_class_features)

    # ---- checkpoints --------------------------------------------------------------------

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load `<directory>/prompt_learner/model.pth.tar-<epoch>` (or model-best.pth.tar).

        Raises:
            MethodError: no directory, no such checkpoint or epoch, or a checkpoint of another
                method, context length, pool size or number of classes.
        """
        if self.prompt_learner is None:
            return
        if not directory:
            raise MethodError(
                "no --model-dir is given: evaluation needs the folder of a trained run, "
                "otherwise it would test an untrained prompt"
            )
        folder = Path(directory) / "prompt_learner"
        path = folder / ("model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}")
        if not path.is_file():
            raise MethodError(f'Model not found at "{path}"; {_saved_epochs(folder)}')
        self._check_training(Path(directory) / "config.yaml")
        checkpoint = load_checkpoint(str(path))
        self._check_fits(checkpoint, path)
        state = {k: v for k, v in checkpoint["state_dict"].items() if k not in DEAD_KEYS}
        print(f'Loading weights to prompt_learner from "{path}" (epoch = {checkpoint["epoch"]})')
        self.prompt_learner.load_state_dict(state)
        self.loaded_epoch = int(checkpoint["epoch"])
        self._cached_class_features = None

    def _check_training(self, path: Path) -> None:
        """Refuse what a checkpoint's shapes do not tell: another backbone, position or classes."""
        if not path.is_file():  # a checkpoint that was copied out of its run
            return
        trained = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        now = {"BACKBONE_DIGEST": weights_digest(self.cfg.MODEL.BACKBONE.NAME)}
        if "CLASS_TOKEN_POSITION" in self.knobs:
            key = f"TRAINER.{self.node()}.CLASS_TOKEN_POSITION"
            now[key] = self.knobs.CLASS_TOKEN_POSITION
        if self.knobs.get("CSC"):  # each context belongs to one class
            for key in ("NAME", "SUBSAMPLE_CLASSES"):
                now[f"DATASET.{key}"] = self.cfg.DATASET[key]
        differ = [
            f"{key} {trained[key]!r}, but this run has {value!r}"
            for key, value in now.items()
            if key in trained and trained[key] != value
        ]
        if differ:
            raise MethodError(f"the model in {path.parent} was trained with {'; '.join(differ)}")

    def _check_fits(self, checkpoint: dict, path: Path) -> None:
        """Refuse a checkpoint of another method or with other shapes, and say what differs."""
        missing = {"state_dict", "epoch"} - set(checkpoint)
        if missing:
            raise MethodError(
                f"{path} is no checkpoint of a run: it has no {' and no '.join(sorted(missing))}"
            )
        trainer = checkpoint.get("trainer") or self.cfg.TRAINER.NAME
        if trainer != self.cfg.TRAINER.NAME:
            raise MethodError(
                f"{path} was written by {trainer}, but this run is {self.cfg.TRAINER.NAME}: "
                f"use --trainer {trainer} or another --model-dir"
            )
        wanted = {k: tuple(v.shape) for k, v in self.prompt_learner.state_dict().items()}
        found = {k: tuple(v.shape) for k, v in checkpoint["state_dict"].items()}
        wrong = [
            f"{key} is {found.get(key, 'not there')}, expected {wanted.get(key, 'no such key')}"
            for key in sorted(wanted.keys() | found.keys() - set(DEAD_KEYS))
            if found.get(key) != wanted.get(key)
        ]
        if wrong:
            raise MethodError(
                f"{path} does not fit this run: {'; '.join(wrong)}. A context (ctx) depends on "
                f"N_CTX, CTX_INIT, CSC and the backbone, a gate on the pool: use the settings of "
                f"the training, they are in {path.parents[1] / 'config.yaml'}"
            )


def _saved_epochs(folder: Path) -> str:
    """What checkpoints a folder holds, for a message."""
    if not folder.is_dir():
        return f"there is no folder {folder}: is --model-dir the folder of a trained run?"
    epochs = sorted(int(p.name.rpartition("-")[2]) for p in folder.glob("model.pth.tar-*[0-9]"))
    return f"epochs that were saved (--load-epoch): {', '.join(map(str, epochs)) or 'none'}"
