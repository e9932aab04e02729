"""The workers of a study that were submitted: which there are, which still are, and their end.

Their ids are in `<output>/studies/<study>/workers.json`.
"""

import getpass
import json
import os
import platform
import signal
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dassl.utils import UserError
from runs.results import write_atomically
from tools.studies.file import Study
from tools.studies.state import log_folder

ENDING = ("COMPLETING", "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL")
SECONDS = 60  # that a command of Slurm may take


@dataclass(frozen=True)
class Submitted:
    """A worker.

    Attributes:
        on: "slurm" or "local".
        id: of its job, as Slurm names it, or its process.
        host: of the process.
    """

    on: str
    id: str
    host: str = ""


def folder(study: Study) -> Path:
    """Where submitit writes what it needs, and the output of the workers."""
    return log_folder(study) / "workers"


def ids_path(study: Study) -> Path:
    """The file of their ids."""
    return log_folder(study) / "workers.json"


def remember(study: Study, workers: Iterable[Submitted]) -> None:
    """Write which workers there are."""
    content = {"workers": [asdict(worker) for worker in workers]}
    write_atomically(ids_path(study), json.dumps(content, indent=1) + "\n")


def remembered(study: Study) -> list[Submitted]:
    """All workers that are known.

    Raises:
        UserError: the file is damaged.
    """
    path = ids_path(study)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["workers"]
        workers = [Submitted(**worker) for worker in found]
        if not all(isinstance(v, str) for worker in workers for v in asdict(worker).values()):
            raise TypeError("an id is no text")
        return workers
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}): move it away, and see squeue for the workers"
        ) from error


def active(study: Study) -> list[Submitted]:
    """Those that are queued or running, but processes of other machines."""
    known = remembered(study)
    on_slurm = [worker for worker in known if worker.on == "slurm"]
    queued = _queued() if on_slurm else set()
    here = [worker for worker in known if worker.on == "local" and _runs(study, worker)]
    return [*(worker for worker in on_slurm if worker.id in queued), *here]


def elsewhere(study: Study) -> list[Submitted]:
    """Processes of other machines, of which nothing is known here."""
    return [w for w in remembered(study) if w.on == "local" and w.host != platform.node()]


def cancel(study: Study) -> str:
    """End all workers that are queued or running; each gives its job back.

    Returns:
        What was done.

    Raises:
        UserError: there are none.
    """
    ending, others = active(study), elsewhere(study)
    hosts = sorted({worker.host for worker in others})
    there = f"workers on {', '.join(hosts)} are cancelled there" if others else ""
    if not ending:
        raise UserError(
            f"{study.name} has no workers that are queued or running"
            + (f" here; {there}" if there else ": tools.study run --on submits some")
        )
    if on_slurm := [worker.id for worker in ending if worker.on == "slurm"]:
        _slurm("scancel", *on_slurm)
    for worker in ending:
        if worker.on == "local":
            with suppress(ProcessLookupError):
                os.kill(int(worker.id), signal.SIGTERM)
    count = f"{len(ending)} worker{'s' * (len(ending) > 1)}"
    names = shown([worker.id for worker in ending])
    return f"cancelled {count} of {study.name}: {names}" + (f"; {there}" if there else "")


def shown(ids: Sequence[str]) -> str:
    """Ids as a person writes them: `12_[0-3], 15`."""
    parts: dict[str, list[int]] = {}
    for one in ids:
        array, _, number = one.partition("_")
        parts.setdefault(array, []).extend([int(number)] if number.isdecimal() else [])
    return ", ".join(f"{array}_{_ranges(n)}" if n else array for array, n in parts.items())


def _ranges(numbers: list[int]) -> str:
    """`3`, `[0-2,4]`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    text = ",".join("-".join(map(str, span)) for span in spans)
    return text if len(numbers) == 1 else f"[{text}]"


def _queued() -> set[str]:
    """The ids of this user's jobs that are queued or running on Slurm."""
    user = getpass.getuser()
    lines = _slurm("squeue", "--noheader", "--array", "--format=%i %T", f"--user={user}")
    states = [line.split() for line in lines.splitlines() if line.strip()]
    return {parts[0] for parts in states if parts[-1] not in ENDING}


def _slurm(*words: str) -> str:
    """What a command of Slurm prints.

    Raises:
        UserError: it is not there, or has failed.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=True)
    except FileNotFoundError:
        raise UserError(f"workers are on Slurm, and there is no {words[0]} here") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{words[0]} has not answered for {SECONDS} seconds: try again") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"{words[0]} has failed: {error.stderr.strip()}") from None
    return done.stdout


def _runs(study: Study, worker: Submitted) -> bool:
    """Whether a process of this machine is still the worker, and not another one of its number."""
    if worker.host != platform.node() or not worker.id.isdecimal():
        return False
    try:
        words = Path(f"/proc/{worker.id}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(folder(study)) in words
