"""Parts of a report that end in time: rows one after another, and a table of those that are there.

A part that runs out of its time is interrupted, wherever it is. What it has is shown, and the rows
that it lacks are named. A row that fails becomes a line of the report, and the next one goes on.
"""

import gc
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

AGAIN = 1.0  # seconds from one interruption to the next, should code swallow the first
LONGEST = 300  # characters of an error


class OutOfTime(BaseException):
    """The time of a part is used up; no code that catches errors takes it for one."""


@dataclass
class Part:
    """A part of a report.

    Attributes:
        title: what stands above its tables.
        rows: of each row its name, and what makes it.
        show: the blocks of markdown of the rows that are there, in order.
    """

    title: str
    rows: list[tuple[str, Callable[[], Any]]]
    show: Callable[[list[Any]], Iterable[str]]


@dataclass
class Outcome:
    """What a part has given.

    Attributes:
        done: its rows that are there.
        failed: rows that failed, each with its error.
        late: names of the rows for which there was no time.
    """

    done: list[Any] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt what is inside once it has taken so long.

    Without signals, as outside of the main thread, nothing is interrupted.

    Raises:
        OutOfTime: it took longer.
    """
    if seconds <= 0:
        raise OutOfTime
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    over = False

    def stop(number: int, frame: Any) -> None:
        if not over:
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
            yield
        finally:  # where the first alarm can come, too
            over = True
    finally:
        over = True  # an alarm that comes before the timer is off ends nothing
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def work_off(part: Part, seconds: float) -> Outcome:
    """Make the rows of a part, as many as there is time for."""
    outcome, finished, gradients = Outcome(), 0, torch.is_grad_enabled()
    try:
        with time_limit(seconds):
            for name, make in part.rows:
                try:
                    row = make()
                except (Exception, SystemExit) as error:  # whatever a measurement raises
                    outcome.failed.append(f"{name}: {told(error)}")
                else:
                    outcome.done.append(row)
                finished += 1
                give_back_memory()
    except OutOfTime:
        outcome.late = [name for name, _ in part.rows[finished:]]
        torch.set_grad_enabled(gradients)  # an interrupted `no_grad` may not have ended
    return outcome


def told(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split()) or "no message"
    kind = "" if isinstance(error, SystemExit) else f"{type(error).__name__}: "
    return (kind + text)[:LONGEST]


def give_back_memory() -> None:
    """Free what a row has left behind, so that the next one has all memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
