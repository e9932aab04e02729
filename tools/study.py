"""Run a whole study, see where it stands, and show its table.

    python -m tools.study run configs/studies/embedded_base2new.yaml
    python -m tools.study work configs/studies/embedded_base2new.yaml
    python -m tools.study status configs/studies/embedded_base2new.yaml
    python -m tools.study table configs/studies/embedded_base2new.yaml [-- options of tools.tables]

A study is a YAML file with methods, datasets, seeds and protocols. Its jobs run one after another,
or one on each GPU, in processes that stay loaded. Started again, it skips what is done and resumes
what was cut off. `work` does jobs of it beside other commands, on all machines that see the same
output folder. docs/protocols.md explains the file, docs/cluster.md how to use several machines.
"""

import argparse
import math
from collections.abc import Sequence

from dassl.utils import UserError
from runs import command
from runs.config import REPOSITORY
from tools.studies.file import read_study
from tools.studies.report import status, table, watch
from tools.studies.runner import Rules, run


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.study")
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "run": "run what is not done yet, and show the table",
        "work": "do jobs that are open, beside other commands, until none is",
        "status": "show where the study stands",
        "table": "show the results that are there",
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
        if name == "status":
            watch = "show it anew every so many seconds (default: 5) until all is done"
            add("--watch", type=float, nargs="?", const=5.0, metavar="SECONDS", help=watch)
    return parser


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
        run(study, args.jobs, rules)
    elif args.command == "table":
        table(study, options)
    elif args.watch is None:
        print(status(study))
    else:
        watch(study, args.watch)


if __name__ == "__main__":
    command.run(main, resumes=True)
