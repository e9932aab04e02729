"""Claims: which process does a job, on whichever machine; safe where files cannot be locked.

A claim is a file `<name>.claim-<n>`, made by a link, so that one process alone has it. Its time of
change is its heart, which its process renews. A claim whose heart has stopped is dead, and whoever
makes the one with the next number takes over; who was only asleep finds that number, and stops
before it writes. Times are compared with that of a file made on the same file system, so that
clocks of machines may differ.

Claims of a job are removed when it is done; before that they tell how often it was tried.
"""

import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from dassl.utils import UserError
from dassl.utils.tools import GUARDS

BEAT = float(os.environ.get("MOPD_HEARTBEAT") or 10)  # seconds; the same for all processes
LIMIT = 9 * BEAT  # a heart that was not renewed for so long has stopped
DEATHS = 2  # of its process, after which a job is given up
# times of change that tell how a claim ended
FAILED, GIVEN_BACK, RESET = 0, 1, 2


class ClaimLost(UserError):
    """The job is another process' now."""


@dataclass(frozen=True)
class Holder:
    """Who holds a claim.

    Attributes:
        number: of the claim.
        alive: its heart beats.
        owner: host, machine, pid, started (of the process), since (time of the file system).
        quiet: seconds since its heart was renewed.
    """

    number: int
    alive: bool
    owner: dict[str, Any]
    quiet: float


@dataclass(frozen=True)
class History:
    """What the claims of a job tell, since it was last given another chance.

    Attributes:
        holder: of the last claim; None if there is none.
        failures: tries that failed.
        deaths: tries whose process died.
    """

    holder: Holder | None = None
    failures: int = 0
    deaths: int = 0

    @property
    def running(self) -> bool:
        """A process does the job now."""
        return self.holder is not None and self.holder.alive


class Claim:
    """A claim of this process.

    Args:
        base: path of the claims without `.claim-<n>`.
        number: n.
    """

    current: "Claim | None" = None  # that of the job which this process does now

    def __init__(self, base: Path, number: int):
        self.base, self.number = base, number
        self.path = _path(base, number)
        status = os.stat(self.path)
        self._file = (status.st_dev, status.st_ino)

    def lost(self) -> bool:
        """Whether another process has taken over, or done the job."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._file or _exists(self.base, self.number + 1)

    def check(self) -> None:
        """Refuse to go on with a job that is another process' now.

        Raises:
            ClaimLost: saying so.
        """
        if self.lost():
            raise ClaimLost(
                f"another process has taken this job over, as nothing was heard of this one for "
                f"{LIMIT:g} seconds: nothing more is written here"
            )

    def beat(self) -> None:
        """Renew the heart; the time is that of the file system."""
        with suppress(OSError):  # a file system that is away for a moment
            os.utime(self.path)

    def end(self, how: int) -> None:
        """Give the job free: `FAILED` or `GIVEN_BACK`."""
        if not self.lost():
            os.utime(self.path, (how, how))

    def remove(self) -> None:
        """Remove all claims of a job that is done."""
        for number in range(1, self.number + 1):
            with suppress(FileNotFoundError):
                os.unlink(_path(self.base, number))

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Let the heart beat, and let nothing be written once the claim is lost."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(BEAT):
                self.beat()

        thread = threading.Thread(target=beat, name="heart of a claim", daemon=True)
        thread.start()
        GUARDS.append(self.check)
        Claim.current = self
        try:
            yield
        finally:
            Claim.current = None
            GUARDS.remove(self.check)
            stop.set()
            thread.join()


def take(base: Path) -> Claim | None:
    """Claim a job; None if a process has it.

    Raises:
        UserError: the folder cannot be written.
    """
    found = history(base)
    if found.running:
        return None
    number = found.holder.number + 1 if found.holder else 1
    owner = {**_this_process(), "since": file_time(base.parent)}
    return Claim(base, number) if _make(base, number, owner) else None


def reset(base: Path) -> None:
    """Give a job another chance: what was tried before does not count."""
    found = history(base)
    if not found.running and (found.failures or found.deaths) and found.holder:
        _make(base, found.holder.number + 1, {}, RESET)


def history(base: Path, now: float | None = None) -> History:
    """See `History`.

    Args:
        base: as for `Claim`.
        now: see `file_time`; None asks for it where it matters.
    """
    failures = deaths = 0
    holder, number = None, 0
    while (status := _status(base, number + 1)) is not None:
        number += 1
        ended = int(status.st_mtime)
        if holder is not None:  # it was alive or dead while it was the last one
            deaths += holder.quiet >= 0
        if ended == RESET:
            failures = deaths = 0
        failures += ended == FAILED
        if ended in (FAILED, GIVEN_BACK, RESET):
            holder = Holder(number, False, {}, -1.0)
            continue
        owner = _owner(base, number)
        now = file_time(base.parent) if now is None else now
        quiet = max(0.0, now - status.st_mtime)
        holder = Holder(number, quiet <= LIMIT and not _gone(owner), owner, quiet)
    if holder is not None and not holder.alive:
        deaths += holder.quiet >= 0
    return History(holder, failures, deaths)


def file_time(folder: Path) -> float:
    """Now, as the file system of a folder has it.

    Raises:
        UserError: the folder cannot be written.
    """
    path = folder / f".now-{platform.node()}-{os.getpid()}-{threading.get_ident()}"
    try:
        with open(path, "wb"):
            pass
        return os.stat(path).st_mtime
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _path(base: Path, number: int) -> Path:
    return base.with_name(f"{base.name}.claim-{number}")


def _status(base: Path, number: int) -> os.stat_result | None:
    try:
        return os.stat(_path(base, number))
    except FileNotFoundError:
        return None


def _exists(base: Path, number: int) -> bool:
    return _status(base, number) is not None


def _owner(base: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(_path(base, number).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _make(base: Path, number: int, owner: dict[str, Any], ended: int | None = None) -> bool:
    """Make a claim with its whole content at once; False if it is there."""
    path, draft = _path(base, number), base.with_name(f"{base.name}.claim-{uuid4().hex}")
    try:
        draft.write_text(json.dumps(owner), encoding="utf-8")
        if ended is not None:
            os.utime(draft, (ended, ended))
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:
            # the answer of a server may be lost: the file tells
            if os.stat(draft).st_nlink != 2:
                return _make_without_links(path, draft)
        return True
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)


def _make_without_links(path: Path, draft: Path) -> bool:
    """As `_make`, where the file system has no links."""
    try:
        with open(path, "xb") as file:
            file.write(draft.read_bytes())
    except FileExistsError:
        return False
    status = os.stat(draft)
    if status.st_mtime <= RESET:
        os.utime(path, (status.st_mtime, status.st_mtime))
    return True


def _this_process() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
    }


@cache
def _machine() -> str:
    """Tells machines, their starts, and containers apart; "" where it cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process of this machine was started, in ticks; "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    after = stat.rpartition(")")[2].split()
    return "" if after[0] in "ZX" else after[19]


def _gone(owner: dict[str, Any]) -> bool:
    """Whether the process was one of this machine, and has ended: no need to wait for its heart."""
    if not _machine() or owner.get("machine") != _machine():
        return False
    return _started(int(owner.get("pid", 0))) != owner.get("started")
