"""Figures over seeds: their means, spreads and H."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.results.summary import AVERAGE, H, harmonic_mean, summarise

percent = st.floats(0.1, 100)


def test_harmonic_mean():
    assert harmonic_mean(82.69, 63.22) == pytest.approx(71.66, abs=0.005)  # CoOp, CoCoOp paper
    assert harmonic_mean(0, 0) == 0


@given(percent, percent)
def test_harmonic_mean_lies_between_and_near_the_smaller(base, new):
    h = harmonic_mean(base, new)
    assert min(base, new) <= h + 1e-9 and h <= (base + new) / 2 + 1e-9
    assert h <= 2 * min(base, new) + 1e-9
    assert h == harmonic_mean(new, base)
    assert 1 / h == pytest.approx((1 / base + 1 / new) / 2)


@given(st.lists(st.tuples(percent, percent), min_size=2, max_size=5))
def test_summary_of_any_seeds(pairs):
    results = [
        {
            "dataset": dataset, "trainer": "CoOp", "shots": 16, "seed": seed, "accuracy": value,
            "classes": classes, "config": "a", "run": Path(f"{dataset}/CoOp/a/shots_16/seed{seed}"),
        }
        for dataset in ("A", "B")
        for seed, pair in enumerate(pairs)
        for classes, value in zip(("base", "new"), pair, strict=True)
    ]  # fmt: skip
    (summary,) = summarise(results)
    (row,) = summary.rows
    figures, average = summary.cells[row, "A"].figures, summary.cells[row, AVERAGE].figures
    assert figures["base"].mean == pytest.approx(sum(b for b, _ in pairs) / len(pairs))
    assert figures[H].mean == harmonic_mean(figures["base"].mean, figures["new"].mean)
    variance = sum((b - figures["base"].mean) ** 2 for b, _ in pairs) / (len(pairs) - 1)
    assert figures["base"].spread == pytest.approx(math.sqrt(variance), abs=1e-6)
    for measure in ("base", "new", H):  # two equal datasets: their average is each of them
        assert average[measure].mean == pytest.approx(figures[measure].mean)
        assert average[measure].spread == pytest.approx(figures[measure].spread, abs=1e-6)
