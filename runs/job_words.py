"""Jobs as the words of `python -m tools.protocol`, and back."""

import argparse
from collections.abc import Sequence

from runs import command
from runs.config import REPOSITORY
from runs.jobs import Job
from runs.protocols import PROTOCOLS
from runs.settings import ReadFlag
from trainers.errors import brief


def words_of(job: Job) -> list[str]:
    """The words that `read_jobs` makes this job of."""
    flags = {
        **{"trainer": job.trainer, "dataset": job.dataset, "seed": job.seed, "shots": job.shots},
        **{"targets": ",".join(job.targets), "config": job.config, "tag": job.tag},
        **{"data": job.data, "output": job.output},
    }
    # a value may begin with a minus
    return [job.protocol, *(f"--{key}={value}" for key, value in flags.items()), "--", *job.opts]


def read_jobs(words: Sequence[str] | None, description: str | None = None) -> list[Job]:
    """The jobs of a command line, one for each number of shots; all are checked.

    Args:
        words: as on the command line; None takes the process' own.
        description: for --help.

    Raises:
        UserError: see `Job.check`.
        SystemExit: code 2 for unknown flags.
    """
    # behind "--" come KEY VALUE pairs, whatever they begin with
    before, behind = command.parted(words)
    args = vars(_parser(description).parse_intermixed_args(before))
    args["opts"] = (*args["opts"], *behind)
    shots = args.pop("shots") or PROTOCOLS[args["protocol"]].shots
    command.load_torch()
    jobs = [Job(**args, shots=number) for number in shots]
    for job in jobs:
        job.check()
    return jobs


def _whole_numbers(text: str) -> tuple[int, ...]:
    """ "1,2,4" as (1, 2, 4)."""
    try:
        return tuple(int(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{brief(text)}, expected a number, or some as 1,2,4"
        ) from None


def _names(text: str) -> tuple[str, ...]:
    """ "a,b" as ("a", "b")."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parser(description: str | None) -> argparse.ArgumentParser:
    parser = command.parser(description, "tools.protocol")
    add = parser.add_argument
    add("protocol", choices=sorted(PROTOCOLS))
    add("--trainer", required=True, help="name of the trainer, e.g. MoPD")
    add(
        "--dataset",
        required=True,
        help="stem of a file under configs/datasets, or folder:PATH or csv:PATH; it is trained on",
    )
    add("--seed", action=ReadFlag, const="SEED", required=True)
    shots = "training images per class, one number or some as 1,2,4 (default: 16; fewshot: "
    add("--shots", type=_whole_numbers, default=(), help=f"{shots}1,2,4,8,16)")
    targets = "datasets to test on with xd and dg, as dtd,eurosat (default: those of the protocol)"
    add("--targets", type=_names, default=(), help=targets)
    add("--config", default="", help="stem of a file under configs/trainers/<trainer>")
    add("--data", type=command.path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--output", type=command.path, default=REPOSITORY / "output", help="folder of all runs")
    add("--tag", default="", help="appended to the configuration's name in the run's folder")
    add("opts", nargs="*", default=[], help="KEY VALUE pairs, as for train.py")
    return parser
