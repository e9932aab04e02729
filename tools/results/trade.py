"""What a method gains on base classes and pays on new ones, against zero-shot CLIP, in words."""

from collections.abc import Sequence

from tools.results.pairing import baseline_of
from tools.results.summary import AVERAGE, Cell, H, Row, Summary
from tools.results.summary_tables import not_comparable

BASELINE = "ZeroshotCLIP"
LEVEL = "stays level"


def baselines(summary: Summary, dataset: str) -> dict[Row, Row | None]:
    """Rows that have base and new on a dataset, and what each is compared with: zero-shot CLIP,
    or None where it is not there or several fit. No rows outside of base2new."""
    rows = [row for row in summary.rows if H in summary.cells[row, dataset].figures]
    found = {row: baseline_of(summary, row, BASELINE) for row in rows}
    return {row: base if base in rows else None for row, base in found.items()}


def row_name(row: Row, rows: Sequence[Row]) -> str:
    """The method, and what tells a row from others of the same method."""
    mine = [other for other in rows if other.method == row.method]
    if len(mine) == 1:
        return row.method
    if len([other for other in mine if other.config == row.config]) == 1:
        return f"{row.method} {row.config}"
    return str(row)


def trade_words(summary: Summary, dataset: str) -> str:
    """Sentences about all rows, in points to a tenth; empty if no row is complete.

    Args:
        dataset: a dataset of the summary, or AVERAGE.
    """
    against = baselines(summary, dataset)
    bases = set(against.values())
    sentences = []
    for base in dict.fromkeys(against.values()):
        rows = [row for row, its in against.items() if its == base and row not in bases]
        if rows:
            told = "; ".join(_row(summary, row, base, dataset) for row in rows)
            sentences.append(f"{_against(summary, base, dataset)}{told}.")
    if not sentences:
        return ""
    absent = [row_name(row, summary.rows) for row in summary.rows if row not in against]
    if absent:
        sentences.append(f"left out, as base or new is missing or unsound: {', '.join(absent)}.")
    sentences += [f"{note}." for note in not_comparable(summary, dataset)]
    average = f"the average over {len(summary.averaged)} datasets"
    where = average if dataset == AVERAGE else dataset
    rest = (sentence[0].upper() + sentence[1:] for sentence in sentences[1:])
    return " ".join([f"On {where}, {sentences[0]}", *rest])


def _against(summary: Summary, base: Row | None, dataset: str) -> str:
    if base is None:
        return ""
    found = summary.cells[base, dataset].figures
    figures = ", ".join(f"{measure} {found[measure].mean:.1f}" for measure in ("base", "new", H))
    return f"against {row_name(base, summary.rows)} ({figures}), "


def _row(summary: Summary, row: Row, base: Row | None, dataset: str) -> str:
    cell = summary.cells[row, dataset]
    if base is None:
        base_mean, new_mean = (cell.figures[half].mean for half in ("base", "new"))
        told = f"reaches {base_mean:.1f}% on base classes and {new_mean:.1f}% on new ones"
    else:
        before = summary.cells[base, dataset].figures
        told = _changes(*(cell.figures[m].mean - before[m].mean for m in ("base", "new")))
    h = f"H {cell.figures[H].mean:.1f}{_seeds(cell)}"
    return f"{row_name(row, summary.rows)} {told} ({h})"


def _changes(base: float, new: float) -> str:
    """Both changes; a verb and "points" are not said twice."""
    (verb, first), (other, second) = _change(base), _change(new)
    if verb == other == LEVEL:
        return f"{LEVEL} on base and new classes"
    if verb == other:
        second = second.removeprefix(f"{verb} ")
    if verb != LEVEL:
        second = second.removesuffix(" points")
    return f"{first} on base classes and {second} on new ones"


def _change(points: float) -> tuple[str, str]:
    """The verb, and all of it: "gains", "gains 9.1 points"."""
    shown = f"{abs(points):.1f}"
    if shown == "0.0":
        return LEVEL, LEVEL
    verb = "gains" if points > 0 else "loses"
    return verb, f"{verb} {shown} points"


def _seeds(cell: Cell) -> str:
    """How many seeds a mean is over, if it is one."""
    count = len(cell.figures[H].by_seed)
    if not cell.figures[H].whole:
        return ", datasets with different seeds"
    return f", {count} seeds" if count > 1 else ""
