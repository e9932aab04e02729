"""Tables of other figures than accuracy: of each test, and of base and new images together."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dassl.utils import UserError
from runs.metrics import METRICS
from runs.openworld import FIGURES, read_openworld
from runs.predictions import MAKE, read_predictions
from tools.results.predictions import figure
from tools.results.summary import ACCURACY, Figure, H, Row, Summary, summarise
from tools.results.summary_tables import (
    SPREAD,
    left_out_note,
    missing_notes,
    seeds_told,
    shown_datasets,
    title,
)
from tools.results.table_format import Item, Table, csv_text

COLUMNS = {ACCURACY: "accuracy", "macro_f1": "macro F1", **METRICS}
TOGETHER = {f"openworld {key}": name for key, name in FIGURES.items()}
NEW = "new"  # results of new classes stand for both halves
NOTES = (
    "top-5: the class is among the five likeliest. class mean: mean of the accuracies of all "
    "classes. macro F1: mean of their F1. ECE: calibration error, 15 bins. In percent.",
    "NLL: mean of minus the logarithm of the probability of the right class.",
)
TOGETHER_NOTES = (
    "base of all, new of all: accuracy of base and of new images among the names of all classes.",
    "AUROC: base against new images by the largest probability among the base classes. "
    "OpenworldAUC: pairs of base and new images that the largest probability of a base class among "
    "all tells apart, both right in their half.",
)
CSV_COLUMNS = (
    *("protocol", "source", "dataset", "method", "config", "shots", "tested", "metric"),
    *("mean", "spread", "seeds", "problem"),
)


@dataclass(frozen=True)
class Metrics:
    """One summary of accuracies, and the same of each other figure.

    Attributes:
        by_key: by the keys of `COLUMNS` and `TOGETHER`.
    """

    summary: Summary
    by_key: Mapping[str, Summary]

    def at(self, key: str, row: Row, dataset: str, measure: str) -> Figure | None:
        """A figure over seeds; None where a test does not tell it."""
        return self.by_key[key].cells[row, dataset].figures.get(measure)


def metric_summaries(
    results: Iterable[Mapping[str, Any]], order: Sequence[str], complete: bool
) -> list[Metrics]:
    """Summaries of all figures of the results of `find_results`; see `summarise`."""
    told = _with_all(list(results))
    keys = (*COLUMNS, *TOGETHER)
    by_key = {key: summarise(told, order, complete, key) for key in keys}
    summaries = by_key[ACCURACY]
    return [
        Metrics(summary, {key: found[at] for key, found in by_key.items()})
        for at, summary in enumerate(summaries)
    ]


def _with_all(results: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Results with the figures that stand beside them.

    Those of older results are in their predictions, those of base and new images in a file of the
    run, and come with the results of new classes. What is of other results does not count.
    """
    base = {found["run"]: found for found in results if found["classes"] == "base"}
    told = []
    for found in results:
        more: dict[str, Any] = {}
        run = found["run"]
        if not found.keys() >= METRICS.keys():
            with suppress(UserError):  # the table says what is missing
                more |= read_predictions(run / found["classes"], found).metrics()
        if found["classes"] == NEW and run in base:
            together = read_openworld(run, base[run], found) or {}
            more |= {f"openworld {key}": together.get(key) for key in FIGURES}
        told.append({**more, **found})
    return told


def metric_tables(found: Iterable[Metrics]) -> list[Table]:
    """Two tables for each dataset: figures of each test, and of base and new images together."""
    tables = []
    for metrics in found:
        summary = metrics.summary
        mine = []
        for dataset in shown_datasets(summary):
            rows = [row for row in summary.rows if summary.shown(row, dataset)]
            if rows:
                mine += [_each(metrics, dataset, rows), *_together(metrics, dataset, rows)]
        mine[-1].notes = _notes(metrics)
        tables += mine
    return tables


