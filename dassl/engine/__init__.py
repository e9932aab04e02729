"""Trainers: the loop, checkpoints and evaluation; methods plug in by registration.

The registry is light; the trainers, which need torch, are loaded on first use.
"""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

from .build import TRAINER_REGISTRY, build_trainer

if TYPE_CHECKING:
    from .trainer import SimpleTrainer, TrainerBase, TrainerX

__all__ = ["TRAINER_REGISTRY", "SimpleTrainer", "TrainerBase", "TrainerX", "build_trainer"]

__getattr__ = on_first_use(
    __name__, dict.fromkeys(("SimpleTrainer", "TrainerBase", "TrainerX"), "trainer")
)
