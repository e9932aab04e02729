"""Summaries as tables: ours, the papers' rows beside them, and the difference."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.results.agreement import other_images
from tools.results.published import PublishedRow, paper_backbone, paper_datasets
from tools.results.summary import ALL, AVERAGE, TRANSFER, Cell, H, Row, Summary
from tools.results.table_format import Item, Percent, Table, csv_text

SPREAD = "+-: sample standard deviation over the seeds; a figure without it is of one seed."
H_NOTE = "H: harmonic mean of base and new, both averaged over seeds; +-: over the H of each seed."
H_AVERAGE = "H of the average: of average base and average new, as in the papers."
TARGETS = "average: over the {count} targets, without the source {source}."
LEFT_OUT = (
    "a row that was not run on a dataset is left out there and of the average; --complete shows "
    "what is missing."
)
CSV_COLUMNS = (
    *("protocol", "source", "dataset", "method", "config", "shots", "measure"),
    *("mean", "spread", "seeds", "reference", "difference", "problem"),
)
OTHER_AVERAGE = (
    "average of the papers' rows: made from their cells for the {count} datasets here; what they "
    "print is over {known}."
)


@dataclass(frozen=True)
class Line:
    """One row of a table: ours, a paper's, or their difference.

    Attributes:
        figures: by dataset (or AVERAGE) and measure.
        seeds: how many, by dataset; empty for papers and differences.
    """

    method: str
    config: str
    shots: int
    figures: Mapping[str, Mapping[str, Percent]]
    seeds: Mapping[str, str]


def summary_tables(summary: Summary, chosen: Sequence[PublishedRow] | None = None) -> list[Table]:
    """Tables of one protocol, the notes under the last one.

    Args:
        chosen: rows of the papers, see `tools.results.published.choose`; None: they are not wanted.
    """
    lines = _lines(summary, chosen or ())
    tables = _SHAPES.get(summary.protocol, _by_dataset)(summary, lines)
    papers = [] if chosen is None else _published_notes(summary, chosen)
    tables[-1].notes = [*_notes(summary), *papers]
    return tables


def shown_datasets(summary: Summary) -> list[str]:
    """Datasets of a summary, and AVERAGE where there is more than one to average."""
    averaged = (summary.rows[0], AVERAGE) in summary.cells
    return [*summary.datasets, *([AVERAGE] if averaged else [])]


def head(summary: Summary) -> str:
    """The protocol and, where there is one, the dataset of the training."""
    return f"{summary.protocol} from {summary.source}" if summary.source else summary.protocol


def title(summary: Summary, dataset: str) -> str:
    """What stands above the figures of a dataset, or of AVERAGE."""
    average = f"average over {len(summary.averaged)} datasets"
    return f"{head(summary)}, {average if dataset == AVERAGE else dataset}"


def reference(row: Row, chosen: Sequence[PublishedRow]) -> PublishedRow | None:
    """The paper's row that ours is compared with: the first of its trainer and shots."""
    fits = (paper for paper in chosen if (paper.trainer, paper.shots) == (row.method, row.shots))
    return next(fits, None)


def difference(cell: Cell, paper: PublishedRow, dataset: str) -> dict[str, float]:
    """Our figures minus the paper's, in percentage points."""
    theirs = paper.figures.get(dataset, {})
    return {m: f.mean - theirs[m] for m, f in cell.figures.items() if m in theirs}


def _numbers(chosen: Sequence[PublishedRow]) -> dict[str, int]:
    """Number of each key, as in "paper [1]"."""
    return {key: at for at, key in enumerate(dict.fromkeys(p.key for p in chosen), start=1)}


def _lines(summary: Summary, chosen: Sequence[PublishedRow]) -> list[Line]:
    """Rows by method; those of the papers stand before ours."""
    numbers = _numbers(chosen)
    datasets = shown_datasets(summary)
    lines: list[Line] = []

    def paper_lines(papers: Iterable[PublishedRow]) -> list[Line]:
        return [
            Line(p.trainer or p.method, f"paper [{numbers[p.key]}]", p.shots, _published(p), {})
            for p in papers
        ]

    methods = list(dict.fromkeys(row.method for row in summary.rows))
    for method in methods:
        lines += paper_lines(paper for paper in chosen if paper.trainer == method)
        for row in (row for row in summary.rows if row.method == method):
            cells = {name: summary.cells[row, name] for name in datasets}
            shown = [name for name in datasets if summary.shown(row, name)]
            seeds = {name: seeds_told(summary, row, name) for name in shown}
            ours = {name: _percents(cell) for name, cell in cells.items()}
            lines.append(Line(method, row.config, row.shots, ours, seeds))
            paper = reference(row, chosen)
            if paper:
                config = f"{row.config} minus [{numbers[paper.key]}]"
                lines.append(Line(method, config, row.shots, _minus(cells, paper), {}))
    return lines + paper_lines(paper for paper in chosen if paper.trainer not in methods)


