"""A trained method for other class names than those that it was trained with."""

from __future__ import annotations

import copy
import io
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any

import torch

from trainers.errors import MethodError

FOR_THE_CLASSES = ("model", "teachers", "hand_made", "step_graph")  # made on first use


def for_classes(trainer: Any, classnames: list[str]) -> Any:
    """See `PromptTrainer.for_classes`."""
    if trainer.knobs.get("CSC"):
        raise MethodError(
            f"TRAINER.{trainer.node()}.CSC True learns a context for each class of the training, "
            "and other classes have none"
        )
    other = copy.copy(trainer)
    for name in FOR_THE_CLASSES:
        vars(other).pop(name, None)
    other.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=classnames))
    other._cached_class_features = None
    with torch.random.fork_rng(devices=[]), redirect_stdout(io.StringIO()):
        other.prompt_learner = other.build_prompts(trainer.clip, classnames)
    if other.prompt_learner is not None:
        other.prompt_learner.load_state_dict(trainer.prompt_learner.state_dict())
        other.prompt_learner.to(trainer.device).eval()
    return other
