"""Training steps of the paper's main table, from the shipped configurations.

A method takes, for each seed and dataset, epochs x max(1, images // B) steps, where images are the
shots of each base class, the first half of the classes, rounded up. B and epochs stand in
configs/trainers/<method>/vit_b16.yaml and its table of datasets; methods, datasets and seeds in
configs/studies/base2new.yaml; shots are those of the protocol.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.kernels import all_lengths
from benchmarks.training_step import learning_methods
from runs.config import CONFIGS, build_parser, setup_cfg
from runs.merging import read_yaml
from runs.protocols import PROTOCOLS

STUDY = CONFIGS / "studies/base2new.yaml"
FORMULA = "steps = seeds x epochs x max(1, shots x base classes // B)"


@dataclass(frozen=True)
class Training:
    """What a method does on the base classes of a dataset, with one seed.

    Attributes:
        dataset: its registered name.
        classes: base classes.
        batch: B.
        steps: of the whole training.
    """

    method: str
    dataset: str
    classes: int
    batch: int
    steps: int


def shipped_cfg(method: str, dataset: str) -> Any:
    """The settings with which a method is trained on a dataset (stem of its file)."""
    words = ["--trainer", method, "--seed", "1"]
    words += ["--dataset-config-file", str(CONFIGS / f"datasets/{dataset}.yaml")]
    words += ["--config-file", str(CONFIGS / f"trainers/{method}/vit_b16.yaml")]
    with redirect_stdout(io.StringIO()):  # tells the dataset's own settings
        return setup_cfg(build_parser().parse_args(words))


@cache
def trainings() -> tuple[Training, ...]:
    """Those of one seed, of all methods that learn."""
    study = read_yaml(STUDY)
    (shots,) = PROTOCOLS["base2new"].shots
    found = []
    for method in study["methods"]:
        if method not in learning_methods():
            continue
        for dataset in study["datasets"]:
            cfg = shipped_cfg(method, dataset)
            classes = -(-len(all_lengths()[cfg.DATASET.NAME]) // 2)
            batch = cfg.DATALOADER.TRAIN_X.BATCH_SIZE
            steps = cfg.OPTIM.MAX_EPOCH * max(1, shots * classes // batch)
            found.append(Training(method, cfg.DATASET.NAME, classes, batch, steps))
    return tuple(found)


def seeds() -> int:
    """Number of seeds of the table."""
    return len(read_yaml(STUDY)["seeds"])


@dataclass(frozen=True)
class Total:
    """All trainings of a method.

    Attributes:
        steps: over all datasets and seeds.
        seconds: that they take; None where no step of the method was measured.
        least: class lists larger than all that were measured are among them, so that it takes more.
    """

    steps: int
    seconds: float | None
    least: bool = False


def total(seconds: Mapping[tuple[str, int], float], method: str) -> Total:
    """Steps of a method over all datasets and seeds, and the seconds that they take.

    Args:
        seconds: of a step, by method and number of classes; for other numbers of classes it is
            interpolated, and beyond them that of the nearest is taken.
    """
    own = [training for training in trainings() if training.method == method]
    steps = seeds() * sum(training.steps for training in own)
    known = sorted((classes, taken) for (name, classes), taken in seconds.items() if name == method)
    if not known:
        return Total(steps, None)
    sizes, times = zip(*known, strict=True)
    each = np.interp([training.classes for training in own], sizes, times)
    taken = seeds() * float(sum(t.steps * s for t, s in zip(own, each, strict=True)))
    return Total(steps, taken, any(training.classes > sizes[-1] for training in own))


def projection(columns: Sequence[Mapping[tuple[str, int], float]]) -> list[list[Any]]:
    """Rows of a table: method, steps, hours for each column of measured steps; the sum last.

    A sum is only told where all of its methods were measured.
    """
    methods = list(dict.fromkeys(training.method for training in trainings()))
    found = [[total(column, method) for method in methods] for column in columns]
    rows = [
        [method, *_shown([totals[place] for totals in found])]
        for place, method in enumerate(methods)
    ]
    return [*rows, ["all", *_shown([_sum(totals) for totals in found])]]


def _sum(totals: Sequence[Total]) -> Total:
    known = [one.seconds for one in totals if one.seconds is not None]
    seconds = sum(known) if len(known) == len(totals) else None
    return Total(sum(one.steps for one in totals), seconds, any(one.least for one in totals))


def _shown(totals: Sequence[Total]) -> list[str]:
    """Steps, and the hours of each column; ">" where it takes more."""
    hours = [
        "-" if one.seconds is None else f"{'>' * one.least}{one.seconds / 3600:.2f}"
        for one in totals
    ]
    return [f"{totals[0].steps:,}", *hours]
