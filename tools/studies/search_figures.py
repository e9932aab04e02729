"""Pictures of a search: a curve over one knob, and a map of each two."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tools.results.style import COLOURS, GREY, HEAT, drawing, save, short
from tools.results.summary import ALL, H
from tools.studies.best import Searched, Tried
from tools.studies.file import Study
from tools.studies.search import said, short_names

if TYPE_CHECKING:  # matplotlib takes a second to import, and not every call needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_VALUES = 12  # of a knob on an axis of values side by side
MOST_FACTOR = 50  # from the smallest to the largest number on an axis that is not logarithmic
LOW_MIDDLE = 0.2  # of the largest: half of the numbers are below
LONGEST = 24  # characters of a value
MEASURES = {ALL: "accuracy", H: "harmonic mean H", "base": "base accuracy", "new": "new accuracy"}


def write_figures(study: Study, found: Sequence[Searched], out: Path) -> list[Path]:
    """Write the pictures of a search, one for each dataset and each two knobs, or a single one.

    Args:
        study: with a search.
        found: what it has found, see `tools.studies.best.searched`.
        out: the folder.

    Raises:
        UserError: no matplotlib, or no place to write.
    """
    paths = []
    with drawing():
        for one in (one for one in found if one.tried):
            names = short_names(dict.fromkeys(one.knobs))
            name = f"{study.name}_{one.dataset}_{one.trainer}"
            if len(names) == 1:
                paths += save(curve_figure(study, one), out, f"{name}_{names[one.knobs[0]]}")
            for pair in combinations(one.knobs, 2):
                figure = map_figure(study, one, *pair)
                paths += save(figure, out, f"{name}_{names[pair[0]]}_{names[pair[1]]}")
    return paths


def curve_figure(study: Study, found: Searched) -> Figure:
    """The score over the only knob; bars are the spread over seeds, a ring is around the best."""
    from matplotlib.figure import Figure

    (key,) = found.knobs
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    panel = figure.subplots()
    values = _ordered([one.setting[key] for one in found.tried])
    tried = sorted(found.tried, key=lambda one: values.index(one.setting[key]))
    places = _axis(panel, "x", key, found, values)
    panel.errorbar(
        [places[said(one.setting[key])] for one in tried],
        [found.score(one) for one in tried],
        yerr=[one.figures[found.by].spread or 0.0 for one in tried],
        color=COLOURS[0], marker="o", linewidth=1.8, markersize=5.5, elinewidth=1.2, capsize=3,
    )  # fmt: skip
    best = found.ranked()[0]
    _ring(panel, places[said(best.setting[key])], found.score(best))
    panel.set_ylabel(_score(found))
    _entitle(figure, study, found)
    return figure


def map_figure(study: Study, found: Searched, down: str, across: str) -> Figure:
    """The score over two knobs: a heat map of values side by side, else coloured points.

    Of more knobs, each place shows the best setting of the others.
    """
    from matplotlib.figure import Figure

    best: dict[tuple[str, str], Tried] = {}
    for one in found.ranked():
        best.setdefault((said(one.setting[down]), said(one.setting[across])), one)
    rows, columns = (
        _ordered([one.setting[key] for one in best.values()]) for key in (down, across)
    )
    side = max(len(rows), len(columns)) <= MOST_VALUES and 2 * len(best) >= len(rows) * len(columns)
    size = (2.6 + 0.9 * len(columns), 1.9 + 0.62 * len(rows)) if side else (6.2, 4.6)
    figure = Figure(figsize=(max(size[0], 5.6), size[1]), layout="constrained")
    panel = figure.subplots()
    worst_first = dict(reversed(best.items()))  # of points that overlap the best is seen
    scores = [found.score(one) for one in worst_first.values()]
    first = found.ranked()[0]
    low, high = min(scores), max(max(scores), min(scores) + 1e-6)
    x, y = _axis(panel, "x", across, found, columns), _axis(panel, "y", down, found, rows)
    if side:
        grid = np.full((len(rows), len(columns)), np.nan)
        for (row, column), one in best.items():
            grid[int(y[row]), int(x[column])] = found.score(one)
        shown: Any = panel.imshow(
            grid, cmap=HEAT, vmin=low, vmax=high, aspect="auto", origin="lower"
        )
        for (row, column), one in best.items():
            dark = (found.score(one) - low) / (high - low) < 0.5
            panel.text(
                x[column], y[row], f"{found.score(one):.2f}", ha="center", va="center",
                color="white" if dark else "black", fontsize=10,
            )  # fmt: skip
        panel.spines[:].set_visible(False)
        panel.tick_params(length=0)
        _frame(panel, x[said(first.setting[across])], y[said(first.setting[down])])
    else:
        shown = panel.scatter(
            [x[column] for _, column in worst_first], [y[row] for row, _ in worst_first],
            c=scores, cmap=HEAT, s=90, edgecolors=GREY, linewidths=0.6,
        )  # fmt: skip
        _ring(panel, x[said(first.setting[across])], y[said(first.setting[down])])
    others = len(found.knobs) > 2
    figure.colorbar(shown, ax=panel, label=_score(found))
    _entitle(figure, study, found, "best of all other knobs" if others else "")
    return figure


def _ring(panel: Axes, x: float, y: float) -> None:
    """A ring around the best setting."""
    panel.plot(
        x, y, marker="o", markersize=17, markerfacecolor="none", markeredgecolor=COLOURS[1],
        markeredgewidth=1.8, linestyle="none", zorder=4, clip_on=False,
    )  # fmt: skip


def _frame(panel: Axes, x: float, y: float) -> None:
    """A frame within the cell of the best setting."""
    from matplotlib.patches import Rectangle

    panel.add_patch(
        Rectangle(
            (x - 0.47, y - 0.47),
            0.94,
            0.94,
            fill=False,
            edgecolor=COLOURS[1],
            linewidth=3,
            zorder=4,
        )  # fmt: skip
    )


def _ordered(values: Sequence[Any]) -> list[Any]:
    """The different values: numbers by size, others as they come."""
    different = list({said(value): value for value in values}.values())
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in different)
    return sorted(different) if numbers else different


def _axis(
    panel: Axes, which: str, key: str, found: Searched, values: Sequence[Any]
) -> dict[str, float]:
    """Set up an axis for the values of a knob; where each of them is on it."""
    axis = getattr(panel, f"{which}axis")
    axis.set_label_text(short_names(dict.fromkeys(found.knobs))[key])
    if len(values) <= MOST_VALUES or not isinstance(values[0], int | float):
        axis.set_ticks(range(len(values)), [short(said(value), LONGEST) for value in values])
        return {said(value): float(place) for place, value in enumerate(values)}
    middle = values[len(values) // 2]
    # as drawn from a range of factors, not of differences
    if values[0] > 0 and values[-1] / values[0] > MOST_FACTOR and middle < LOW_MIDDLE * values[-1]:
        getattr(panel, f"set_{which}scale")("log")
        axis.set_major_formatter("{x:g}")  # powers need math, which names must not be read as
    return {said(value): float(value) for value in values}


def _score(found: Searched) -> str:
    return f"{MEASURES[found.by]}, % (validation)"


def _entitle(figure: Figure, study: Study, found: Searched, more: str = "") -> None:
    job = study.jobs[0]
    shots = f"{job.shots} shot{'s' * (job.shots > 1)}"
    seeds = f"{len(found.seeds)} seed{'s' * (len(found.seeds) > 1)}"
    parts = [f"{found.trainer} on {found.dataset}", job.protocol, shots, seeds, more]
    figure.suptitle(", ".join(filter(None, parts)), fontsize=12)
