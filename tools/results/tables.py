"""Tables of results, from results.json only: means over seeds, or a row for each run.

python -m tools.tables output/base2new/shapes
python -m tools.tables output --format markdown --out results.md
python -m tools.tables output/base2new/shapes --runs
python -m tools.tables output/base2new --paired CoOp
python -m tools.tables output/base2new --metrics
"""

import argparse
from collections.abc import Iterable
from typing import Any

from dassl.utils import UserError
from runs import command
from runs.results import collect, write_atomically
from tools.results.metric_tables import metric_csv, metric_summaries, metric_tables
from tools.results.pairing import check_baseline
from tools.results.pairing_tables import paired_csv, paired_tables
from tools.results.published import check_wanted, choose, paper_order
from tools.results.run_tables import run_tables, runs_csv
from tools.results.summary import summarise
from tools.results.summary_tables import summary_csv, summary_tables
from tools.results.table_format import Table

FORMATS = ("text", "markdown", "csv", "latex")


def build_parser() -> argparse.ArgumentParser:
    """Arguments of `tools.tables`, which `tools.study table` takes as well."""
    parser = command.parser(__doc__, "tools.tables")
    add = parser.add_argument
    add("folders", nargs="+", type=command.path, metavar="DIR", help="e.g. output/base2new/shapes")
    add("--format", choices=FORMATS, default="text")
    add("--runs", action="store_true", help="a row for each run, no means")
    add("--published", nargs="*", metavar="METHOD",
        help="rows of the papers beside ours: keys of configs/published.yaml, or names of trainers "
        "(none: the usual rows)")  # fmt: skip
    add("--paired", metavar="METHOD[/CONFIG]",
        help="differences from this baseline, paired by seed, with confidence intervals"
    )  # fmt: skip
    add("--metrics", action="store_true",
        help="other figures than accuracy: top-5, calibration, likelihood, open world"
    )  # fmt: skip
    add("--complete", action="store_true",
        help="every row should be there on every dataset: show what is missing (as study tables do)"
    )  # fmt: skip
    add("--out", type=command.path, metavar="FILE", help="write the tables to this file")
    return parser


def make(args: argparse.Namespace, results: list[dict[str, Any]] | None = None) -> str:
    """The tables that the arguments ask for.

    Args:
        args: see `build_parser`.
        results: those below the folders of the arguments, where they have been read.

    Raises:
        UserError: no results, damaged results, or arguments that do not fit.
    """
    if args.runs and args.published is not None:
        raise UserError("--published compares means over seeds: leave --runs out")
    if args.paired is not None and (args.runs or args.published is not None):
        other = "--runs" if args.runs else "--published"
        raise UserError(f"--paired makes tables of its own: leave {other} out")
    if args.metrics and (args.runs or args.published is not None or args.paired is not None):
        raise UserError("--metrics makes tables of its own: leave --runs, --published and --paired")
    results = collect(args.folders) if results is None else results
    if args.runs:
        if args.format == "csv":
            return runs_csv(results)
        return _show(run_tables(results), args.format)
    if args.metrics:
        found = metric_summaries(results, paper_order(), args.complete)
        if args.format == "csv":
            return metric_csv(found)
        return _show(metric_tables(found), args.format)
    summaries = summarise(results, paper_order(), args.complete)
    if args.paired is not None:
        check_baseline(summaries, args.paired)
        if args.format == "csv":
            return paired_csv(summaries, args.paired)
        return _show(paired_tables(summaries, args.paired), args.format)
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


def deliver(args: argparse.Namespace, results: list[dict[str, Any]] | None = None) -> None:
    """Print the tables of `make`, or write them to a file, complete or not at all.

    Raises:
        UserError: as `make`, or the file cannot be written.
    """
    text = make(args, results)
    if args.out:
        write_atomically(args.out, text, other="another file for --out")
    else:
        print(text, end="")
