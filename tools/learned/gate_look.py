"""What a gate does with the images of a list, and what teachers and student make of them."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dassl.utils import UserError, progress
from runs.config import dataset_label, methods
from runs.trained import TrainedRun
from tools.learned.gate_numbers import images_title
from trainers.backbones.tokens import check_classes
from trainers.errors import MethodError
from trainers.features.loaders import as_tested
from trainers.mopd import MoPD
from trainers.prompts.gates import Gate, spread_out


@dataclass(frozen=True)
class Seen:
    """N images of a list.

    Attributes:
        dataset: label of the dataset.
        split: train, test or val.
        classes: base, new or all.
        paths: N files.
        classnames: C names.
        label: (N,).
        kind: of the groups, as "style"; "" where there are none.
        groups: the group of each image, or nothing.
        weights: (N, H) of the gate, 0 for teachers that are not picked.
        picked: (N, H), whether a teacher is picked.
        first: (N,), the teacher with the highest weight.
        oracle_picked, oracle_first: the same of the oracle gate.
        teachers: (N, H), whether a teacher is right.
        student: (N,), whether the student is right.
    """

    dataset: str
    split: str
    classes: str
    paths: list[str]
    classnames: list[str]
    label: np.ndarray
    kind: str
    groups: list[str]
    weights: np.ndarray
    picked: np.ndarray
    first: np.ndarray
    oracle_picked: np.ndarray
    oracle_first: np.ndarray
    teachers: np.ndarray
    student: np.ndarray

    @property
    def title(self) -> str:
        """What the images are, in words."""
        return images_title(self.dataset, self.split, self.classes)

    @property
    def name(self) -> str:
        """The same as part of a file's name."""
        return f"{self.split}_{self.dataset}_{self.classes}"


@dataclass(frozen=True)
class GateRun:
    """The gate of a run, and all images that it was looked at with.

    Attributes:
        gate: as trained, without noise and warm-up.
        pool: H templates.
        epoch: of the checkpoint.
        seen: the training images first.
    """

    gate: Gate
    pool: list[str]
    epoch: int | None
    seen: list[Seen]


def look_at_gate(run: TrainedRun, data: Path | None = None, epoch: int | None = None) -> GateRun:
    """The gate of a run on its training images, and on those of all tests that are done.

    Args:
        data: folder of the datasets; None: that of the project.
        epoch: of the checkpoint; None: the one that the run has tested.

    Raises:
        UserError: the method has no gate; or see `TrainedRun.open`.
    """
    if not (run.learns and issubclass(methods().get(run.trainer), MoPD)):
        raise UserError(
            f"{run.folder} is a run of {run.trainer}, which has no gate: give a run of MoPD"
        )
    trainer = run.open(None, data, epoch)
    found = GateRun(
        replace(trainer.gate, noise=0.0, warmup=0), trainer.pool, trainer.loaded_epoch, []
    )
    with redirect_stdout(io.StringIO()):  # of the cache and the transform
        found.seen.append(_look(trainer, found.gate, "train", trainer.dm.dataset.train_x))
        for one in (run, *run.others()):
            for results in one.results.values():
                trainer = one.open(results, data, epoch)
                split = trainer.cfg.TEST.SPLIT
                try:
                    check_classes(trainer.pool, trainer.dm.dataset.classnames)
                except MethodError as error:  # texts of each class, which new classes may not have
                    print(f"Left out, {dataset_label(trainer.cfg)}: {error}", file=sys.stderr)
                    continue
                items = getattr(trainer.dm.dataset, split)
                found.seen.append(_look(trainer, found.gate, split, items))
    return found


@torch.no_grad()
def _look(trainer: Any, gate: Gate, split: str, items: Sequence[Any]) -> Seen:
    """All that is asked of the images of one list; their features are those of the cache."""
    generator = torch.Generator().manual_seed(trainer.cfg.SEED)
    oracle, weight = Gate("oracle", gate.num_teachers), trainer.prompt_learner.gate
    parts: dict[str, list[Any]] = {}
    for batch in progress.bar(as_tested(trainer, items), desc=split, leave=False):
        images, label = trainer.parse_batch_test(batch)
        features = trainer.image_features(images)
        teachers = trainer.teacher_logits(features)  # (B, H, C)
        H = teachers.shape[1]
        student = trainer.predict(features).argmax(dim=-1)
        found = {"label": label, "student": student == label}
        found["teachers"] = teachers.argmax(dim=-1) == label[:, None]
        for name, one in (("", gate), ("oracle_", oracle)):
            weights, picked = one.pick(weight, features, teachers, label, 0, generator)
            best = weights.argmax(dim=-1, keepdim=True)  # of equal ones the first
            found[f"{name}weights"] = spread_out(weights, picked, H)
            found[f"{name}picked"] = spread_out(torch.ones_like(weights), picked, H).bool()
            found[f"{name}first"] = picked.gather(-1, best)[:, 0]
        for name, value in found.items():
            parts.setdefault(name, []).append(value.cpu())
    arrays = {name: torch.cat(values).numpy() for name, values in parts.items()}
    del arrays["oracle_weights"]
    dataset = trainer.dm.dataset
    kind, groups = _groups(dataset, items)
    label, classes = dataset_label(trainer.cfg), trainer.cfg.DATASET.SUBSAMPLE_CLASSES
    paths, names = [item.impath for item in items], list(dataset.classnames)
    return Seen(label, split, classes, paths, names, kind=kind, groups=groups, **arrays)


def _groups(dataset: Any, items: Sequence[Any]) -> tuple[str, list[str]]:
    """What else than classes images can be told apart by: a kind, and the group of each.

    A dataset that has a method `groups(items)` says it; of others it is the domains, if several.
    """
    told = getattr(dataset, "groups", None)
    if told is not None:
        kind, groups = told(items)
        return kind, [str(group) for group in groups]
    names, found = list(getattr(dataset, "domains", [])), [item.domain for item in items]
    if len(set(found)) < 2:
        return "", []
    return "domain", [names[d] if d < len(names) else f"domain {d}" for d in found]
