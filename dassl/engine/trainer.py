"""The training loop and the test that every trainer inherits (Dassl API, sections 7.2 and 7.3)."""

import datetime
import math
import os.path as osp
import shutil
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

import torch
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from dassl.evaluation import build_evaluator
from dassl.utils import (
    AverageMeter,
    MetricMeter,
    UserError,
    atomic_open,
    get_device,
    mkdir_if_missing,
    progress,
)
from dassl.utils.checkpoint import BEST_NAME

from .base import TrainerBase
from .metrics_log import MetricsLog
from .step_reports import StepReports, stopped

__all__ = ["SimpleTrainer", "TrainerBase", "TrainerX"]

# what upstream's module has by its own imports, and trainers take from here
_IMPORTED = {
    "DataManager": "dassl.data",
    "SummaryWriter": "torch.utils.tensorboard",
    **dict.fromkeys(("build_lr_scheduler", "build_optimizer"), "dassl.optim"),
    **dict.fromkeys(("count_num_param", "load_checkpoint", "save_checkpoint"), "dassl.utils"),
    **dict.fromkeys(("load_pretrained_weights", "resume_from_checkpoint"), "dassl.utils"),
    "tolist_if_not": "dassl.utils",
}


def __getattr__(name: str) -> Any:
    """A name of `_IMPORTED`, loaded on first use (PEP 562)."""
    if name not in _IMPORTED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_IMPORTED[name]), name)


