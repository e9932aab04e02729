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


def total_steps(seconds: Mapping[tuple[str, int], float], method: str) -> tuple[int, float | None]:
    """Steps of a method over all datasets and seeds, and the seconds that they take.

    Args:
        seconds: of a step, by method and number of classes; for other numbers of classes it is
            interpolated, and beyond them that of the nearest is taken.

    Returns:
        Steps; seconds, None where no step of the method was measured.
    """
    own = [training for training in trainings() if training.method == method]
    steps = seeds() * sum(training.steps for training in own)
    known = sorted((classes, taken) for (name, classes), taken in seconds.items() if name == method)
    if not known:
        return steps, None
    sizes, times = zip(*known, strict=True)
    each = np.interp([training.classes for training in own], sizes, times)
    return steps, seeds() * float(sum(t.steps * s for t, s in zip(own, each, strict=True)))


def projection(columns: Sequence[Mapping[tuple[str, int], float]]) -> list[list[Any]]:
    """Rows of a table: method, steps, hours for each column of measured steps; the sum last.

    A sum is only told where all of its methods were measured.
    """
    rows: list[list[Any]] = []
    methods = list(dict.fromkeys(training.method for training in trainings()))
    hours: list[list[float | None]] = []
    for method in methods:
        found = [total_steps(column, method) for column in columns]
        hours.append([None if taken is None else taken / 3600 for _, taken in found])
        rows.append([method, found[0][0], *map(_shown, hours[-1])])
    sums = [
        None if None in column else sum(h for h in column if h is not None)
        for column in zip(*hours, strict=True)
    ]
    rows.append(["all", sum(row[1] for row in rows), *map(_shown, sums)])
    return [[row[0], f"{row[1]:,}", *row[2:]] for row in rows]


def _shown(hours: float | None) -> str:
    return "-" if hours is None else f"{hours:.2f}"
