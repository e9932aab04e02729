"""The helpers that all benchmarks use."""

from __future__ import annotations

import math
import weakref

import pytest
import torch

from benchmarks import measure
from benchmarks.measure import Timed


def test_ways_take_turns_and_the_last_results_are_kept():
    calls = []
    ways = [lambda name=name: calls.append(name) or name for name in "ab"]
    timed = measure.in_turn(ways, 3)
    assert calls == ["a", "b"] * 3
    assert timed.results == ["a", "b"] and [len(taken) for taken in timed.rounds] == [2, 2, 2]


def test_no_round_begins_after_the_budget():
    assert len(measure.in_turn([lambda: None], 100, budget=0.0).rounds) == 1


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    timed = Timed([[4.0, 1.0], [90.0, 30.0], [10.0, 2.0]], [])
    assert timed.ratio() == 4.0 and timed.ratio(1, 0) == 0.25
    assert timed.seconds(0) == 10.0 and timed.seconds(1) == 2.0


@pytest.mark.parametrize("found", [1e-3, math.nan])
def test_results_that_differ_or_are_no_numbers_are_refused(found):
    with pytest.raises(SystemExit, match=r"not the same results: features differ by .*0\.0001"):
        measure.check_same("features", found, 1e-4)
    measure.check_same("features", 1e-4, 1e-4)


def test_the_smallest_ratio_counts():
    measure.check_at_least("it is faster", [10.0, 12.0], 10.0)
    measure.check_at_least("it is faster", [], 10.0)
    with pytest.raises(SystemExit, match="^it is faster: 9.9 times, not at least 10$"):
        measure.check_at_least("it is faster", [12.0, 9.9], 10.0)


def test_difference_is_relative_to_what_is_expected():
    assert measure.difference(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) == 0.1


def test_what_autograd_keeps_is_counted_once_and_without_weights():
    weight = torch.randn(10, 1000)
    x = torch.randn(7, 10, requires_grad=True)

    def forward():
        y = (x @ weight).exp()  # keeps its result (7, 1000), and the weight
        return y * y  # keeps the same result again

    assert measure.kept_bytes(forward, [weight]) == 7 * 1000 * 4
    assert measure.kept_bytes(forward, []) == 7 * 1000 * 4 + 10 * 1000 * 4


def test_counting_leaves_nothing_behind():
    found = []

    def forward():
        y = torch.ones(3, requires_grad=True).exp()  # keeps its own result
        found.append(weakref.ref(y))
        return y * 2

    assert measure.kept_bytes(forward, []) == 3 * 4
    assert found[0]() is None


def test_the_peak_of_a_fresh_process_holds_what_autograd_keeps():
    from benchmarks.text_side import TextSide

    side = TextSide(100, size="small")
    peak = side.peak("ours")
    assert side.ours_kept <= peak < 3 * side.ours_kept


def test_a_process_that_fails_is_told_with_its_message():
    with pytest.raises(SystemExit) as stop:
        measure.fresh_process("json.tool", ["no_such_file"])
    first, last = stop.value.code.splitlines()[0], stop.value.code.splitlines()[-1]
    assert first == "python -m json.tool no_such_file failed:" and "No such file" in last


def test_the_hardware_is_named_with_threads_and_versions():
    line = measure.hardware()
    threads = torch.get_num_threads()
    assert f", {threads} thread{'s' * (threads > 1)}; Python 3." in line
    assert line.endswith(f"torch {torch.__version__.partition('+')[0]}")