def _each(metrics: Metrics, dataset: str, rows: Sequence[Row]) -> Table:
    """A row for each method and what was tested, a column for each figure."""
    measures = _tested(metrics.summary)
    lines: list[Sequence[Item]] = []
    for row in rows:
        for measure in measures:
            tested = [measure] * (len(measures) > 1)
            shown = [_shown(key, metrics.at(key, row, dataset, measure)) for key in COLUMNS]
            lines.append([*_names(metrics.summary, row, dataset), *tested, *shown])
    headers = [*_HEADERS, *["tested"] * (len(measures) > 1), *COLUMNS.values()]
    return Table(title(metrics.summary, dataset), headers, lines, labels=2)


def _together(metrics: Metrics, dataset: str, rows: Sequence[Row]) -> list[Table]:
    """What base2new tells of base and new images together; nothing without any figure."""
    lines: list[Sequence[Item]] = []
    for row in rows:
        shown = [_shown(key, metrics.at(key, row, dataset, NEW)) for key in TOGETHER]
        lines.append([*_names(metrics.summary, row, dataset), *shown])
    if not any(line[-1] for line in lines):
        return []
    name = f"{title(metrics.summary, dataset)}: base and new together"
    return [Table(name, [*_HEADERS, *TOGETHER.values()], lines, labels=2)]


_HEADERS = ("method", "config", "shots", "seeds")


def _tested(summary: Summary) -> list[str]:
    """The class subsets that are tested."""
    return [measure for measure in summary.measures if measure != H]


def _names(summary: Summary, row: Row, dataset: str) -> list[Item]:
    return [row.method, row.config, row.shots, seeds_told(summary, row, dataset)]


def _shown(key: str, found: Figure | None) -> Item:
    return figure(key, found.mean, found.spread) if found else None


def _notes(metrics: Metrics) -> list[str]:
    """What the figures are, and what is missing."""
    summary = metrics.summary
    together = NEW in summary.measures
    lines = [*NOTES, *(TOGETHER_NOTES if together else ()), SPREAD]
    for row in summary.rows:
        lacks = []
        for dataset in summary.datasets:
            known = summary.cells[row, dataset].figures
            names = {
                _NAMES[key]: None
                for key, measure in _all_keys(summary)
                if measure in known and metrics.at(key, row, dataset, measure) is None
            }
            lacks += [f"{dataset} ({', '.join(names)})"] * bool(names)
        if lacks:
            lines.append(f"not told for {row}: {', '.join(lacks)}; {MAKE} DIR computes them")
    return [*lines, *missing_notes(summary, summary.rows), *left_out_note(summary, summary.rows)]


_NAMES = {**COLUMNS, **TOGETHER}


def _all_keys(summary: Summary) -> list[tuple[str, str]]:
    """Each figure with what it is told of: a class subset, or both halves."""
    found = [(key, measure) for measure in _tested(summary) for key in COLUMNS]
    return found + [(key, NEW) for key in TOGETHER if NEW in summary.measures]


def metric_csv(found: Iterable[Metrics]) -> str:
    """The same as CSV: a line for each figure, in full precision; missing is empty."""
    lines: list[list[object]] = []
    for metrics in found:
        summary = metrics.summary
        for dataset in shown_datasets(summary):
            for row in (row for row in summary.rows if summary.shown(row, dataset)):
                cell = summary.cells[row, dataset]
                names = [summary.protocol, summary.source, dataset]
                names += [row.method, row.config, str(row.shots)]
                for key, measure in _all_keys(summary):
                    one = metrics.at(key, row, dataset, measure)
                    tested = "base and new" if key in TOGETHER else measure
                    values = (one.mean, one.spread) if one else (None, None)
                    problem = "" if one else _problem(metrics, key, row, dataset)
                    line = [*names, tested, key.removeprefix("openworld "), *values]
                    lines.append([*line, len(cell.seeds), problem])
    return csv_text(CSV_COLUMNS, lines)


def _problem(metrics: Metrics, key: str, row: Row, dataset: str) -> str:
    """Why a figure is not there."""
    cell = metrics.summary.cells[row, dataset]
    if not cell.seeds:
        return "no run"
    return "; ".join(cell.problems) or f"{_NAMES[key]} is not told by all tests"
