"""Parts of a report that end in time."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
import torch

from benchmarks.budget import AGAIN, LONGEST, OutOfTime, Part, time_limit, told, work_off


@pytest.fixture(autouse=True)
def timer(monkeypatch) -> list[tuple[Any, ...]]:
    """What the timer was told; it sends no alarm by itself."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(signal, "setitimer", lambda *told: found.append(told))
    return found


def alarm() -> None:
    signal.raise_signal(signal.SIGALRM)


def takes_too_long() -> None:
    try:
        alarm()
    except Exception:  # code that catches errors
        pytest.fail("an alarm is caught as an error")


def part(*rows) -> Part:
    return Part("a part", [(getattr(row, "__name__", "row"), row) for row in rows], list)


def fails() -> None:
    raise ValueError("two\nlines")


def refuses() -> None:
    raise SystemExit("not the same results")


def one() -> int:
    return 1


def test_a_row_that_fails_is_told_and_the_next_ones_go_on():
    outcome = work_off(part(one, fails, refuses, one), 60)
    assert outcome.done == [1, 1] and outcome.late == []
    assert outcome.failed == ["fails: ValueError: two lines", "refuses: not the same results"]


def test_a_part_is_interrupted_and_names_what_it_lacks():
    outcome = work_off(part(one, takes_too_long, one), 60)
    assert (outcome.done, outcome.failed) == ([1], [])
    assert outcome.late == ["takes_too_long", "one"]


def test_an_interrupted_no_grad_ends_with_its_part():
    def forever() -> None:
        torch.set_grad_enabled(False)
        alarm()

    assert work_off(part(forever), 60).late == ["forever"]
    assert torch.is_grad_enabled()


def test_a_part_without_time_lacks_all_of_it():
    assert work_off(part(one, fails), -1.0).late == ["one", "fails"]


def test_code_that_swallows_the_first_interruption_gets_another(timer):
    def swallow():
        with pytest.raises(OutOfTime):
            alarm()
        alarm()

    assert work_off(part(swallow), 60).late == ["swallow"]
    assert timer[0] == (signal.ITIMER_REAL, 60, AGAIN) and AGAIN > 0


def test_no_alarm_is_left_behind(timer):
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        pass
    with pytest.raises(OutOfTime), time_limit(60):
        alarm()
    assert [seconds for _, seconds, *_ in timer] == [60, 0, 60, 0]
    assert signal.getsignal(signal.SIGALRM) == before


def test_an_alarm_at_the_very_start_leaves_no_timer(timer, monkeypatch):
    def early(which: int, seconds: float, again: float = 0) -> None:
        timer.append((which, seconds, again))
        if seconds:
            alarm()

    monkeypatch.setattr(signal, "setitimer", early)
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTime), time_limit(60):
        pass
    assert timer[-1][1] == 0 and signal.getsignal(signal.SIGALRM) == before


def test_an_alarm_at_the_very_end_ends_nothing(timer, monkeypatch):
    def late(which: int, seconds: float, again: float = 0) -> None:
        if seconds == 0:
            alarm()
        timer.append((which, seconds, again))

    monkeypatch.setattr(signal, "setitimer", late)
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        pass
    assert timer[-1][1] == 0 and signal.getsignal(signal.SIGALRM) == before


def test_ctrl_c_ends_the_report():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work_off(part(stop), 60)


def test_outside_of_the_main_thread_nothing_is_interrupted():
    found = []
    thread = threading.Thread(target=lambda: found.append(work_off(part(one), 60).done))
    thread.start()
    thread.join()
    assert found == [[1]]


def test_an_error_is_one_line_of_bounded_length():
    assert told(RuntimeError("a  b\n" * 500)).startswith("RuntimeError: a b a b")
    assert len(told(RuntimeError("a  b\n" * 500))) == LONGEST
    assert told(KeyError()) == "KeyError: no message"
