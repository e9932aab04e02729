"""Figures of a single run: its training, and what a test says of classes and confidences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runs.metrics import Bin, Outputs, calibration, confusion
from runs.predictions import Predictions
from tools.results.style import COLOURS, GREY, HEAT, LINES, short

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 48  # beside a confusion matrix; more cannot be read
LONGEST = 24  # characters of a class name
_NO_LOSS = ("epoch", "acc", "lr", "seconds")  # numbers of an epoch that are no loss terms
MOST_TERMS = len(COLOURS)


def training_figure(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Loss, its terms, and accuracy over the epochs; None if no epoch tells any.

    Args:
        records: of `runs.folder.read_metrics`.
    """
    from matplotlib.figure import Figure

    epochs = [record for record in records if record["split"] == "train"]
    losses = [name for name in _terms(epochs) if _curve(epochs, name)]
    accuracies = {
        "training images": _curve(epochs, "acc"),
        "validation images": _curve([r for r in records if r["split"] == "val"], "accuracy"),
    }
    if not losses and not any(accuracies.values()):
        return None
    figure = Figure(figsize=(8.6, 3.1))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(0.075, 0.17, 0.985, 0.9, 0.16)
    _draw(left, {name: _curve(epochs, name) for name in losses[:MOST_TERMS]}, "loss and its terms")
    _draw(right, accuracies, "accuracy, %")
    return figure


def _terms(epochs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The loss first, then its terms."""
    names = dict.fromkeys(name for record in epochs for name in record)
    terms = [n for n in names if n not in (*_NO_LOSS, "loss") and not n.startswith("gate_")]
    return ["loss", *terms]


def _curve(records: Sequence[Mapping[str, Any]], name: str) -> dict[int, float]:
    """A number by epoch; what is no finite number is left out."""
    values = {record["epoch"]: record.get(name) for record in records}
    return {
        epoch: value
        for epoch, value in values.items()
        if isinstance(value, int | float) and np.isfinite(value)
    }


def _draw(panel: Axes, curves: Mapping[str, Mapping[int, float]], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for at, (name, curve) in enumerate(curves.items()):
        if curve:
            style: dict[str, Any] = {"color": COLOURS[at], "linestyle": LINES[at % len(LINES)]}
            style |= {"marker": "o", "markersize": 3} if len(curve) < 3 else {}
            panel.plot(list(curve), list(curve.values()), linewidth=1.8, label=name, **style)
    panel.set_title(title)
    panel.set_xlabel("epoch")
    panel.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if any(curves.values()):
        panel.legend(frameon=False, fontsize=9)


def confusion_figure(found: Predictions) -> Figure:
    """Share of each true class (rows) that is taken for each class (columns), as a heat map."""
    from matplotlib.figure import Figure

    C = len(found.classnames)
    counts = confusion(found.outputs, C)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = C <= MOST_NAMES
    names = [short(name, LONGEST) for name in found.classnames] if named else []
    room = 0.062 * max(map(len, names), default=0) + 0.55  # inches for the names
    side = min(max(0.17 * C, 2.2), 6.0)
    wide, high = room + side + 1.0, room + side + 0.35
    figure = Figure(figsize=(wide, high))
    panel = figure.add_axes((room / wide, room / high, side / wide, side / high))
    image = panel.imshow(shares, cmap=HEAT, vmin=0, vmax=100, interpolation="none")
    panel.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.tick_params(length=0)
    panel.spines[["left", "bottom"]].set_visible(False)
    panel.set_xlabel("taken for" if named else f"taken for ({C} classes in their order)")
    panel.set_ylabel("class")
    bar = figure.add_axes(((room + side + 0.15) / wide, room / high, 0.16 / wide, side / high))
    figure.colorbar(image, cax=bar)
    bar.set_title("%", fontsize=10)
    return figure


def reliability_figure(outputs: Outputs) -> Figure:
    """Accuracy over confidence in bins, against the diagonal; below, how many images they have."""
    from matplotlib.figure import Figure

    bins = calibration(outputs)
    figure = Figure(figsize=(4.6, 4.4))
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(0.15, 0.12, 0.95, 0.97, hspace=0.1)
    full = [one for one in bins if one.images]
    _bars(top, full, [100 * one.accuracy for one in full], COLOURS[0], "accuracy")
    top.plot([0, 100], [0, 100], color=GREY, linestyle="--", linewidth=1.2, label="as confident")
    top.plot(
        [100 * one.confidence for one in full], [100 * one.accuracy for one in full],
        color=COLOURS[1], marker="o", markersize=4, linestyle="none", label="their mean confidence",
    )  # fmt: skip
    top.set_ylim(0, 100)
    top.set_ylabel("accuracy, %")
    top.legend(frameon=False, fontsize=9, loc="upper left")
    _bars(below, bins, [one.images for one in bins], GREY, "images")
    below.set_xlim(0, 100)
    below.set_ylabel("images")
    below.set_xlabel("confidence, %")
    return figure


def _bars(
    panel: Axes, bins: Sequence[Bin], heights: Sequence[float], colour: str, name: str
) -> None:
    panel.bar(
        [100 * one.low for one in bins], heights, [100 * (one.high - one.low) for one in bins],
        align="edge", color=colour, alpha=0.75, edgecolor="white", linewidth=0.8, label=name,
    )  # fmt: skip
