"""Learning-rate schedules, stepped once per epoch by the trainer's ``update_lr``."""

from typing import Any

import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR
from yacs.config import CfgNode

from dassl.utils import UserError

__all__ = [
    *("AVAI_SCHEDS", "WARMUP_TYPES", "ConstantWarmupScheduler", "LinearWarmupScheduler"),
    "build_lr_scheduler",
]

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]
WARMUP_TYPES = ["linear", "constant"]


class _WarmupScheduler(LRScheduler):
    """Own learning rate for the first ``warmup_epoch`` epochs, then that of ``successor``.

    The successor's clock starts after the warm-up; ``last_epoch`` then stays at ``warmup_epoch``.
    The state holds numbers only, so that a resumed run continues on the live optimiser.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        last_epoch: int = -1,
    ) -> None:
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super().__init__(optimizer, last_epoch)

    def warmup_lr(self, base_lr: float) -> float:
        """Return the rate of warm-up epoch ``self.last_epoch`` (0-based)."""
        raise NotImplementedError

    def get_lr(self) -> list[Any]:
        """Return the rates of the parameter groups."""
        if self.last_epoch >= self.warmup_epoch:
            return self.successor.get_last_lr()
        return [self.warmup_lr(float(lr)) for lr in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Go on by one epoch."""
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return own and the successor's counters and rates."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": list(self._last_lr),
            "successor": self.successor.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        state = dict(state_dict)
        self.successor.load_state_dict(state.pop("successor"))
        self.__dict__.update(state)


class ConstantWarmupScheduler(_WarmupScheduler):
    """Warm-up at the constant rate ``cons_lr``."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        cons_lr: float,
        last_epoch: int = -1,
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def warmup_lr(self, base_lr: float) -> float:
        """Return ``cons_lr``."""
        return self.cons_lr


class LinearWarmupScheduler(_WarmupScheduler):
    """Warm-up at ``min_lr`` in the first epoch, then at ``base_lr * epoch / warmup_epoch``."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        min_lr: float,
        last_epoch: int = -1,
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch)

    def warmup_lr(self, base_lr: float) -> float:
        """Return the rate on the line."""
        return (
            self.min_lr if self.last_epoch == 0 else base_lr * self.last_epoch / self.warmup_epoch
        )


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """Build ``optim_cfg.LR_SCHEDULER`` with its warm-up (Dassl API, section 4).

    Cosine, warm-up of W epochs, T = MAX_EPOCH, 0-based epoch e >= W:
    ``lr(e) = lr0 / 2 * (1 + cos(pi * (e - W) / T))`` with WARMUP_RECOUNT.

    Raises:
        UserError: unknown schedule or warm-up type.
        TypeError: STEPSIZE of the wrong type.
    """
    name, step_size, max_epoch = optim_cfg.LR_SCHEDULER, optim_cfg.STEPSIZE, optim_cfg.MAX_EPOCH
    if name not in AVAI_SCHEDS:
        raise UserError(f"scheduler must be one of {AVAI_SCHEDS}, but got {name}")
    scheduler: LRScheduler
    if name == "single_step":
        if isinstance(step_size, (list, tuple)):
            step_size = step_size[-1]
        if not isinstance(step_size, int):
            raise TypeError(
                f"For single_step lr_scheduler, stepsize must be an integer, got {type(step_size)}"
            )
        scheduler = StepLR(
            optimizer, step_size if step_size > 0 else max_epoch, gamma=optim_cfg.GAMMA
        )
    elif name == "multi_step":
        if not isinstance(step_size, (list, tuple)):
            raise TypeError(
                f"For multi_step lr_scheduler, stepsize must be a list, got {type(step_size)}"
            )
        scheduler = MultiStepLR(optimizer, list(step_size), gamma=optim_cfg.GAMMA)
    else:
        scheduler = CosineAnnealingLR(optimizer, max_epoch)
    return _with_warmup(optimizer, scheduler, optim_cfg)


def _with_warmup(
    optimizer: torch.optim.Optimizer, scheduler: LRScheduler, optim_cfg: CfgNode
) -> LRScheduler:
    epochs = optim_cfg.WARMUP_EPOCH
    if epochs <= 0:
        return scheduler
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = epochs
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, epochs, optim_cfg.WARMUP_CONS_LR)
    if optim_cfg.WARMUP_TYPE == "linear":
        return LinearWarmupScheduler(optimizer, scheduler, epochs, optim_cfg.WARMUP_MIN_LR)
    raise UserError(f"warmup type must be one of {WARMUP_TYPES}, but got {optim_cfg.WARMUP_TYPE}")