def _published(paper: PublishedRow) -> dict[str, dict[str, Percent]]:
    return {d: {m: Percent(v) for m, v in cell.items()} for d, cell in paper.figures.items()}


def _percents(cell: Cell) -> dict[str, Percent]:
    return {measure: Percent(f.mean, f.spread) for measure, f in cell.figures.items()}


def _minus(cells: Mapping[str, Cell], paper: PublishedRow) -> dict[str, dict[str, Percent]]:
    return {
        name: {m: Percent(v, signed=True) for m, v in difference(cell, paper, name).items()}
        for name, cell in cells.items()
    }


def seeds_told(summary: Summary, row: Row, dataset: str) -> str:
    """How many seeds, and of how many where some are missing."""
    seeds = summary.cells[row, dataset].seeds
    absent = summary.expected(row) - seeds
    return f"{len(seeds)}/{len(seeds | absent)}" if absent else str(len(seeds))


def _by_dataset(summary: Summary, lines: Sequence[Line]) -> list[Table]:
    """A table for each dataset: a row for each line, a column for each measure."""
    tables = []
    for dataset in shown_datasets(summary):
        rows: list[Sequence[Item]] = []
        for line in lines:
            figures = line.figures.get(dataset, {})
            if figures or dataset in line.seeds:
                shown = [figures.get(measure) for measure in summary.measures]
                seeds = line.seeds.get(dataset, "")
                rows.append([line.method, line.config, line.shots, seeds, *shown])
        headers = ["method", "config", "shots", "seeds", *map(measure_name, summary.measures)]
        if rows:  # no row may have run on all datasets
            tables.append(Table(title(summary, dataset), headers, rows, labels=2))
    return tables


def _by_shots(summary: Summary, lines: Sequence[Line]) -> list[Table]:
    """A table for each dataset: a row for each method, a column for each number of shots."""
    shots = sorted({line.shots for line in lines})
    tables = []
    for dataset in shown_datasets(summary):
        found: dict[tuple[str, str], dict[int, Line]] = {}
        for line in lines:
            if dataset in line.seeds or line.figures.get(dataset):
                found.setdefault((line.method, line.config), {})[line.shots] = line
        rows: list[Sequence[Item]] = []
        for names, by_shots in found.items():
            seeds = dict.fromkeys(line.seeds.get(dataset, "") for line in by_shots.values())
            cells = [by_shots[n].figures.get(dataset, {}) if n in by_shots else {} for n in shots]
            rows.append([*names, ", ".join(seeds), *(cell.get(ALL) for cell in cells)])
        headers = ["method", "config", "seeds", *map(_shots, shots)]
        if rows:
            tables.append(Table(title(summary, dataset), headers, rows, labels=2))
    return tables


def _one_table(summary: Summary, lines: Sequence[Line]) -> list[Table]:
    """A single table: a row for each line, a column for the source and each target."""
    datasets = shown_datasets(summary)
    rows: list[Sequence[Item]] = []
    for line in lines:
        seeds = ", ".join(dict.fromkeys(line.seeds[d] for d in summary.datasets if line.seeds))
        shown = [line.figures.get(dataset, {}).get(ALL) for dataset in datasets]
        rows.append([line.method, line.config, line.shots, seeds, *shown])
    title = f"{summary.protocol}, trained on {summary.source}"
    headers = ["method", "config", "shots", "seeds", *datasets]
    return [Table(title, headers, rows, labels=2)]


_SHAPES: dict[str, Callable[[Summary, Sequence[Line]], list[Table]]] = {
    "fewshot": _by_shots,
    **dict.fromkeys(TRANSFER, _one_table),
}


def _notes(summary: Summary) -> list[str]:
    """What the figures are, and what is missing."""
    lines = [SPREAD]
    averaged = AVERAGE in shown_datasets(summary)
    if H in summary.measures:
        lines += [H_NOTE, *([H_AVERAGE] if averaged else [])]
    if summary.source and averaged:
        lines.append(TARGETS.format(count=len(summary.averaged), source=summary.source))
    lines += missing_notes(summary, summary.rows)
    lines += left_out_note(summary, summary.rows)
    return lines + (_missing_shots(summary.rows) if summary.protocol == "fewshot" else [])


def left_out_note(summary: Summary, rows: Iterable[Row]) -> list[str]:
    """A note, if some rows have no place among those of a dataset."""
    names = shown_datasets(summary)
    hidden = any(not summary.shown(row, name) for row in rows for name in names)
    return [LEFT_OUT] * hidden


