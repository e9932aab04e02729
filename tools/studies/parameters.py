"""What `--slurm KEY=VALUE,...` says about workers that are submitted."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dassl.utils import UserError
from trainers.errors import meant

MINUTES, SIGNAL_DELAY, TIMEOUTS = 240, 90, 100  # unless said otherwise
LATE_SECONDS = 60  # Slurm may send the signal before the end so much earlier than it was asked to
LISTS = ("setup", "teardown", "srun_args")  # one line each time
NUMBERS = {"time": 1, "signal_delay_s": 0, "max_num_timeout": 0}  # what we read as well: at least
LOCAL = ("time", "signal_delay_s", "max_num_timeout", "stderr_to_stdout")
# a worker is one process on one node; the last are Slurm's options that submitit does not name
OWNED = ("nodes", "ntasks_per_node", "num_gpus", "additional_parameters")
OTHER = "x."


@dataclass(frozen=True)
class Parameters:
    """How workers are submitted.

    Attributes:
        given: parameters of submitit's executor.
        other: options of sbatch that it does not name.
    """

    given: dict[str, Any] = field(default_factory=dict)
    other: dict[str, Any] = field(default_factory=dict)

    @property
    def minutes(self) -> int:
        """That a worker may take; then Slurm ends it."""
        return int(self.given.get("time", MINUTES))

    @property
    def signal_delay(self) -> int:
        """Seconds before that at which it is told so."""
        return int(self.given.get("signal_delay_s", SIGNAL_DELAY))

    @property
    def timeouts(self) -> int:
        """How often a worker is queued again after its time was over."""
        return int(self.given.get("max_num_timeout", TIMEOUTS))

    @property
    def seconds(self) -> float:
        """That a worker has for jobs, from its start to the signal."""
        return 60.0 * self.minutes - self.signal_delay - LATE_SECONDS


def read_parameters(texts: Sequence[str], known: Collection[str]) -> Parameters:
    """The parameters of all `--slurm`.

    A part without `=` belongs to the value before it, as in `exclude=n1,n2`. `setup`, `teardown`
    and `srun_args` take all that follows, and may come several times; `x.NAME=VALUE` is an option
    of sbatch that submitit does not name.

    Args:
        texts: `KEY=VALUE,...` each.
        known: names of submitit's parameters.

    Raises:
        UserError: saying what is wrong with which of them.
    """
    given: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for text, key, value in _pairs(texts):
        named = key.removeprefix(OTHER)
        into = other if key.startswith(OTHER) else given
        if into is given:
            _check_name(text, key, known)
        elif not re.fullmatch(r"[a-z][a-z_-]*", named):
            raise UserError(f"--slurm {text}: {key} names no option of sbatch, as x.licenses does")
        if key in LISTS:
            given.setdefault(key, []).append(value)
            continue
        if named in into:
            raise UserError(f"--slurm: {key} is given twice, {into[named]} and {value}")
        into[named] = _value(text, key, value)
    found = Parameters(given, other)
    if found.seconds <= 0:
        raise UserError(
            f"--slurm time={found.minutes}: {found.minutes} minutes leave no time for a job, as a "
            f"worker ends {found.signal_delay} s (signal_delay_s) and {LATE_SECONDS} s before it"
        )
    return found


def _pairs(texts: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Each text with its keys and values."""
    for text in texts:
        whole = text.partition("=")[0].strip() in LISTS
        # a comma begins a new pair where a key and = follow
        for piece in [text] if whole else re.split(r",(?=[^,=]*=)", text):
            key, equals, value = piece.partition("=")
            if not (equals and key.strip() and value.strip()):
                raise UserError(
                    f"--slurm {text}: {piece!r}, expected KEY=VALUE, as in partition=gpu,time=240"
                )
            yield text, key.strip(), value.strip()


def _check_name(text: str, key: str, known: Collection[str]) -> None:
    if key in OWNED:
        raise UserError(f"--slurm {text}: {key} is not to be set, a worker is one process")
    if key not in known:
        names = sorted(set(known) - set(OWNED))
        raise UserError(
            f"--slurm {text}: no parameter {key}{meant(key, names) or ';'} there are "
            f"{', '.join(names)}; other options of sbatch: {OTHER}NAME=VALUE"
        )


def _value(text: str, key: str, value: str) -> Any:
    """As a number or a yes where it is one."""
    if key in NUMBERS:
        if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < NUMBERS[key]:
            unit = " of minutes" if key == "time" else ""
            raise UserError(
                f"--slurm {text}: {key} is {value}, expected a whole number{unit} from "
                f"{NUMBERS[key]}"
            )
        return int(value)
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    return int(value) if re.fullmatch(r"0|[1-9][0-9]{0,8}", value) else value
