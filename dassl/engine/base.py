"""Registered models, checkpoints and the order of hooks (Dassl API, section 7.1)."""

import math
import os.path as osp
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from dassl.utils import (
    CheckpointError,
    MissingFileError,
    errors_named,
    save_checkpoint,
    tolist_if_not,
)
from dassl.utils import checkpoint as ckpt

from .quiet_threads import QuietThreads

__all__ = ["TrainerBase"]


class TrainerBase:
    """Registered models with their optimisers and schedulers, the loop, and checkpoints."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, Any] = OrderedDict()
        self._optims: OrderedDict[str, Any] = OrderedDict()
        self._scheds: OrderedDict[str, Any] = OrderedDict()
        self._writer: Any = None
        self._curves = ""  # folder of the writer
        self._bar: tqdm | None = None
        self._epochs_done = 0
        self.best_result = -math.inf

    # ---- models

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: Any = None,
        sched: Any = None,
    ) -> None:
        """Make a model part of training mode, updates and checkpoints, under ``name``.

        Raises:
            AttributeError: called before ``super().__init__()``.
            AssertionError: the name is taken.
        """
        if "_models" not in self.__dict__:
            raise AttributeError("Cannot assign model before super().__init__() call")
        assert name not in self._models, "Found duplicate model names"
        self._models[name] = model
        self._optims[name] = optim
        self._scheds[name] = sched

    def get_model_names(self, names: Any = None) -> list[str]:
        """Return all registered names, or ``names`` (one or a list) if they are registered."""
        registered = list(self._models)
        if names is None:
            return registered
        names = tolist_if_not(names)
        for name in names:
            assert name in registered, f'"{name}" is not a registered model; there are {registered}'
        return names

    def set_model_mode(self, mode: str = "train", names: Any = None) -> None:
        """Set the registered models to "train", or to "test" or "eval"."""
        if mode not in ("train", "test", "eval"):
            raise KeyError(mode)
        for name in self.get_model_names(names):
            model = self._models[name]
            if model is not None:
                model.train(mode == "train")

    def update_lr(self, names: Any = None) -> None:
        """Step the schedulers: the trainer calls this on the last batch of each epoch."""
        for name in self.get_model_names(names):
            if self._scheds[name] is not None:
                self._scheds[name].step()

    def get_current_lr(self, names: Any = None) -> float:
        """Return the rate of the first group of the first model; 0 without an optimiser."""
        for name in self.get_model_names(names)[:1]:
            if self._optims[name] is not None:
                return float(self._optims[name].param_groups[0]["lr"])
        return 0.0

    def detect_anomaly(self, loss: torch.Tensor) -> None:
        """Raise FloatingPointError unless the loss is finite."""
        if not torch.isfinite(loss).all():
            raise FloatingPointError("Loss is infinite or NaN!")

    def model_zero_grad(self, names: Any = None) -> None:
        """Clear the gradients."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].zero_grad()

    def model_backward(self, loss: torch.Tensor) -> None:
        """Check that the loss is finite and compute the gradients."""
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: Any = None) -> None:
        """Step the optimisers."""
        for name in self.get_model_names(names):
            if self._optims[name] is not None:
                self._optims[name].step()

    def model_backward_and_update(self, loss: torch.Tensor, names: Any = None) -> None:
        """Clear gradients, compute them, step."""
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(
        self, loss_a: torch.Tensor, loss_b: torch.Tensor, lambda_: float = 1.0, names: Any = None
    ) -> None:
        """Step along the gradient of ``loss_a``, without what is against that of ``loss_b``.

        For each parameter tensor by itself; ``lambda_`` is the share that is left out. It is part
        of the fork of Dassl that ProGrad ships (Dassl API, section 10).
        """
        learned = [
            parameter
            for name in self.get_model_names(names)
            for parameter in self._models[name].parameters()
            if parameter.requires_grad
        ]
        self.detect_anomaly(loss_b)
        against = torch.autograd.grad(loss_b, learned, retain_graph=True, allow_unused=True)
        self.model_zero_grad(names)
        self.model_backward(loss_a)
        for parameter, other in zip(learned, against, strict=True):
            if other is None or parameter.grad is None:
                continue
            direction = other / other.norm()
            dot = (parameter.grad * direction).sum()
            if dot < 0:  # not where a gradient is zero, whose direction is NaN
                parameter.grad -= lambda_ * dot * direction
        self.model_update(names)

    # ---- checkpoints

    def _trainer_name(self) -> str:
        cfg = getattr(self, "cfg", None)
        return (cfg.TRAINER.NAME if cfg is not None else "") or type(self).__name__

    def save_model(
        self,
        epoch: int,
        directory: str,
        is_best: bool = False,
        val_result: Any = None,
        model_name: str = "",
    ) -> None:
        """Save each registered model to ``<directory>/<name>/``, with all that a resume needs."""
        scaler = getattr(self, "scaler", None)
        for name in self.get_model_names():
            optim, sched, model = self._optims[name], self._scheds[name], self._models[name]
            if model is None:
                continue
            state = {
                "state_dict": model.state_dict(),
                "epoch": epoch + 1,
                "optimizer": None if optim is None else optim.state_dict(),
                "scheduler": None if sched is None else sched.state_dict(),
                "val_result": None if val_result is None else float(val_result),
                "trainer": self._trainer_name(),
                "best_result": float(self.best_result),
                "rng": ckpt.rng_state(),
            }
            if scaler is not None:
                state["scaler"] = scaler.state_dict()
            save_checkpoint(
                state, osp.join(directory, name), is_best=is_best, model_name=model_name
            )

    def has_checkpoints(self, directory: str) -> bool:
        """Return whether every registered model has a checkpoint to resume from."""
        names = [name for name in self.get_model_names() if self._models[name] is not None]
        return bool(names) and all(ckpt.last_checkpoint(osp.join(directory, n)) for n in names)

    def resume_model_if_exist(self, directory: str) -> int:
        """Continue from the last checkpoints below ``directory``; return the epoch to start from.

        Weights, optimiser, scheduler, best result, AMP scaler and random generators are restored.
        Without a checkpoint 0 is returned. All is checked before anything is changed.

        Raises:
            CheckpointError: damaged, of another trainer, or of other shapes.
        """
        names = [name for name in self.get_model_names() if self._models[name] is not None]
        if not names:
            return 0
        paths = [ckpt.last_checkpoint(osp.join(directory, name)) for name in names]
        if None in paths:
            print("No checkpoint found, train from scratch")
            return 0
        print(f"Found checkpoint at {directory} (will resume training)")
        found = {}
        for name, path in zip(names, paths, strict=True):
            print(f'Loading checkpoint from "{path}"')
            found[name] = (ckpt.load_training_checkpoint(str(path)), str(path))
        self._align_epochs(directory, found)
        for name, (checkpoint, path) in found.items():
            writer = checkpoint.get("trainer", self._trainer_name())
            if writer != self._trainer_name():
                raise CheckpointError(
                    f'Checkpoint "{path}" was written by the trainer {writer}, '
                    f"not by {self._trainer_name()}. Use another OUTPUT_DIR."
                )
            ckpt.check_fits(checkpoint["state_dict"], self._models[name], path)
        for name, (checkpoint, path) in found.items():
            ckpt.restore(
                checkpoint, path, self._models[name], self._optims[name], self._scheds[name]
            )

        last = found[names[-1]][0]
        self.best_result = last.get("best_result", self.best_result)
        scaler = getattr(self, "scaler", None)
        if scaler is not None and last.get("scaler"):
            scaler.load_state_dict(last["scaler"])
        if "rng" in last:
            ckpt.set_rng_state(last["rng"])
        return last["epoch"]

    def _align_epochs(self, directory: str, found: dict[str, tuple[dict[str, Any], str]]) -> None:
        """Go back to the earliest epoch if a run was cut off between the files of two models."""
        first = min(checkpoint["epoch"] for checkpoint, _ in found.values())
        for name, (checkpoint, _) in list(found.items()):
            if checkpoint["epoch"] != first:
                path = osp.join(directory, name, ckpt.epoch_name(first))
                print(f'Going back to "{path}"')
                found[name] = (ckpt.load_training_checkpoint(path), path)

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the weights of ``epoch``, or the best ones, from ``<directory>/<name>/``; strict.

        Raises:
            MissingFileError: there is no such file; the text lists the epochs that there are.
            CheckpointError: damaged, or of other shapes.
        """
        if not directory:
            print(
                "Note that load_model() is skipped as no pretrained model is given "
                "(ignore this if it's done on purpose)"
            )
            return
        for name in self.get_model_names():
            model = self._models[name]
            if model is None:
                continue
            folder = osp.join(directory, name)
            path = osp.join(folder, ckpt.BEST_NAME if epoch is None else ckpt.epoch_name(epoch))
            if not osp.exists(path):
                epochs = ", ".join(map(str, ckpt.saved_epochs(folder))) or "none"
                raise MissingFileError(f"No model at {path} (epochs stored there: {epochs})")
            checkpoint = ckpt.load_training_checkpoint(path, resume=False)
            val_result = checkpoint.get("val_result")
            shown = "none" if val_result is None else f"{val_result:.1f}"
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']}, val_result={shown})")
            ckpt.check_fits(checkpoint["state_dict"], model, path)
            model.load_state_dict(checkpoint["state_dict"])

    # ---- TensorBoard

    def init_writer(self, log_dir: str) -> None:
        """Write scalars to ``log_dir`` from now on; without TensorBoard say so and write none."""
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter  # slow to import
        except ImportError:
            print(
                "Note: TensorBoard is not installed, no curves are written "
                "(pip install tensorboard)"
            )
            return
        print(f"Initialize tensorboard (log_dir={log_dir})")
        self._curves = log_dir
        threading.excepthook = QuietThreads()
        try:
            with errors_named(log_dir):
                self._writer = SummaryWriter(log_dir=log_dir)
        except UnicodeEncodeError:
            self._forget_hook()
            print("Note: TensorBoard needs a folder with a name in UTF-8, no curves are written")
        except OSError:
            self._forget_hook()
            raise

    def close_writer(self) -> None:
        """Finish the TensorBoard file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                with errors_named(self._curves):
                    writer.close()
            finally:
                self._forget_hook()

    def _forget_hook(self) -> None:
        hook = threading.excepthook
        threading.excepthook = hook.before if isinstance(hook, QuietThreads) else hook

    def write_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> None:
        """Add a point to a TensorBoard curve; nothing happens without a writer."""
        if self._writer is not None:
            with errors_named(self._curves):
                self._writer.add_scalar(tag, scalar_value, global_step)

    # ---- loop

    def train(self, start_epoch: int, max_epoch: int) -> None:
        """Run the epochs from ``start_epoch`` (0-based; ``before_train`` may change it)."""
        self.start_epoch = start_epoch
        self.max_epoch = max_epoch
        try:
            self.before_train()
            for epoch in range(self.start_epoch, self.max_epoch):
                self.epoch = epoch
                self.before_epoch()
                self.run_epoch()
                self._epochs_done = self.epoch + 1
                self.after_epoch()
            self._close_bar()
            self.after_train()
            self.close_writer()
        finally:
            self._close_bar()
            with suppress(OSError):  # of a disk that is full: said already
                self.close_writer()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def before_train(self) -> None:
        """Hook."""

    def after_train(self) -> None:
        """Hook."""

    def before_epoch(self) -> None:
        """Hook."""

    def after_epoch(self) -> None:
        """Hook."""

    def run_epoch(self) -> None:
        """Train for one epoch."""
        raise NotImplementedError

    def test(self) -> Any:
        """Evaluate."""
        raise NotImplementedError

    def parse_batch_train(self, batch: Any) -> Any:
        """Take from a training batch what ``forward_backward`` needs."""
        raise NotImplementedError

    def parse_batch_test(self, batch: Any) -> Any:
        """Take from a test batch images and labels."""
        raise NotImplementedError

    def forward_backward(self, batch: Any) -> dict[str, Any] | None:
        """Make one training step and return the loss terms to show."""
        raise NotImplementedError

    def model_inference(self, input: Any) -> torch.Tensor:
        """Return logits (B, C)."""
        raise NotImplementedError
