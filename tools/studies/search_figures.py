"""Pictures of a search: a curve over one knob, and a map of each two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        [places[str(one.setting[key])] for one in tried],
        [found.score(one) for one in tried],
        yerr=[one.figures[found.by].spread or 0.0 for one in tried],
        color=COLOURS[0], marker="o", linewidth=1.8, markersize=5.5, elinewidth=1.2, capsize=3,
    )  # fmt: skip
    best = found.ranked()[0]
    _ring(panel, places[str(best.setting[key])], found.score(best))
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
        best.setdefault((str(one.setting[across]), str(one.setting[down])), one)
    columns, rows = (
        _ordered([one.setting[key] for one in best.values()]) for key in (across, down)
    )
    side = max(len(rows), len(columns)) <= MOST_VALUES and 2 * len(best) >= len(rows) * len(columns)
    size = (2.6 + 0.9 * len(columns), 1.9 + 0.62 * len(rows)) if side else (6.2, 4.6)
    figure = Figure(figsize=(max(size[0], 5.6), size[1]), layout="constrained")
    panel = figure.subplots()
    x, y = _axis(panel, "x", across, found, columns), _axis(panel, "y", down, found, rows)
    scores = {(x[at], y[to]): found.score(one) for (at, to), one in best.items()}
    shown = (_draw_cells if side else _draw_points)(panel, scores)
    figure.colorbar(shown, ax=panel, label=_score(found))
    others = len(found.knobs) > 2
    _entitle(figure, study, found, "best of all other knobs" if others else "")
    return figure


def _draw_cells(panel: Axes, scores: Mapping[tuple[float, float], float]) -> Any:
    """A heat map with its numbers, and a frame in the first cell; `scores`: by column and row."""
    from matplotlib.patches import Rectangle

    low = min(scores.values())
    high = max(*scores.values(), low + 1e-6)
    columns, rows = (int(max(place[at] for place in scores)) + 1 for at in (0, 1))
    grid = np.full((rows, columns), np.nan)
    for (x, y), score in scores.items():
        grid[int(y), int(x)] = score
        dark = (score - low) / (high - low) < 0.5
        panel.text(
            x, y, f"{score:.2f}", ha="center", va="center",
            color="white" if dark else "black", fontsize=10,
        )  # fmt: skip
    x, y = next(iter(scores))
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
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    return panel.imshow(grid, cmap=HEAT, vmin=low, vmax=high, aspect="auto", origin="lower")


def _draw_points(panel: Axes, scores: Mapping[tuple[float, float], float]) -> Any:
    """Coloured points, and a ring around the first one."""
    _ring(panel, *next(iter(scores)))
    points = list(scores.items())[::-1]  # of those that overlap the best is seen
    return panel.scatter(
        [place[0] for place, _ in points], [place[1] for place, _ in points],
        c=[score for _, score in points], cmap=HEAT, s=90, edgecolors=GREY, linewidths=0.6,
    )  # fmt: skip


def _ring(panel: Axes, x: float, y: float) -> None:
    """A ring around the best setting."""
    panel.plot(
        x, y, marker="o", markersize=17, markerfacecolor="none", markeredgecolor=COLOURS[1],
        markeredgewidth=1.8, linestyle="none", zorder=4, clip_on=False,
    )  # fmt: skip


def _ordered(values: Sequence[Any]) -> list[Any]:
    """The different values: numbers by size, others as they come."""
    different = list({str(value): value for value in values}.values())
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in different)
    return sorted(different) if numbers else different


def _axis(
    panel: Axes, which: str, key: str, found: Searched, values: Sequence[Any]
) -> dict[str, float]:
    """Set up an axis for the values of a knob; the place of each on it, by its text."""
    axis = getattr(panel, f"{which}axis")
    axis.set_label_text(short_names(dict.fromkeys(found.knobs))[key])
    if len(values) <= MOST_VALUES or not isinstance(values[0], int | float):
        axis.set_ticks(range(len(values)), [short(said(value), LONGEST) for value in values])
        return {str(value): float(place) for place, value in enumerate(values)}
    middle = values[len(values) // 2]
    # as drawn from a range of factors, not of differences
    if values[0] > 0 and values[-1] / values[0] > MOST_FACTOR and middle < LOW_MIDDLE * values[-1]:
        getattr(panel, f"set_{which}scale")("log")
        axis.set_major_formatter("{x:g}")  # powers need math, which names must not be read as
    return {str(value): float(value) for value in values}


def _score(found: Searched) -> str:
    return f"{MEASURES[found.by]}, % (validation)"


def _entitle(figure: Figure, study: Study, found: Searched, more: str = "") -> None:
    job = study.jobs[0]
    shots = f"{job.shots} shot{'s' * (job.shots > 1)}"
    seeds = f"{len(found.seeds)} seed{'s' * (len(found.seeds) > 1)}"
    parts = [f"{found.trainer} on {found.dataset}", job.protocol, shots, seeds, more]
    figure.suptitle(", ".join(filter(None, parts)), fontsize=12)
