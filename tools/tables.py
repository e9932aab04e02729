"""Tables of results, from results.json only: means over seeds, or a row for each run.

python -m tools.tables output/base2new/shapes
python -m tools.tables output --format markdown --out results.md
python -m tools.tables output/base2new/shapes --runs
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dassl.utils import UserError
from runs import command
from runs.results import collect, write_atomically
from tools.results.published import check_wanted, choose, paper_order
from tools.results.summary import TRANSFER, Test, harmonic_mean, read_tests, summarise
from tools.results.summary_tables import summary_csv, summary_tables
from tools.results.table_format import MISSING, Item, Percent, Table

FORMATS = ("text", "markdown", "csv", "latex")
RUN_COLUMNS = (
    *("protocol", "source", "dataset", "method", "config", "shots", "seed", "classes"),
    *("accuracy", "macro_f1", "correct", "total", "epoch", "seconds", "config_hash", "folder"),
)


def base2new_table(results: Iterable[Mapping[str, Any]]) -> str:
    """Base, new, H and time of each run, a row for each folder.

    A test that is missing shows as "-"; it is never left out of a mean silently.
    """
    return _base2new_runs(read_tests(results)).show("text")


def run_table(results: Iterable[Mapping[str, Any]]) -> str:
    """What a script prints after a run of any protocol: a row for each folder of results."""
    return "\n\n".join(table.show("text") for table in run_tables(results))


def run_tables(results: Iterable[Mapping[str, Any]]) -> list[Table]:
    """A table of single runs for each protocol; with titles if there are several."""
    groups: dict[str, list[Test]] = defaultdict(list)
    for test in read_tests(results):
        groups[test.protocol].append(test)
    tables = []
    for protocol, tests in sorted(groups.items()):
        table = _base2new_runs(tests) if protocol == "base2new" else _other_runs(protocol, tests)
        table.title = protocol if len(groups) > 1 else ""
        tables.append(table)
    return tables


def _base2new_runs(tests: Iterable[Test]) -> Table:
    folders: dict[Path, dict[str, Test]] = defaultdict(dict)
    for test in tests:
        folders[test.folder][test.classes] = test
    rows: list[Sequence[Item]] = []
    for found in folders.values():
        one = next(iter(found.values()))
        base, new = (found[half].accuracy if half in found else None for half in ("base", "new"))
        h = None if base is None or new is None else harmonic_mean(base, new)
        numbers = [None if value is None else Percent(value) for value in (base, new, h)]
        row = one.row
        names: list[Item] = [one.dataset, row.method, row.config, row.shots, one.seed]
        rows.append([*names, *numbers, _time(found.values())])
    headers = ["dataset", "method", "config", "shots", "seed", "base", "new", "H", "time"]
    return Table("", headers, rows, labels=3)


def _other_runs(protocol: str, tests: Iterable[Test]) -> Table:
    transfer = protocol in TRANSFER
    rows: list[Sequence[Item]] = []
    for test in tests:
        row = test.row
        names: list[Item] = [test.dataset, row.method, row.config, row.shots, test.seed]
        source: list[Item] = [test.source] if transfer else []
        rows.append([*source, *names, Percent(test.accuracy), _time([test])])
    headers = ["dataset", "method", "config", "shots", "seed", "accuracy", "time"]
    headers = ["trained on", "tested on", *headers[1:]] if transfer else headers
    return Table("", headers, rows, labels=3 + transfer)


def _time(tests: Iterable[Test]) -> str:
    seconds = [test.found.get("seconds", {}).get("total") for test in tests]
    return f"{sum(seconds):.0f} s" if None not in seconds else MISSING


def runs_csv(results: Iterable[Mapping[str, Any]]) -> str:
    """All tests as CSV, in full precision; missing is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(RUN_COLUMNS)
    for test in read_tests(results):
        row, found = test.row, test.found
        names = [test.protocol, test.source, test.dataset, row.method, row.config, row.shots]
        numbers = [found.get(key) for key in ("accuracy", "macro_f1", "correct", "total", "epoch")]
        seconds = found.get("seconds", {}).get("total")
        rest = [seconds, found.get("config_hash"), test.folder]
        writer.writerow([*names, test.seed, test.classes, *numbers, *rest])
    return out.getvalue()


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.tables")
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="e.g. output/base2new/shapes")
    add("--format", choices=FORMATS, default="text")
    add("--runs", action="store_true", help="a row for each run, no means")
    add("--published", nargs="*", metavar="METHOD",
        help="rows of the papers beside ours: keys of configs/published.yaml, or names of trainers "
        "(none: the usual rows)")  # fmt: skip
    add("--out", type=Path, metavar="FILE", help="write the tables to this file")
    return parser


def make(args: argparse.Namespace) -> str:
    """The tables that the arguments ask for.

    Raises:
        UserError: no results, damaged results, or arguments that do not fit.
    """
    if args.runs and args.published is not None:
        raise UserError("--published compares means over seeds: leave --runs out")
    results = collect(args.folders)
    if args.runs:
        if args.format == "csv":
            return runs_csv(results)
        return _show(run_tables(results), args.format)
    summaries = summarise(results, paper_order())
    if args.published:
        check_wanted(args.published, [summary.protocol for summary in summaries])
    wanted = args.published
    pairs = [(one, None if wanted is None else choose(one, wanted)) for one in summaries]
    if args.format == "csv":
        return summary_csv(pairs)
    tables = [table for pair in pairs for table in summary_tables(*pair)]
    return _show(tables, args.format)


def _show(tables: Iterable[Table], style: str) -> str:
    return "\n\n".join(table.show(style) for table in tables) + "\n"


def _write(path: Path, text: str) -> None:
    """Write the tables to a file, complete or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_atomically(path, text)
    except UserError as error:  # its advice is for runs, which have no --out
        reason = getattr(error.__cause__, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}; choose another file for --out") from error


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables of folders of runs, or write them to a file.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    text = make(args)
    if args.out:
        _write(args.out, text)
    else:
        print(text, end="")


if __name__ == "__main__":
    command.run(main)
