"""Run a whole study, see where it stands, and show its table.

    python -m tools.study run configs/studies/embedded_base2new.yaml
    python -m tools.study work configs/studies/embedded_base2new.yaml
    python -m tools.study status configs/studies/embedded_base2new.yaml
    python -m tools.study table configs/studies/embedded_base2new.yaml [-- options of tools.tables]
    python -m tools.study best configs/studies/embedded_search.yaml [--by H] [--write best.yaml]
    python -m tools.study run configs/studies/base2new.yaml --on slurm --workers 16 \\
        --slurm partition=gpu,time=240,gres=gpu:1
    python -m tools.study cancel configs/studies/base2new.yaml

A study is a YAML file with methods, datasets, seeds and protocols. Its jobs run one after another,
or one on each GPU, in processes that stay loaded. Started again, it skips what is done and resumes
what was cut off. `work` does jobs of it beside other commands, on all machines that see the same
output folder. `best` is for a study with a search over settings, docs/search.md. docs/protocols.md
explains the file, docs/cluster.md how to use several machines.
"""

import argparse
import math
from collections.abc import Callable, Sequence

from dassl.utils import UserError
from runs import command
from runs.config import REPOSITORY
from tools.studies.best import measure_of, searched, write
from tools.studies.best import table as best_table
from tools.studies.file import Study, read_study
from tools.studies.report import status, table, watch
from tools.studies.runner import Rules, run
from tools.studies.search_figures import write_figures
from tools.studies.slurm import follow, submit
from tools.studies.workers import cancel


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.study")
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "run": "run what is not done yet, and show the table",
        "work": "do jobs that are open, beside other commands, until none is",
        "status": "show where the study stands",
        "table": "show the results that are there",
        "best": "choose the best setting of a search on each dataset, on validation images",
        "cancel": "end the workers that were submitted (run --on)",
    }
    for name, text in texts.items():
        action = commands.add_parser(name, help=text)
        add = action.add_argument
        add("file", type=command.path, help="e.g. configs/studies/base2new.yaml")
        add("--data", type=command.path, default=REPOSITORY / "data", help="folder of the datasets")
        add("--output", type=command.path, default=REPOSITORY / "output", help="folder of all runs")
        if name in ("run", "work"):
            add("--jobs", type=int, default=0, help="jobs at a time (default: one for each GPU)")
            add("--fresh", action="store_true", help="start a process for each job")
            limit = "minutes that a job may take (default: any); one that takes longer has failed"
            add("--limit", type=float, default=math.inf, metavar="MINUTES", help=limit)
            retries = "how often a job that failed is tried again (default: 0)"
            add("--retries", type=int, default=0, help=retries)
        if name == "run":
            _add_submission(add)
        if name == "status":
            watch = "show it anew every so many seconds (default: 5) until all is done"
            add("--watch", type=float, nargs="?", const=5.0, metavar="SECONDS", help=watch)
        if name == "best":
            usual = "what is compared (default: H, or accuracy where there is no H)"
            add("--by", metavar="MEASURE", help=f"H, base, new or accuracy: {usual}")
            add("--method", metavar="NAME", help="of the search (default: each)")
            add("--write", type=command.path, metavar="FILE",
                help="write the best settings as a table that PER_DATASET reads")  # fmt: skip
            add("--plots", type=command.path, metavar="FOLDER",
                help="draw a curve over one knob, or a map of each two")  # fmt: skip
    return parser


def _add_submission(add: Callable[..., object]) -> None:
    """Options of `run` for workers that are submitted."""
    on = "submit workers through submitit, to Slurm, or to processes of this machine that stay"
    add("--on", choices=("slurm", "local"), help=on)
    add("--workers", type=command.count, metavar="N", help="with --on: how many (default: 1)")
    parameters = "with --on: of submitit, e.g. partition=gpu,time=240,gres=gpu:1 (time in minutes)"
    add("--slurm", action="append", default=[], metavar="KEY=VALUE,...", help=parameters)
    add("--follow", action="store_true", help="with --on: wait for the end, and show the table")


def _refuse_without_on(args: argparse.Namespace) -> None:
    for flag in ("workers", "slurm", "follow"):
        if getattr(args, flag):
            raise UserError(f"--{flag} is for workers that are submitted, with --on slurm")


def _submit(study: Study, args: argparse.Namespace, rules: Rules) -> None:
    """Run a study by workers that are submitted."""
    if submit(study, args.on, args.workers or 1, args.slurm, args.jobs, rules) and args.follow:
        follow(study)


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    Raises:
        SystemExit: code 1 after a message on stderr, also if a job failed; 130 after Ctrl-C.
    """
    words, options = command.parted(argv)
    args = build_parser().parse_args(words)
    if options and args.command != "table":
        raise UserError(f"{args.command} has no {' '.join(options)}: settings are in the file")
    if args.command == "run" and not args.on:
        _refuse_without_on(args)
    runs = args.command in ("run", "work")
    if runs:  # the others are about what is printed, for programs as well
        command.load_torch()
    study = read_study(args.file, args.data, args.output)
    if runs:
        for flag, sound in (("jobs", args.jobs >= 0), ("retries", args.retries >= 0)):
            if not sound:
                least = 1 if flag == "jobs" else 0
                raise UserError(f"--{flag} is {getattr(args, flag)}, expected at least {least}")
        if not args.limit > 0:
            raise UserError(f"--limit is {args.limit:g}, expected minutes above 0")
        rules = Rules(args.fresh, args.limit, args.retries, args.command == "work")
        if getattr(args, "on", None):
            _submit(study, args, rules)
        else:
            run(study, args.jobs, rules)
    elif args.command == "cancel":
        print(cancel(study))
    elif args.command == "table":
        table(study, options)
    elif args.command == "best":
        best(study, args)
    elif args.watch is None:
        print(status(study))
    else:
        watch(study, args.watch)


def best(study: Study, args: argparse.Namespace) -> None:
    """Print the best settings of a search, and write and draw what is asked for."""
    found = searched(study, measure_of(study, args.by), args.method)
    print(best_table(study, found))
    if args.write:
        write(study, found, args.write)
        print(args.write)
    if args.plots:
        print(*write_figures(study, found, args.plots), sep="\n")


if __name__ == "__main__":
    command.run(main, resumes=True)