def missing_notes(summary: Summary, rows: Iterable[Row]) -> list[str]:
    """What some rows lack, and datasets on which not all rows were tested on the same images."""
    lines = []
    for row in rows:
        missing = summary.missing(row)
        if missing:
            lines.append(f"missing for {row}: {'; '.join(missing)}")
    return lines + not_comparable(summary)


def not_comparable(summary: Summary, wanted: str = AVERAGE) -> list[str]:
    """Notes on datasets on which rows were not tested on the same images.

    Args:
        wanted: a dataset of the summary, or AVERAGE for all.
    """
    lines = []
    found = {(test.dataset, test.classes) for test in summary.tests}
    for dataset, classes in sorted(one for one in found if wanted in (AVERAGE, one[0])):
        tests = [t for t in summary.tests if (t.dataset, t.classes) == (dataset, classes)]
        groups = [sorted({str(test.row) for test in group}) for group in other_images(tests)]
        if len({tuple(names) for names in groups}) > 1:  # else each row says it
            named = " / ".join(", ".join(names) for names in groups)
            lines.append(f"not to be compared on {dataset} ({classes}), other images: {named}")
    return lines


def _missing_shots(rows: Sequence[Row]) -> list[str]:
    """Numbers of shots that other methods have."""
    found: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        if row.learns:
            found.setdefault((row.method, row.config), set()).add(row.shots)
    known = set().union(*found.values())
    absent = {names: sorted(known - shots) for names, shots in found.items() if known - shots}
    return [
        f"missing for {method} {config}: {', '.join(map(_shots, shots))}"
        for (method, config), shots in absent.items()
    ]


def _shots(count: int) -> str:
    return f"{count} shot{'s' * (count > 1)}"


def _published_notes(summary: Summary, chosen: Sequence[PublishedRow]) -> list[str]:
    """Sources of the papers' rows, and where our setting is another one."""
    first = {paper.key: paper for paper in reversed(chosen)}
    notes = [f"[{at}] {first[key].describe()}" for key, at in _numbers(chosen).items()]
    unknown = [d for d in summary.datasets if not any(d in paper.figures for paper in chosen)]
    if unknown:
        notes.append(f"no published figures for {', '.join(unknown)}")
    known = paper_datasets(summary.protocol)
    averaged = AVERAGE in shown_datasets(summary) and any(AVERAGE in p.figures for p in chosen)
    if averaged and frozenset(summary.averaged) != known:
        notes.append(OTHER_AVERAGE.format(known=len(known), count=len(summary.averaged)))
    if not chosen:
        return notes
    backbone = paper_backbone()
    for row in summary.rows:
        found = {str(t.found.get("backbone", "unknown")) for t in summary.tests if t.row == row}
        ours = found - {backbone}
        if ours:
            notes.append(f"{row}: backbone {', '.join(sorted(ours))}, the papers' is {backbone}.")
        shots = {paper.shots for paper in chosen if paper.trainer == row.method}
        if shots and row.shots not in shots:
            theirs = ", ".join(map(str, sorted(shots)))
            notes.append(f"{row}: no difference is shown, the papers' rows have {theirs} shots.")
    return notes


def summary_csv(summaries: Iterable[tuple[Summary, Sequence[PublishedRow] | None]]) -> str:
    """All summaries as one CSV: a line for each figure, in full precision; missing is empty."""
    rows: list[list[object]] = []
    for summary, papers in summaries:
        chosen = papers or ()
        for dataset in shown_datasets(summary):
            for row in (row for row in summary.rows if summary.shown(row, dataset)):
                rows += _csv_ours(summary, row, dataset, reference(row, chosen))
            for paper in chosen:
                rows += (
                    [summary.protocol, summary.source, dataset, paper.method, f"paper:{paper.key}",
                     paper.shots, measure_name(measure), value, *[None] * 5]
                    for measure, value in paper.figures.get(dataset, {}).items()
                )  # fmt: skip
    return csv_text(CSV_COLUMNS, rows)


def measure_name(measure: str) -> str:
    """What a measure is called in tables."""
    return "accuracy" if measure == ALL else measure


def _csv_ours(
    summary: Summary, row: Row, dataset: str, paper: PublishedRow | None
) -> list[list[object]]:
    cell = summary.cells[row, dataset]
    differ = difference(cell, paper, dataset) if paper else {}
    lacks = "no run" if not cell.seeds else "; ".join(cell.problems)
    names = [summary.protocol, summary.source, dataset, row.method, row.config, row.shots]
    lines: list[list[object]] = []
    for measure in summary.measures:
        figure = cell.figures.get(measure)
        values = (figure.mean, figure.spread) if figure else (None, None)
        key = paper.key if paper and measure in differ else None
        against = (key, differ.get(measure))
        lines.append([*names, measure_name(measure), *values, len(cell.seeds), *against, lacks])
    return lines
