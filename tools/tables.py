"""Tables of results, from results.json only: means over seeds, or a row for each run.

python -m tools.tables output/base2new/shapes
python -m tools.tables output --format markdown --out results.md
python -m tools.tables output/base2new/shapes --runs
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dassl.utils import UserError
from tools.run_folder import read_results, write_atomically
from tools.summary import (
    AVERAGE,
    Cell,
    H,
    Row,
    Summary,
    config_label,
    dataset_label,
    harmonic_mean,
    summarise,
)
from tools.table_format import MISSING, Item, Percent, Table

SPREAD = "+-: sample standard deviation over the seeds; without it, one seed."
H_NOTES = (
    "H: harmonic mean of the mean base and the mean new accuracy; its +- is that of H of each seed."
)
H_AVERAGE = "H of the average: of the average base and the average new accuracy, as in the papers."


def find_results(folder: Path) -> list[dict[str, Any]]:
    """All results below a folder, each with its run's folder as "run".

    Raises:
        UserError: there are none.
    """
    results = []
    for path in sorted(folder.rglob("results.json")):
        found = read_results(path)
        if found:
            results.append({**found, "run": path.parent.parent})
    if not results:
        raise UserError(f"no results.json below {folder}: has a run finished there?")
    return results


def base2new_table(results: Iterable[dict[str, Any]]) -> str:
    """Base, new, H and time of each run, a row for each folder.

    A test that is missing shows as "-"; it is never left out of a mean silently.
    """
    runs: dict[Path, dict[str, dict[str, Any]]] = defaultdict(dict)
    for found in results:
        runs[found["run"]][found["classes"]] = found
    rows = []
    for tests in runs.values():
        one = next(iter(tests.values()))
        base, new = (tests.get(classes, {}).get("accuracy") for classes in ("base", "new"))
        h = None if base is None or new is None else harmonic_mean(base, new)
        numbers = [MISSING if value is None else f"{value:.2f}" for value in (base, new, h)]
        seconds = sum(test["seconds"]["total"] for test in tests.values())
        names = [dataset_label(one), one["trainer"], config_label(one), one["shots"], one["seed"]]
        rows.append([*names, *numbers, f"{seconds:.0f} s"])
    headers = ["dataset", "method", "config", "shots", "seed", "base", "new", "H", "time"]
    return tabulate(rows, headers, disable_numparse=True, colalign=(*["left"] * 3, *["right"] * 6))


def summary_tables(summary: Summary) -> list[Table]:
    """Tables of one protocol: a table for each dataset and for the average."""
    tables = []
    averaged = (summary.rows[0], AVERAGE) in summary.cells
    for dataset in (*summary.datasets, *([AVERAGE] if averaged else [])):
        title = f"{summary.protocol}, {dataset}"
        if dataset == AVERAGE:
            title = f"{summary.protocol}, average over {len(summary.averaged)} datasets"
        headers = ["method", "config", "shots", "seeds", *summary.measures]
        rows: list[Sequence[Item]] = [
            [row.method, row.config, row.shots, _seeds(summary, row, summary.cells[row, dataset]),
             *_figures(summary.cells[row, dataset], summary.measures)]
            for row in summary.rows
        ]  # fmt: skip
        tables.append(Table(title, headers, rows, labels=2))
    tables[-1].notes = notes(summary)
    return tables


def notes(summary: Summary) -> list[str]:
    """What the figures are, and what is missing."""
    lines = [SPREAD]
    if H in summary.measures:
        lines.append(H_NOTES)
        if len(summary.averaged) > 1:
            lines.append(H_AVERAGE)
    for row in summary.rows:
        missing = summary.missing(row)
        if missing:
            lines.append(f"missing for {row}: {'; '.join(missing)}")
    return lines


def _seeds(summary: Summary, row: Row, cell: Cell) -> str:
    """How many seeds, and of how many where some are missing."""
    absent = summary.expected(row) - cell.seeds
    return f"{len(cell.seeds)}/{len(cell.seeds | absent)}" if absent else str(len(cell.seeds))


def _figures(cell: Cell, measures: Sequence[str]) -> list[Percent | None]:
    found = [cell.figures.get(measure) for measure in measures]
    return [None if one is None else Percent(one.mean, one.spread) for one in found]


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="e.g. output/base2new/shapes")
    add("--format", choices=("text", "markdown", "latex"), default="text")
    add("--runs", action="store_true", help="a row for each run, no means")
    add("--out", type=Path, help="write the tables to this file")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables of folders of runs.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    try:
        results = [found for folder in args.folders for found in find_results(folder)]
        if args.runs:
            text = base2new_table(results)
        else:
            tables = [table for one in summarise(results) for table in summary_tables(one)]
            text = "\n\n".join(table.show(args.format) for table in tables)
        if args.out:
            write_atomically(args.out, text + "\n")
        else:
            print(text)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
