"""The picture of new over base accuracy: a point for each row, and lines of equal H."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from tools.results.style import COLOURS, GREY, HOLLOW, MARKERS
from tools.results.summary import Figure as Accuracy
from tools.results.summary import Summary, harmonic_mean
from tools.results.summary_tables import title
from tools.results.trade import baselines, row_name

if TYPE_CHECKING:  # matplotlib takes a second to import, and not every call needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

LEAST_SPAN = 4.0  # percentage points: on less, a few images look like much
ROOM = 1.3  # of the span of the points, for their names
STEPS = (0.5, 1, 2, 5, 10, 20)  # between lines of equal H
MOST_LINES = 8
# where a name may stand, seen from its point; and how far off, in points of type: from the second
# distance on, a thin line leads to it
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7))
DISTANCES = (8, 22, 36, 50)
ALIGN_X = {1: "left", 0: "center", -1: "right"}  # by the sign of a side
ALIGN_Y = {1: "bottom", 0: "center", -1: "top"}


def trade_figure(summary: Summary, dataset: str) -> Figure:
    """Accuracy on new over base classes; bars are the spread over seeds.

    Args:
        dataset: a dataset of the summary, or AVERAGE, on which a row has both.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.6), layout="constrained")
    panel = figure.subplots()
    against = baselines(summary, dataset)
    cells = {row: summary.cells[row, dataset].figures for row in against}
    _set_limits(panel, list(cells.values()))
    for base in {base for base in against.values() if base}:
        # right of it has gained on base classes, below it has lost on new ones
        panel.axvline(cells[base]["base"].mean, color=GREY, linewidth=0.8, linestyle=":")
        panel.axhline(cells[base]["new"].mean, color=GREY, linewidth=0.8, linestyle=":")
    _draw_lines_of_h(panel)
    partial = [row for row in cells if not summary.whole(row, dataset)]
    names = [
        _draw_point(panel, cells[row], row_name(row, summary.rows), at, row in partial)
        for at, row in enumerate(cells)
    ]
    several = any(found[half].spread for found in cells.values() for half in ("base", "new"))
    panel.set_xlabel("accuracy on base classes, %" + (" (bars: sd over seeds)" if several else ""))
    panel.set_ylabel("accuracy on new classes, %")
    figure.suptitle(title(summary, dataset) + HOLLOW * bool(partial), fontsize=12)
    _place(figure, panel, names)
    return figure


def _set_limits(panel: Axes, cells: Sequence[Mapping[str, Accuracy]]) -> None:
    """A square with all points and bars, as many percentage points wide as high."""
    from matplotlib.ticker import MaxNLocator

    ends = []
    for half in ("base", "new"):
        found = [(cell[half].mean, cell[half].spread or 0.0) for cell in cells]
        ends.append((min(mean - sd for mean, sd in found), max(mean + sd for mean, sd in found)))
    span = min(ROOM * max(LEAST_SPAN, *(high - low for low, high in ends)), 100.0)
    starts = [min(max((low + high - span) / 2, 0.0), 100.0 - span) for low, high in ends]
    panel.set_xlim(starts[0], starts[0] + span)
    panel.set_ylim(starts[1], starts[1] + span)
    panel.set_aspect("equal")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))


def _draw_lines_of_h(panel: Axes) -> None:
    """Draw the lines of equal H that cross the square, each with its H at its lower end."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    least, most = harmonic_mean(left, bottom), harmonic_mean(right, top)
    step = next((step for step in STEPS if (most - least) / step <= MOST_LINES), STEPS[-1])
    for h in np.arange(ceil(least / step) * step, most, step):
        base = np.linspace(left, right, 400)
        base = base[base > h / 2]  # no new accuracy is enough for this H left of it
        new = h * base / (2 * base - h)
        seen = (new > bottom) & (new < top)
        base, new = base[seen], new[seen]
        if len(base) < 40:  # cuts off a corner only
            continue
        panel.plot(base, new, color="#C8C8C8", linewidth=1, zorder=0)
        at = len(base) - 14
        label = panel.text(
            base[at], new[at], f"H {h:g}", color="#707070", fontsize=9, ha="center", va="center"
        )
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        label.set_in_layout(False)


def _draw_point(
    panel: Axes, cell: Mapping[str, Accuracy], name: str, at: int, partial: bool
) -> Annotation:
    """Draw a row, and return its name, which has no place yet."""
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    base, new = cell["base"], cell["new"]
    colour = COLOURS[at % len(COLOURS)]
    panel.errorbar(
        base.mean, new.mean, xerr=base.spread, yerr=new.spread,
        color=colour, marker=MARKERS[(at + at // len(COLOURS)) % len(MARKERS)], markersize=7,
        markerfacecolor="white" if partial else colour, elinewidth=1.2, capsize=3, clip_on=False,
    )  # fmt: skip
    text = panel.annotate(
        name, (base.mean, new.mean), (0, 0), textcoords="offset points",
        color=[0.7 * part for part in to_rgb(colour)],  # light colours are hard to read
        arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkA": 0},
    )  # fmt: skip
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    text.set_in_layout(False)  # the square stays where places for names are looked for
    return text


def _place(figure: Figure, panel: Axes, names: Sequence[Annotation]) -> None:
    """Give each name the nearest place that is free, or the one that hides least."""
    from matplotlib.collections import LineCollection
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    frame, unit = panel.get_window_extent(), figure.dpi / 72
    points = [panel.transData.transform(name.xy) for name in names]
    taken = [Bbox([point - 5 * unit, point + 5 * unit]) for point in points]
    taken += [text.get_window_extent() for text in panel.texts if text not in names]
    bars = [bar.get_segments()[0] for bar in panel.collections if isinstance(bar, LineCollection)]
    taken += [Bbox(panel.transData.transform(bar)).padded(unit) for bar in bars]

    def hidden(box: Bbox) -> float:
        parts = filter(None, (Bbox.intersection(box, other) for other in taken))
        inside = Bbox.intersection(box, frame)
        outside = _area(box) - (_area(inside) if inside else 0.0)
        return outside + sum(map(_area, parts))

    for name, point in zip(names, points, strict=True):
        size = Text.get_window_extent(name).size  # an annotation's own counts its line, too
        places = {}
        for far, side in product(DISTANCES, SIDES):
            corner = point + far * unit * np.array(side) + (np.sign(side) - 1) / 2 * size
            places[far, side] = Bbox([corner, corner + size])
        far, side = min(places, key=lambda place: round(hidden(places[place])))
        taken.append(places[far, side])
        name.set_position((far * side[0], far * side[1]))
        name.set(ha=ALIGN_X[np.sign(side[0])], va=ALIGN_Y[np.sign(side[1])])
        if name.arrow_patch:
            name.arrow_patch.set_visible(far > DISTANCES[0])


def _area(box: Bbox) -> float:
    return box.width * box.height
