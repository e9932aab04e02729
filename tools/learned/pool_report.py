"""What is told about a pool: a table, a picture, and the file of a chosen part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tools.results.style import GREY, HEAT, short
from tools.results.table_format import Table
from trainers.prompts.pool import POOLS, find_pool

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure

MOST_ROWS = 20  # of a table
MOST_NUMBERS = 60  # beside points of a picture
LONGEST = 60  # characters of a template


def pool_table(title: str, numbers: Mapping[str, Any]) -> str:
    """The teachers from the most accurate to the least, and the pool as a whole."""
    right, twins = numbers["accuracy"], numbers["twin"]
    order = sorted(range(numbers["size"]), key=lambda h: (-right[h], h))
    rows: list[Any] = []
    for h in order[:MOST_ROWS]:
        like = f"{numbers['redundancy'][h]:.3f} ({twins[h]})" if twins[h] is not None else "-"
        rows.append([str(h), short(numbers["teachers"][h], LONGEST), f"{right[h]:.1f}", like])
    notes = [
        f"{numbers['size']} teachers, {numbers['classes']} classes, {numbers['images']} training "
        f"images. Right: the ensemble {numbers['ensemble']:.1f}%, single teachers "
        f"{min(right):.1f}% to {max(right):.1f}%, {sum(right) / len(right):.1f}% on average."
    ]
    if numbers["mean_cosine"] is not None:
        notes.append(
            f"Mean cosine of two teachers' class features: {numbers['mean_cosine']:.3f}; of a "
            f"teacher and the one most like it: {_mean(numbers['redundancy']):.3f}."
        )
    if hidden := numbers["size"] - len(rows):
        notes.append(f"{hidden} more teachers are in stats.json (--out).")
    headers = ["", "teacher", "accuracy, %", "most like it"]
    return Table(title, headers, rows, 2, notes).show("text")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def pool_figure(title: str, numbers: Mapping[str, Any]) -> Figure:
    """Teachers in the plane of their two main components, coloured by accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 5.6), layout="constrained")
    panel = figure.subplots()
    x, y = zip(*numbers["places"], strict=True)
    points = panel.scatter(x, y, c=numbers["accuracy"], cmap=HEAT, s=44, edgecolors="white")
    if numbers["size"] <= MOST_NUMBERS:
        for h, place in enumerate(numbers["places"]):
            panel.annotate(
                str(h), place, (4, 4), textcoords="offset points", fontsize=8, color=GREY
            )
    panel.set_xlabel("first main component")
    panel.set_ylabel("second")
    figure.colorbar(points, label="accuracy of the teacher alone, %", shrink=0.8)
    figure.suptitle(f"Teachers by their class features: {short(title, 60)}", fontsize=12)
    return figure


def chosen_pool(name: str, dataset: str, numbers: Sequence[int], said: str, out: Path) -> str:
    """The file of a chosen part of a pool; it serves the dataset for which it was chosen.

    Args:
        name: of the whole pool.
        said: how the part was chosen.
        out: where the file goes.
    """
    source = find_pool(name)
    # a bare name would be looked up among the shipped pools first
    near = os.path.join(os.curdir, os.path.relpath(source, out.parent.resolve()))
    path = source.stem if source.parent == POOLS else near
    content = {
        "description": said,
        "keep": list(numbers),
        "datasets": {dataset: {"include": [path]}},
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
