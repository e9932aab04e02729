"""The plots themselves: curves over a knob, bars of gains over a baseline, and new over base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from dassl.utils import UserError
from runs.results import collect
from tools.results.curves import KNOBS, Curve, Knob, curves
from tools.results.pairing import CONFIDENCE, Paired, baseline_of, check_baseline, paired
from tools.results.published import paper_order
from tools.results.style import COLOURS, HOLLOW, LINES, MARKERS, drawing, save
from tools.results.summary import ALL, AVERAGE, H, Row, Summary, summarise
from tools.results.summary_tables import head, shown_datasets, title
from tools.results.trade import trade_words
from tools.results.trade_figure import trade_figure

if TYPE_CHECKING:  # matplotlib takes a second to import, and not every call needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAIN, LOSS, MEAN = COLOURS[0], COLOURS[1], "#808080"


@dataclass(frozen=True)
class Plot:
    """The files of one picture, and what it shows in words; "" where nothing has been put so."""

    files: Sequence[Path]
    words: str = ""


def write_plots(folders: Iterable[Path], out: Path, baseline: str | None = None) -> list[Plot]:
    """Write every plot that the results below some folders allow, and return them.

    Args:
        folders: of runs.
        out: folder of the pictures.
        baseline: METHOD or METHOD/CONFIG that gains are measured against; None: CoOp, if there.

    Raises:
        UserError: no results, nothing to plot, a baseline that is not there, or no place to write.
    """
    summaries = summarise(collect(folders), paper_order())
    if baseline is None:
        baseline = "CoOp"
    else:
        check_baseline(summaries, baseline)
    with drawing():
        plots = [plot for one in summaries for plot in _plots(one, out, baseline)]
    if not plots:
        knobs = ", ".join(knob.name for knob in KNOBS)
        raise UserError(
            f"nothing to plot: a curve needs complete results with two values of one of {knobs}, "
            "all else equal; bars of gains need a method beside the baseline on two datasets; new "
            "over base needs both accuracies of base2new"
        )
    return plots


def _plots(summary: Summary, out: Path, baseline: str) -> list[Plot]:
    """Write the plots of one protocol."""
    plots = []
    for dataset in shown_datasets(summary):
        if words := trade_words(summary, dataset):
            figure = trade_figure(summary, dataset)
            files = save(figure, out, f"{_name(summary, dataset)}_new_over_base")
            plots.append(Plot(files, words))
        for knob in KNOBS:
            found = curves(summary, knob, dataset)
            if found:
                figure = curve_figure(found, summary, knob, dataset)
                files = save(figure, out, f"{_name(summary, dataset)}_{knob.name}")
                plots.append(Plot(files))
    for row in summary.rows:
        base = baseline_of(summary, row, baseline)
        if base and len(summary.datasets) > 1:
            figure = gain_figure(summary, row, base)
            versus = f"{row.method}_{row.config}_{row.shots}_over_{base.method}_{base.config}"
            plots.append(Plot(save(figure, out, f"{_name(summary, 'gain')}_{versus}")))
    return plots


def curve_figure(found: Sequence[Curve], summary: Summary, knob: Knob, dataset: str) -> Figure:
    """Curves over a knob, a panel for each measure; bars are the spread over seeds."""
    values = sorted({value for curve in found for value in curve.points})
    count = len(summary.measures)
    width = 3.4 * count + 0.8
    columns = _columns(found, width)
    lines = ceil(len(found) / columns) if len(found) > 1 else 0  # of the legend
    figure, panels = _panels(count, (width, 3.4 + 0.12 * min(lines, 1) + 0.24 * max(lines - 1, 0)))
    for panel, measure in zip(panels, summary.measures, strict=True):
        for at, curve in enumerate(found):
            _draw_curve(panel, curve, measure, values, at)
        panel.set_title(_measure(measure))
        panel.set_xlabel(knob.label)
        panel.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        panel.margins(x=0.08, y=0.12)
        panel.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        panel.set_axisbelow(True)
    several = any(
        f.spread for c in found for figures in c.points.values() for f in figures.values()
    )
    panels[0].set_ylabel("accuracy, %" + (" (bars: sd over seeds)" if several else ""))
    alone = f": {found[0].label}" if len(found) == 1 else ""
    alone += HOLLOW if any(curve.partial for curve in found) else ""
    figure.suptitle(title(summary, dataset) + alone, fontsize=12)
    if len(found) > 1:
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            loc="outside lower center", ncols=columns, frameon=False,
        )  # fmt: skip
    return figure


def _columns(found: Sequence[Curve], width: float) -> int:
    """How many names of curves stand side by side below a figure, whose width is in inches."""
    longest = 0.6 + 0.09 * max(len(curve.label) for curve in found)
    return max(1, min(len(found), int(width / longest)))


def _draw_curve(panel: Axes, curve: Curve, measure: str, values: Sequence[float], at: int) -> None:
    """One curve; values stand side by side, whatever lies between them."""
    points = {v: figures[measure] for v, figures in curve.points.items() if measure in figures}
    panel.errorbar(
        [values.index(value) for value in points],
        [point.mean for point in points.values()],
        yerr=[point.spread or 0.0 for point in points.values()],
        label=curve.label,
        color=COLOURS[at % len(COLOURS)],
        marker=MARKERS[at % len(MARKERS)],
        linestyle=LINES[at % len(LINES)],
        linewidth=1.8,
        markersize=5.5,
        elinewidth=1.2,
        capsize=3,
    )
    partial = [value for value in points if value in curve.partial]
    panel.plot(  # above the curve, without a name in the legend
        [values.index(value) for value in partial],
        [points[value].mean for value in partial],
        color=COLOURS[at % len(COLOURS)],
        marker=MARKERS[at % len(MARKERS)],
        markerfacecolor="white",
        markersize=5.5,
        linestyle="none",
        zorder=3,
    )


def gain_figure(summary: Summary, row: Row, base: Row) -> Figure:
    """Gain of a row over another on each dataset, sorted, the average below.

    Gains are means over the seeds that both have, with their confidence intervals.
    """
    datasets = shown_datasets(summary)
    count = len(summary.measures)
    # one scale for all panels: bars of the same length are gains of the same size
    figure, panels = _panels(count, (3.9 * count + 0.6, 0.34 * len(datasets) + 1.5), sharex=True)
    whole = {d: all(summary.whole(one, d) for one in (row, base)) for d in datasets}
    by_dataset = {d: paired(summary, row, base, d) for d in datasets}
    for panel, measure in zip(panels, summary.measures, strict=True):
        found = {name: gains.get(measure) for name, gains in by_dataset.items()}
        _draw_gains(panel, found, [name for name in datasets if not whole[name]])
        panel.set_title(_measure(measure))
    every = [gain for gains in by_dataset.values() for gain in gains.values()]
    panels[0].set_xlim(_room(every))
    explained = f"lines: {CONFIDENCE}% confidence interval, paired by seed"
    parts = [explained] if any(gain.interval for gain in every) else []
    parts += [] if all(whole.values()) else ["*: seeds are missing"]
    legend = f" ({'; '.join(parts)})" if parts else ""
    figure.supxlabel(f"gain in accuracy, percentage points{legend}", fontsize=11)
    versus = f"{row.method} ({row.config}) over {base.method} ({base.config})"
    figure.suptitle(f"{head(summary)}, {row.shots} shots: {versus}", fontsize=12)
    return figure


def _room(gains: Sequence[Paired]) -> tuple[float, float]:
    """Limits of an axis with room for a number beside the longest bars and intervals."""
    ends = [0.0, *(end for gain in gains for end in _ends(gain))]
    span = max(ends) - min(ends) or 1.0
    numbers = [_beside(gain) + (0.5 if gain.mean >= 0 else -0.5) * span for gain in gains] or [1.0]
    edge = 0.03 * span * any(gain.interval for gain in gains)  # the last line ends within the axis
    return min(*numbers, min(ends) - edge, 0.0), max(*numbers, max(ends) + edge, 0.0)


def _ends(gain: Paired) -> tuple[float, float]:
    """Where the interval begins and ends; without one, the bar."""
    return gain.interval or (gain.mean, gain.mean)


def _beside(gain: Paired) -> float:
    """Where the number of a gain stands: at the right of one of zero or more."""
    low, high = _ends(gain)
    return max(high, 0.0) if gain.mean >= 0 else min(low, 0.0)


def _draw_gains(panel: Axes, found: Mapping[str, Paired | None], partial: Sequence[str]) -> None:
    """Bars from the largest gain to the largest loss; what is missing is named, without a bar."""
    rest = {name: gain.mean if gain else None for name, gain in found.items() if name != AVERAGE}
    order = sorted(rest, key=lambda name: (rest[name] is None, -(rest[name] or 0.0), name))
    order += [AVERAGE] if AVERAGE in found else []
    for at, name in enumerate(order):
        gain = found[name]
        place = at + 0.4 * (name == AVERAGE)  # a gap above the average
        if gain is None:
            panel.text(0, place, " missing", va="center", color=MEAN, fontstyle="italic")
        else:
            colour = MEAN if name == AVERAGE else GAIN if gain.mean >= 0 else LOSS
            _draw_gain(panel, gain, place, colour)
    panel.axvline(0, color="black", linewidth=0.8)
    names = [f"{name} *" if name in partial else name for name in order]
    panel.set_yticks([at + 0.4 * (name == AVERAGE) for at, name in enumerate(order)], names)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.invert_yaxis()


def _draw_gain(panel: Axes, gain: Paired, place: float, colour: str) -> None:
    """A bar, its interval, and its number behind both."""
    low, high = _ends(gain)
    margins = [[gain.mean - low], [high - gain.mean]] if gain.interval else None
    panel.barh(
        place, gain.mean, height=0.7, color=colour,
        xerr=margins, capsize=3, error_kw={"elinewidth": 1.2},
    )  # fmt: skip
    right = gain.mean >= 0
    shown = f"{gain.mean:+z.2f}".replace("-", "\N{MINUS SIGN}")
    panel.annotate(
        shown, (_beside(gain), place), (4 if right else -4, 0),
        textcoords="offset points", ha="left" if right else "right", va="center", fontsize=10,
    )  # fmt: skip


def _panels(
    count: int, size: tuple[float, float], sharex: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, list(figure.subplots(1, count, sharex=sharex, squeeze=False)[0])


def _measure(measure: str) -> str:
    names = {"base": "base classes", "new": "new classes", H: "harmonic mean H", ALL: ""}
    return names[measure]


def _name(summary: Summary, what: str) -> str:
    return "_".join(filter(None, (summary.protocol, summary.source, what)))
