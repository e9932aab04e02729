"""What all runs of a protocol show together: tables, differences, pictures and single runs."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from dassl.utils import UserError
from tools.reporting.blocks import Block, Folded, Grid, Lack, Notes, Picture, Words, command
from tools.reporting.inline import picture
from tools.results.curves import KNOBS, Curve, Knob, curves
from tools.results.figures import curve_figure, gain_figure
from tools.results.metric_tables import Metrics, metric_tables
from tools.results.pairing import baseline_of
from tools.results.pairing_tables import paired_tables
from tools.results.published import choose
from tools.results.run_tables import run_tables
from tools.results.summary import AVERAGE, H, Row, Summary
from tools.results.summary_tables import shown_datasets, summary_tables, title
from tools.results.table_format import Table
from tools.results.trade import trade_words
from tools.results.trade_figure import trade_figure

MOST_OPEN = 2  # tables before the others are folded
MOST_POINTS = 12  # rows of one picture; of more, variants are left out
MOST_PICTURES = 48  # of one protocol
MOST_NOTES = 3  # on single rows; more are folded
MOST_RUNS = 1000  # rows of the table of single runs
_MISSING = ("missing for ", "not told for ", "not compared: ")  # how notes on single rows begin


def tables_blocks(summary: Summary) -> list[Block]:
    """Means and spreads, the papers' rows beside ours."""
    return _tables(summary_tables(summary, choose(summary, ())), summary)


def _tables(tables: Sequence[Table], summary: Summary) -> list[Block]:
    """The average first; tables of many datasets are folded. Notes come last."""
    ordered = sorted(tables, key=lambda table: ", average over " not in table.title)
    first, rest = ordered[:MOST_OPEN], ordered[MOST_OPEN:]
    blocks: list[Block] = [Grid(table) for table in first]
    if rest:
        blocks.append(Folded(f"{len(rest)} more tables", [Grid(table) for table in rest]))
    lines = [note.replace("+-", "±") for table in tables for note in table.notes]
    starts = (*_MISSING, *(f"{row}{sign}" for row in summary.rows for sign in (",", ":")))
    missing = [line for line in lines if line.startswith(starts)]
    if len(missing) <= MOST_NOTES:
        return [*blocks, Notes(lines)]
    return [*blocks, Notes([line for line in lines if line not in missing], missing)]


def paired_blocks(summary: Summary, baseline: str) -> list[Block]:
    """Differences from the baseline, seed by seed, or why there are none."""
    try:
        return _tables(paired_tables([summary], baseline), summary)
    except UserError as error:
        return [Lack(f"No differences: {error}.")]


def metric_blocks(metrics: Metrics) -> list[Block]:
    """Other figures than accuracy."""
    return _tables(metric_tables([metrics]), metrics.summary)


def runs_blocks(summary: Summary, folders: Sequence[Path]) -> list[Block]:
    """A row for each run."""
    blocks: list[Block] = []
    for table in run_tables([test.found for test in summary.tests]):
        hidden = len(table.rows) - MOST_RUNS
        table.rows, table.title = table.rows[:MOST_RUNS], "Single runs"
        blocks.append(Grid(table))
        if hidden > 0:
            more = command("tools.tables", *folders, "--runs")
            blocks.append(Lack(f"{hidden} more runs are not shown.", more))
    return blocks


def plain(rows: Sequence[Row]) -> list[Row]:
    """Rows that are no variant of another, as CoOp embedded-lr is one of CoOp embedded."""
    return [
        row
        for row in rows
        if not any(
            (other.method, other.shots) == (row.method, row.shots)
            and row.config.startswith(f"{other.config}-")
            for other in rows
        )
    ]


def pictures_blocks(summary: Summary, baseline: str, folders: Sequence[Path]) -> list[Block]:
    """New over base, curves over knobs, and gains; those of most datasets are folded."""
    few = summary.of(plain(summary.rows)) if len(summary.rows) > MOST_POINTS else summary
    names = shown_datasets(summary)
    names = [AVERAGE] * (AVERAGE in names) + [name for name in names if name != AVERAGE]
    made = list(islice(_drawn(summary, few, names, baseline), MOST_PICTURES + 1))
    shown = [one() for name, one in made[:MOST_PICTURES] if name == names[0]]
    rest = [one() for name, one in made[:MOST_PICTURES] if name != names[0]]
    blocks: list[Block] = [block for blocks in shown for block in blocks]
    if rest:
        inner = [block for blocks in rest for block in blocks]
        blocks.append(Folded("Pictures of single datasets", inner))
    if len(made) > MOST_PICTURES:
        blocks.append(Lack("More pictures are not shown.", command("tools.plots", *folders)))
    return blocks or [_no_pictures(summary)]


def _no_pictures(summary: Summary) -> Lack:
    knobs = ", ".join(knob.label for knob in KNOBS)
    both = "new over base needs both accuracies; " * (H in summary.measures)
    return Lack(
        f"No pictures: {both}a curve needs two values of one of: {knobs}, all else equal; gains "
        "need a method beside the baseline on two datasets."
    )


Drawn = tuple[str, Callable[[], list[Block]]]


def _drawn(summary: Summary, few: Summary, names: Sequence[str], baseline: str) -> Iterator[Drawn]:
    """Pictures of the first name, gains, those of other names; each is drawn when asked for."""
    yield from _drawn_of(summary, few, names[:1])
    for row in few.rows:
        base = baseline_of(summary, row, baseline)
        if base and len(summary.datasets) > 1:
            yield names[0], partial(_gains, summary, row, base)
    yield from _drawn_of(summary, few, names[1:])


def _drawn_of(summary: Summary, few: Summary, names: Sequence[str]) -> Iterator[Drawn]:
    for name in names:
        if trade_words(few, name):
            yield name, partial(_trade, summary, few, name)
        for knob in KNOBS:
            if found := curves(summary, knob, name):
                yield name, partial(_curves, found, summary, knob, name)


def _curves(found: Sequence[Curve], summary: Summary, knob: Knob, name: str) -> list[Block]:
    caption = f"{title(summary, name)}: accuracy over {knob.label}."
    return [picture(curve_figure(found, summary, knob, name), caption)]


def _gains(summary: Summary, row: Row, base: Row) -> list[Block]:
    caption = f"Gain of {row} over {base} on each dataset, in percentage points."
    return [picture(gain_figure(summary, row, base), caption)]


def _trade(summary: Summary, few: Summary, name: str) -> list[Block]:
    drawn: Picture = picture(
        trade_figure(few, name),
        f"{title(summary, name)}: accuracy on new over base classes; lines of equal H.",
    )
    blocks: list[Block] = [Words(trade_words(few, name)), drawn]
    hidden = len(summary.rows) - len(few.rows)
    if hidden:
        told = f"{hidden} rows that are variants of these are in the tables and curves only."
        blocks.append(Words(told))
    return blocks
