"""What the picked teacher tells about groups: against scikit-learn, and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from tools.learned.gate_numbers import entropy, information

sizes = st.tuples(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(0, 999))


def draw(size: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Picks (N, H), the same number K for all images, and groups (N,)."""
    N, H, G, seed = size
    rng = np.random.default_rng(seed)
    K = rng.integers(1, H + 1)
    picked = np.zeros((N, H), bool)
    for row in picked:
        row[rng.choice(H, K, replace=False)] = True
    return picked, np.array([f"group {g}" for g in rng.integers(0, G, N)])


@given(sizes)
@settings(max_examples=25)
def test_bits_are_those_of_one_picked_teacher_drawn_evenly(size):
    picked, groups = draw(size)
    images, teachers = picked.nonzero()
    found = information(picked, groups)
    expected = mutual_info_score(teachers, groups[images]) / np.log(2)
    assert found["bits"] == pytest.approx(expected, abs=2e-6)
    assert found["bits"] <= found["teacher_bits"] + 1e-6
    assert found == information(picked, groups)  # the permutations are seeded


@given(sizes)
@settings(max_examples=15)
def test_the_order_of_images_and_the_names_of_groups_do_not_matter(size):
    picked, groups = draw(size)
    order = np.random.default_rng(size[-1]).permutation(len(groups))
    renamed = np.array([f"other {name}" for name in groups])
    for key in ("bits", "teacher_bits"):
        one, other = (
            information(picked, groups)[key],
            information(picked[order], renamed[order])[key],
        )
        assert one == pytest.approx(other, abs=2e-6)


def test_what_depends_on_the_group_is_beyond_chance_and_what_does_not_is_within():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 3, 300)
    same = information(np.eye(3, dtype=bool)[groups], groups)
    assert same["bits"] == same["teacher_bits"] == pytest.approx(1.58, abs=0.01)
    assert same["bits"] > 10 * same["chance_95"] and same["p"] == pytest.approx(1 / 201, abs=1e-6)
    drawn = information(np.eye(3, dtype=bool)[rng.integers(0, 3, 300)], groups)
    assert drawn["bits"] < drawn["chance_95"] < 0.05 and drawn["p"] > 0.05
    assert 0 < drawn["chance_mean"] < drawn["chance_95"]


def test_entropy_is_in_bits():
    assert entropy(np.array([0.5, 0.25, 0.25, 0.0])) == 1.5
    assert entropy(np.array([1.0])) == 0
