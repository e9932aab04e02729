"""Parts of a report that end in time."""

from __future__ import annotations

import threading
import time

import pytest

from benchmarks.budget import LONGEST, OutOfTime, Part, time_limit, told, work_off


def wait_for_ever() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # code that catches errors
            continue


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
    outcome = work_off(part(one, wait_for_ever, one), 0.2)
    assert (outcome.done, outcome.failed) == ([1], [])
    assert outcome.late == ["wait_for_ever", "one"]


def test_a_part_without_time_lacks_all_of_it():
    assert work_off(part(one, fails), -1.0).late == ["one", "fails"]


def test_code_that_swallows_the_first_interruption_gets_another(monkeypatch):
    monkeypatch.setattr("benchmarks.budget.AGAIN", 0.05)
    seen = []

    def swallow():
        while True:
            try:
                time.sleep(60)
            except BaseException:
                seen.append(1)
                if len(seen) == 3:
                    raise

    assert work_off(part(swallow), 0.05).late == ["swallow"] and len(seen) == 3


def test_no_alarm_is_left_behind():
    with time_limit(0.05):
        pass
    time.sleep(0.1)
    with pytest.raises(OutOfTime), time_limit(0.01):
        wait_for_ever()


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
