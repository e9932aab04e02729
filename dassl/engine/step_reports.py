"""Reports of training steps, which may wait: to read the figures of a step makes a GPU wait."""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dassl.utils import AverageMeter, MetricMeter, log_only, progress

__all__ = ["StepReports", "stopped"]


@dataclass(frozen=True)
class Step:
    """What is reported of a step.

    Attributes:
        batch: its place in the epoch, from 0.
        terms: numbers, or tensors of one element that no later step changes.
        lr: the rate after it.
        line: what is printed before and after the terms; None where nothing is.
    """

    batch: int
    terms: Mapping[str, Any]
    lr: float
    line: tuple[str, str] | None


class StepReports:
    """The steps of an epoch: each is checked, printed and plotted, at once or some later.

    A trainer with `holds_back` that returns tensors is told of every TRAIN.PRINT_FREQ steps: their
    values come with one transfer. Values and order are the same either way.

    Attributes:
        losses: means of the terms of the steps that were reported.

    Args:
        trainer: a `TrainerX` in an epoch.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.losses = MetricMeter()
        self._held: list[Step] = []

    def add(
        self, terms: Mapping[str, Any] | None, batch_time: AverageMeter, data_time: AverageMeter
    ) -> None:
        """Take the terms of the step that was made, and report it unless it can wait."""
        trainer, lr = self.trainer, self.trainer.get_current_lr()
        # without the graph of a step, which would be kept as long
        held = {
            name: value.detach() if isinstance(value, torch.Tensor) else value
            for name, value in (terms or {}).items()
        }
        line = self._line(lr, batch_time, data_time)
        self._held.append(Step(trainer.batch_idx, held, lr, line))
        waits = trainer.holds_back and any(isinstance(v, torch.Tensor) for v in held.values())
        if not waits or (trainer.batch_idx + 1) % trainer.cfg.TRAIN.PRINT_FREQ == 0:
            self.tell()

    def _line(
        self, lr: float, batch_time: AverageMeter, data_time: AverageMeter
    ) -> tuple[str, str] | None:
        trainer, freq = self.trainer, self.trainer.cfg.TRAIN.PRINT_FREQ
        done, batches = trainer.batch_idx + 1, trainer.num_batches
        if done % freq and batches >= freq:
            return None
        left = batches - done + (trainer.max_epoch - trainer.epoch - 1) * batches
        eta = datetime.timedelta(seconds=int(batch_time.avg * left))
        return (
            f"epoch [{trainer.epoch + 1}/{trainer.max_epoch}] "
            f"batch [{done}/{batches}] "
            f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) "
            f"data {data_time.val:.3f} ({data_time.avg:.3f})",
            f"lr {lr:.4e} eta {eta}",
        )

    def read(self) -> list[tuple[Step, dict[str, float]]]:
        """The steps that were not reported yet, with their terms; they count as reported.

        Raises:
            FloatingPointError: a term is not finite; the text says which, and of which batch.
        """
        steps, self._held = self._held, []
        found = list(zip(steps, _numbers(steps, self.trainer.device), strict=True))
        for step, values in found:
            wrong = [f"{name} = {v}" for name, v in values.items() if not math.isfinite(v)]
            if wrong:
                told = f"Loss is infinite or NaN! ({', '.join(wrong)})"
                raise stopped(self.trainer, told, step.batch)
        return found

    def tell(self) -> None:
        """Print and plot all steps that were not reported yet."""
        trainer = self.trainer
        for step, values in self.read():
            self.losses.update(values)
            if step.line is not None:
                line = f"{step.line[0]} {self.losses} {step.line[1]}"
                (log_only if progress.on_terminal() else print)(line)
            count = trainer.epoch * trainer.num_batches + step.batch
            for name, average in self.losses.averages().items():
                trainer.write_scalar(f"train/{name}", average, count)
            trainer.write_scalar("train/lr", step.lr, count)


def _numbers(steps: Sequence[Step], device: torch.device) -> list[dict[str, float]]:
    """The terms of steps as numbers; all that are tensors come with one transfer."""
    tensors = [v for step in steps for v in step.terms.values() if isinstance(v, torch.Tensor)]
    found = [(t if t.is_floating_point() else t.double()).reshape(1).to(device) for t in tensors]
    numbers = iter(torch.cat(found).tolist() if found else ())

    def number(value: Any) -> float:
        return 0.0 + (next(numbers) if isinstance(value, torch.Tensor) else float(value))  # no -0.0

    return [{name: number(value) for name, value in step.terms.items()} for step in steps]


def stopped(trainer: Any, told: str, batch: int) -> FloatingPointError:
    """The error that ends a training at a batch, counted from 0."""
    return FloatingPointError(
        f"{told} At epoch {trainer.epoch + 1}/{trainer.max_epoch}, "
        f"batch {batch + 1}/{trainer.num_batches}. Training stops and this epoch is "
        "not saved. Try a lower OPTIM.LR or a higher precision."
    )
