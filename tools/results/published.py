"""Figures of the papers, from configs/published.yaml, to stand beside our own."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from dassl.utils import UserError
from runs.config import REPOSITORY
from runs.merging import read_yaml
from tools.results.summary import ALL, AVERAGE, H, Summary, harmonic_mean
from trainers.errors import meant

PATH = REPOSITORY / "configs" / "published.yaml"


@dataclass(frozen=True, eq=False)
class PublishedRow:
    """One method of one paper at one number of shots.

    Attributes:
        trainer: the trainer here that does the same, or "".
        figures: percent, by dataset (or AVERAGE) and measure; what is not published is absent.
        confidence: "read" in the source, or from "memory".
        average_confidence: the same for the average.
    """

    key: str
    method: str
    trainer: str
    shots: int
    figures: Mapping[str, Mapping[str, float]]
    confidence: str
    average_confidence: str
    source: tuple[str, ...]
    note: str

    def describe(self) -> str:
        """Which row it is, how sure its figures are, and where they come from."""
        sure = {
            ("memory", "read"): "average read, the other figures from memory",
            ("memory", "memory"): "from memory",
        }.get((self.confidence, self.average_confidence), "read in the source")
        note = f" {self.note}" if self.note else ""
        return f"{self.key}: {self.method}; {sure}; source: {'; '.join(self.source)}.{note}"


@functools.cache
def published_file() -> dict[str, Any]:
    """Content of configs/published.yaml."""
    return read_yaml(PATH)


def paper_order() -> list[str]:
    """Datasets in the order of the papers."""
    return published_file()["datasets"]


def paper_backbone() -> str:
    """Backbone of all published rows."""
    return published_file()["backbone"]


@functools.cache
def published_rows(protocol: str) -> tuple[PublishedRow, ...]:
    """All rows of a protocol; a few-shot row is one for each number of shots."""
    known = published_file()["protocols"].get(protocol, {"rows": {}})
    rows = []
    for key, entry in known["rows"].items():
        cells = dict(entry.get("datasets", {}))
        if "average" in entry:
            cells[AVERAGE] = entry["average"]
        by_shots = {entry.get("shots", known.get("shots")): cells}
        if protocol == "fewshot":
            at = sorted({shots for cell in cells.values() for shots in cell})
            by_shots = {n: {d: c[n] for d, c in cells.items() if n in c} for n in at}
        for shots, found in by_shots.items():
            figures = {d: c if isinstance(c, dict) else {ALL: c} for d, c in found.items()}
            sure = entry["confidence"]
            rows.append(
                PublishedRow(
                    key, entry["method"], entry.get("trainer", ""), shots, figures, sure,
                    entry.get("average_confidence", sure), tuple(entry["source"]),
                    entry.get("note", ""),
                )
            )  # fmt: skip
    return tuple(rows)


def paper_datasets(protocol: str) -> frozenset[str]:
    """Datasets that the papers average over."""
    source = published_file()["protocols"].get(protocol, {}).get("source")
    names = {name for row in published_rows(protocol) for name in row.figures}
    return frozenset(names - {AVERAGE, source})


def choose(summary: Summary, wanted: Sequence[str]) -> list[PublishedRow]:
    """Rows of the papers to show beside a summary; none where the papers train on another dataset.

    Where the summary has other datasets than the papers, the average of a row is made anew from
    its cells, or left out.

    Args:
        wanted: keys of rows, or names of trainers for all of their rows; none: the usual row or
            rows of each trainer of the summary.
    """
    known = published_file()["protocols"].get(summary.protocol, {})
    if known.get("source", "") != summary.source:
        return []
    rows = published_rows(summary.protocol)
    if not wanted:
        here = {row.method for row in summary.rows}
        usual = {row.key: row.trainer for row in rows}
        wanted = [key for key in known.get("beside", ()) if usual[key] in here]
    chosen = [row for name in wanted for row in rows if name in (row.key, row.trainer)]
    chosen = list(dict.fromkeys(chosen))
    if frozenset(summary.averaged) != paper_datasets(summary.protocol):
        chosen = [_average_over(row, summary.averaged) for row in chosen]
    return [row for row in chosen if row.figures.keys() & {*summary.datasets, AVERAGE}]


def _average_over(row: PublishedRow, datasets: Sequence[str]) -> PublishedRow:
    """The row with its average over these datasets, as far as it has their figures."""
    figures = {name: cell for name, cell in row.figures.items() if name != AVERAGE}
    cells = [figures.get(name, {}) for name in datasets]
    first = cells[0] if cells else {}  # none: only the source has been tested
    measures = [m for m in first if m != H and all(m in cell for cell in cells)]
    average = {measure: fmean(cell[measure] for cell in cells) for measure in measures}
    if average.keys() == {"base", "new"}:
        average[H] = harmonic_mean(average["base"], average["new"])
    return replace(row, figures={**figures, AVERAGE: average} if average else figures)


def check_wanted(wanted: Iterable[str], protocols: Iterable[str]) -> None:
    """Refuse a name that no row has.

    Raises:
        UserError: with the names that there are.
    """
    rows = [row for protocol in protocols for row in published_rows(protocol)]
    trainers = list(dict.fromkeys(row.trainer for row in rows if row.trainer))
    known = [*dict.fromkeys(row.key for row in rows), *trainers]
    for name in wanted:
        if name not in known:
            raise UserError(
                f'these protocols have no published row "{name}"{meant(name, known) or "."} '
                f"Expected a key of configs/published.yaml, or one of {', '.join(trainers)} "
                "(folders come before --published)"
            )