class SimpleTrainer(TrainerBase):
    """A trainer of a configuration: data, model, evaluator, checkpoints and test.

    ``metrics_listener`` is called with each record of metrics.jsonl.
    """

    metrics_listener: Callable[[Mapping[str, Any]], object] | None = None

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        self.device = get_device(cfg.USE_CUDA)
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self._metrics: MetricsLog | None = None
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a configuration that the trainer cannot work with."""

    def build_data_loader(self) -> None:
        """Build the data manager and take its loaders."""
        from dassl.data import DataManager  # needs torchvision, which is slow to import

        dm = DataManager(self.cfg)
        self.train_loader_x = dm.train_loader_x
        self.train_loader_u = dm.train_loader_u
        self.val_loader = dm.val_loader
        self.test_loader = dm.test_loader
        self.num_classes = dm.num_classes
        self.num_source_domains = dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def build_model(self) -> None:
        """Build and register the model."""
        raise NotImplementedError(
            f"{type(self).__name__} must define build_model(): build the model, its optimiser and "
            "scheduler, and call self.register_model(name, model, optim, sched)"
        )

    def train(self) -> None:  # type: ignore[override]
        """Train as configured, then test."""
        try:
            super().train(self.start_epoch, self.max_epoch)
        finally:
            self._metrics = None  # a later test() is not part of this run
            for name in ("train_loader_x", "train_loader_u"):
                loader = getattr(self, name, None)  # a plugin may set other loaders, or none
                end_workers = getattr(loader, "close", None)
                if end_workers is not None:
                    end_workers()

    def before_train(self) -> None:
        """Resume from RESUME or OUTPUT_DIR, open the files of metrics, start the clock."""
        self._check_final_model()
        if self._models:
            # a run that was started from RESUME and cut off continues from its own checkpoints
            source = self.cfg.RESUME or self.output_dir
            if self.has_checkpoints(self.output_dir):
                source = self.output_dir
            self.start_epoch = self.resume_model_if_exist(source)
            if self.cfg.RESUME and self.start_epoch == 0:
                raise UserError(
                    f'RESUME is "{self.cfg.RESUME}", but there is no checkpoint of '
                    f"{' and '.join(self.get_model_names())} in it. "
                    "Give the folder of the run to continue."
                )
            if self.start_epoch > self.max_epoch:
                raise UserError(
                    f"The checkpoint is at epoch {self.start_epoch}, beyond OPTIM.MAX_EPOCH "
                    f"{self.max_epoch}. Raise MAX_EPOCH, or use another OUTPUT_DIR."
                )
            self._epochs_done = self.start_epoch
            self.epoch = max(self.start_epoch - 1, 0)
            self._take_best_along()
        else:  # nothing to train: a zero-shot method is only tested
            self.start_epoch = self.max_epoch
        writer_dir = osp.join(self.output_dir, "tensorboard")
        mkdir_if_missing(writer_dir)
        self._metrics = MetricsLog(self.output_dir, self._epochs_done, self.metrics_listener)
        self.init_writer(writer_dir)
        self.time_start = time.time()

    def _take_best_along(self) -> None:
        """Copy the best model of the resumed run, or forget its result if it is gone."""
        for name in self.get_model_names():
            target = osp.join(self.output_dir, name, BEST_NAME)
            source = osp.join(self.cfg.RESUME or self.output_dir, name, BEST_NAME)
            if osp.isfile(source) and osp.realpath(source) != osp.realpath(target):
                mkdir_if_missing(osp.dirname(target))
                with atomic_open(target, "wb") as copy, open(source, "rb") as original:
                    shutil.copyfileobj(original, copy)
            if not osp.isfile(target):
                self.best_result = -math.inf

    def _check_final_model(self) -> None:
        test = self.cfg.TEST
        if not test.NO_TEST:
            self._loader_of(test.SPLIT)
        if test.FINAL_MODEL not in ("last_step", "best_val"):
            raise UserError(
                f"TEST.FINAL_MODEL must be last_step or best_val, but got {test.FINAL_MODEL}"
            )
        if (
            test.FINAL_MODEL == "best_val"
            and not test.NO_TEST
            and self.val_loader is None
            and self._models
        ):
            raise UserError(
                "TEST.FINAL_MODEL best_val needs validation images, and "
                f"{self.cfg.DATASET.NAME} has none. The best epoch is never chosen on test images: "
                "use TEST.FINAL_MODEL last_step."
            )

    def after_train(self) -> None:
        """Test the last or the best model, and print the time."""
        print("Finish training")
        if not self.cfg.TEST.NO_TEST:
            if self._models:
                if self.cfg.TEST.FINAL_MODEL == "best_val":
                    print("Deploy the model with the best val performance")
                    self.load_model(self.output_dir)
                else:
                    print("Deploy the last-epoch model")
            self.test()
        elapsed = datetime.timedelta(seconds=round(time.time() - self.time_start))
        print(f"Elapsed: {elapsed}")
        self.close_writer()

    def after_epoch(self) -> None:
        """Keep the best model on validation images if asked for, and save a checkpoint when due."""
        test, freq = self.cfg.TEST, self.cfg.TRAIN.CHECKPOINT_FREQ
        if not test.NO_TEST and test.FINAL_MODEL == "best_val":
            result = float(self.test(split="val"))
            if result > self.best_result:
                self.best_result = result
                self.save_model(
                    self.epoch, self.output_dir, val_result=result, model_name=BEST_NAME
                )
        done = self.epoch + 1
        if done == self.max_epoch or (freq > 0 and done % freq == 0):
            self.save_model(self.epoch, self.output_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on "val" or "test" (default TEST.SPLIT) and return the accuracy.

        Raises:
            UserError: another split, or one without images.
            FloatingPointError: logits are not finite.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        loader = self._loader_of(split)
        if len(loader) == 0:
            raise UserError(
                f"The {split} split of {self.cfg.DATASET.NAME} is empty: nothing to evaluate"
            )
        print(f"Evaluate on the *{split}* set")
        for batch in progress.bar(loader, desc=split, leave=False):
            images, labels = self.parse_batch_test(batch)
            self.evaluator.process(self.model_inference(images), labels)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        if self._metrics is not None:
            values = {name: float(value) for name, value in results.items()}
            self._metrics.write(self._epochs_done, split, values)
        return next(iter(results.values()))

    def _loader_of(self, split: str) -> DataLoader:
        """The loader of "val" or "test"; a split that is not there is never replaced."""
        loaders = {"val": self.val_loader, "test": self.test_loader}
        if split not in loaders:
            raise UserError(f"TEST.SPLIT is {split}, expected one of: {', '.join(loaders)}")
        loader = loaders[split]
        if loader is None:
            raise UserError(
                f"TEST.SPLIT is {split}, but {self.cfg.DATASET.NAME} has no such images: "
                "use TEST.SPLIT test"
            )
        return loader

    def model_inference(self, input: Any) -> torch.Tensor:
        """Return logits (B, C) of images (B, 3, H, W)."""
        return self.model(input)  # type: ignore[attr-defined]

    def parse_batch_test(self, batch: Mapping[str, Any]) -> tuple[Any, torch.Tensor]:
        """Return images (B, 3, H, W) and labels (B,) on the device."""
        # loaders pin their batches where there is a GPU, so that copies need not be waited for
        images, labels = (batch[key].to(self.device, non_blocking=True) for key in ("img", "label"))
        return images, labels


class TrainerX(SimpleTrainer):
    """A trainer on labelled images: a method defines ``build_model`` and ``forward_backward``."""

    def train(self) -> None:  # type: ignore[override]
        """Train as configured, then test.

        Raises:
            UserError: the dataset has no training images.
            FloatingPointError: a loss is not finite; nothing is saved after that.
        """
        if self._models and self.train_loader_x is None:
            raise UserError(
                f"{self.cfg.DATASET.NAME} is test-only: it has no training images. "
                "Train on another dataset and evaluate here with --eval-only."
            )
        super().train()

    def run_epoch(self) -> None:
        """Train on every batch once; print, plot and record the loss terms."""
        assert self.train_loader_x is not None
        self.set_model_mode("train")
        reports, batch_time, data_time = StepReports(self), AverageMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        start, lr = time.time(), self.get_current_lr()
        end = start
        for batch_idx, batch in enumerate(self.train_loader_x):
            self.batch_idx = batch_idx
            data_time.update(time.time() - end)
            terms = self._step(batch, reports)
            batch_time.update(time.time() - end)
            reports.add(terms, batch_time, data_time)
            self._advance_bar(reports.losses, lr)
            end = time.time()
        reports.tell()
        if not batch_time.count:
            raise UserError(
                f"No batch to train on: the sampler {self.cfg.DATALOADER.TRAIN_X.SAMPLER} yields "
                "fewer images than DATALOADER.TRAIN_X.BATCH_SIZE "
                f"{self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE}. Lower it, or choose another SAMPLER."
            )
        if self._metrics is not None:
            seconds = round(time.time() - start, 3)
            means = reports.losses.averages()
            values = means | self.epoch_metrics() | {"lr": lr, "seconds": seconds}
            self._metrics.write(self.epoch + 1, "train", values)

    def epoch_metrics(self) -> dict[str, Any]:
        """What else metrics.jsonl says of an epoch, asked for once at its end; plain values."""
        return {}

    @cached_property
    def holds_back(self) -> bool:
        """Whether the host reads the terms of many steps at once, as it waits for them each time.

        What is not finite is then found with its batch, but after steps that followed it.
        """
        return self.device.type != "cpu"

    def _step(self, batch: Any, reports: StepReports) -> Mapping[str, Any] | None:
        """Make a step; an error of its numbers says where, unless an earlier step is to blame."""
        try:
            return self.forward_backward(batch)
        except (FloatingPointError, OverflowError, RuntimeError) as error:
            reports.read()
            told = str(error)
            if isinstance(error, RuntimeError) and "without overflow" not in told:
                raise
            if not isinstance(error, FloatingPointError):
                told = f"A rate, weight or temperature is too large ({told})."
            raise stopped(self, told, self.batch_idx) from error

    def _advance_bar(self, losses: MetricMeter, lr: float) -> None:
        """Move the bar of the whole training, which is shown on a terminal only."""
        if progress.on_terminal():
            step = self.epoch * self.num_batches + self.batch_idx
            if self._bar is None:
                self._bar = progress.bar(
                    total=self.max_epoch * self.num_batches,
                    initial=step,
                    desc="train",
                    unit="batch",
                )
            shown = {name: f"{average:.3f}" for name, average in losses.averages().items()}
            first = {name: shown[name] for name in ("loss", "acc") if name in shown}
            progress.show_figures(self._bar, first | shown | {"lr": f"{lr:.1e}"})
            self._bar.update()

    def parse_batch_train(self, batch: Mapping[str, Any]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Return images (B, 3, H, W), labels (B,) and domains (B,) on the device."""
        return (
            batch["img"].to(self.device),
            batch["label"].to(self.device),
            batch["domain"].to(self.device),
        )
