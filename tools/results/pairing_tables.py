"""Tables of differences from a baseline, paired by seed."""

from collections.abc import Iterable, Sequence

from dassl.utils import UserError
from tools.results.pairing import CONFIDENCE, Paired, baseline_of, is_baseline, paired
from tools.results.summary import AVERAGE, H, Row, Summary
from tools.results.summary_tables import (
    head,
    left_out_note,
    measure_name,
    missing_notes,
    shown_datasets,
    title,
)
from tools.results.table_format import Item, Table, csv_text

DIFFERENCE = (
    "figures: row minus baseline in percentage points, mean over the seeds that both have (each is "
    "a pair)."
)
INTERVAL = (
    f"[low, high]: {CONFIDENCE}% confidence interval of this mean, paired t over the seeds; other "
    "datasets are not in it."
)
WINS = "w/n: on w of n seeds the row is higher; a tie counts as half."
H_NOTE = "H: differences are those of the H of each seed."
AVERAGES = "average: each seed's average over the datasets is paired."
CONSTANT = "a method that learns nothing has one figure, paired with each seed of the other row."
ONE_PAIR = "a single pair, so no interval"
NO_PAIR = "no seed in common"
CSV_COLUMNS = (
    *("protocol", "source", "dataset", "method", "config", "shots", "baseline", "measure"),
    *("difference", "low", "high", "wins", "ties", "seeds", "problem"),
)

Pairs = dict[Row, Row]  # each row that is compared, and its baseline


def paired_tables(summaries: Iterable[Summary], wanted: str) -> list[Table]:
    """Differences of all rows from their baselines, a table for each dataset and baseline.

    Args:
        wanted: the baseline, see `tools.results.pairing.baseline_of`.

    Raises:
        UserError: no row has a baseline.
    """
    return [
        table
        for summary, pairs in _all_pairs(summaries, wanted)
        for table in _tables(summary, pairs, wanted)
    ]


def paired_csv(summaries: Iterable[Summary], wanted: str) -> str:
    """The same as CSV: a line for each difference, in full precision; missing is empty.

    Raises:
        UserError: no row has a baseline.
    """
    lines: list[list[object]] = []
    for summary, pairs in _all_pairs(summaries, wanted):
        for dataset in shown_datasets(summary):
            for row, base in _shown_pairs(summary, pairs, dataset).items():
                names = [summary.protocol, summary.source, dataset, row.method, row.config]
                names += [str(row.shots), f"{base.method}/{base.config}"]
                found = paired(summary, row, base, dataset)
                for measure in summary.measures:
                    problem = _problem(summary, row, base, dataset, measure)
                    values = _csv(found.get(measure))
                    lines.append([*names, measure_name(measure), *values, problem])
    return csv_text(CSV_COLUMNS, lines)


def _all_pairs(summaries: Iterable[Summary], wanted: str) -> list[tuple[Summary, Pairs]]:
    found = []
    for summary in summaries:
        bases = {row: baseline_of(summary, row, wanted) for row in summary.rows}
        found.append((summary, {row: base for row, base in bases.items() if base}))
    if not any(pairs for _, pairs in found):
        notes = [note for summary, _ in found for note in _unpaired(summary, {}, wanted)]
        reasons = "; ".join(notes) or "there is no other row"
        raise UserError(f'nothing to compare with "{wanted}": {reasons}')
    return found


def _tables(summary: Summary, pairs: Pairs, wanted: str) -> list[Table]:
    headers = ["method", "config", "shots", *map(measure_name, summary.measures)]
    tables = []
    for dataset in shown_datasets(summary):
        for base in dict.fromkeys((base.method, base.config) for base in pairs.values()):
            rows: list[Sequence[Item]] = []
            for row, other in _shown_pairs(summary, pairs, dataset).items():
                if (other.method, other.config) == base:
                    found = paired(summary, row, other, dataset)
                    shown = [_shown(found.get(measure)) for measure in summary.measures]
                    rows.append([row.method, row.config, row.shots, *shown])
            name = f"{title(summary, dataset)}: minus {' '.join(base)}"
            if rows:
                tables.append(Table(name, headers, rows, labels=2))
    if not tables:
        tables.append(Table(f"{head(summary)}: minus {wanted}", headers, [], labels=2))
    tables[-1].notes = _notes(summary, pairs, wanted)
    return tables


def _shown_pairs(summary: Summary, pairs: Pairs, dataset: str) -> Pairs:
    """The pairs of which both rows have a place among those of a dataset."""
    return {
        row: base
        for row, base in pairs.items()
        if summary.shown(row, dataset) and summary.shown(base, dataset)
    }


def _shown(found: Paired | None) -> str | None:
    """As in "-4.08 [-12.51, 4.35] 0/3"."""
    if not found:
        return None
    ends = f" [{found.interval[0]:z.2f}, {found.interval[1]:z.2f}]" if found.interval else ""
    wins = f"{found.wins + found.ties / 2:g}/{len(found.differences)}"
    return f"{found.mean:+z.2f}{ends} {wins}"


def _csv(found: Paired | None) -> list[object]:
    if not found:
        return [*[None] * 5, 0]
    low, high = found.interval or (None, None)
    return [found.mean, low, high, found.wins, found.ties, len(found.differences)]


def _problem(summary: Summary, row: Row, base: Row, dataset: str, measure: str) -> str:
    """Why a difference or its interval is not there; "" where both are."""
    found = paired(summary, row, base, dataset).get(measure)
    if found:
        return "" if found.interval else ONE_PAIR
    lacks = [one for one in (row, base) if measure not in summary.cells[one, dataset].figures]
    return f"no figure of {' and '.join(map(str, lacks))}" if lacks else NO_PAIR


def _notes(summary: Summary, pairs: Pairs, wanted: str) -> list[str]:
    """What the figures are, and what is missing."""
    shown = [row for row in summary.rows if row in pairs or row in pairs.values()]
    lines = []
    if pairs:
        lines += [DIFFERENCE, INTERVAL, WINS]
        lines += [H_NOTE] * (H in summary.measures)
        lines += [AVERAGES] * (AVERAGE in shown_datasets(summary))
        lines += [CONSTANT] * (not all(row.learns for row in shown))
    for row, base in pairs.items():
        problems = {
            dataset: {_problem(summary, row, base, dataset, m) for m in summary.measures}
            for dataset in shown_datasets(summary)
            if row in _shown_pairs(summary, pairs, dataset)
        }
        for told in (ONE_PAIR, NO_PAIR):  # a figure that lacks is listed with what is missing
            where = [dataset for dataset, found in problems.items() if told in found]
            if where:
                lines.append(f"{row}, {told}: {', '.join(where)}")
    lines += _unpaired(summary, pairs, wanted)
    return [*lines, *missing_notes(summary, shown), *left_out_note(summary, shown)]


def _unpaired(summary: Summary, pairs: Pairs, wanted: str) -> list[str]:
    """Rows that have no baseline, or not a single one."""
    lines = []
    for row in summary.rows:
        if row in pairs or is_baseline(row, wanted):
            continue
        here = [r for r in summary.rows if is_baseline(r, wanted) and r.shots == row.shots]
        several = f"name one of {', '.join(f'{r.method}/{r.config}' for r in here)}"
        lines.append(f"not compared: {row}; {several if here else f'no {wanted} with these shots'}")
    return lines
