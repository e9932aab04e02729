"""Prompts are packed into equal rows in which no class sees another, almost without padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.backbones.packing import PLACES, Layout

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=150)
CPU = torch.device("cpu")


@given(LENGTHS, st.integers(1, 40))
def test_every_query_sees_the_start_and_its_own_class_up_to_itself(lengths, P):
    """What each end token may see, read from the mask, is its own prompt in its order."""
    rows = Layout.of(lengths).rows(P, CPU, torch.float32)
    R, L = rows.count, len(rows.position) // rows.count
    source = torch.cat([torch.full((P,), -1), rows.source]).view(R, L)  # -1: the start
    position = rows.position.view(R, L)
    if R > 1:  # keys of the start come before a row's own
        source = torch.cat([torch.full((R, P), -1), source], dim=1)
        position = torch.cat([torch.arange(P).expand(R, P), position], dim=1)
    first = 0
    for end, S in zip(rows.ends.tolist(), lengths, strict=True):
        row, place = divmod(end, L)
        for back in range(S):  # the end token and those before it
            seen = rows.bias[row, 0, place - back, : source.shape[1]] == 0
            own = list(range(first, first + S - back))
            assert source[row, seen].tolist() == [-1] * P + own
            assert position[row, seen].tolist() == list(range(P + S - back))
        first += S


@given(LENGTHS, st.integers(1, 40))
def test_the_start_is_causal_and_every_place_sees_something(lengths, P):
    rows = Layout.of(lengths).rows(P, CPU, torch.float32)
    own = P if rows.count > 1 else 0  # keys before those of the row itself
    seen = rows.bias[..., : own + len(rows.position) // rows.count] == 0
    for i in range(P):
        assert seen[0, 0, i].nonzero().flatten().tolist() == list(range(own, own + i + 1))
    assert seen.any(dim=-1).all()  # a softmax over nothing is no number


@given(LENGTHS, st.integers(1, 40))
def test_few_tokens_are_computed_in_vain(lengths, P):
    rows = Layout.of(lengths).rows(P, CPU, torch.float32)
    computed, needed = len(rows.position), P + sum(lengths)
    assert computed <= (1.3 if len(lengths) >= 100 else 1.8) * needed
    assert rows.count == 1 or computed // rows.count >= PLACES
    if rows.count == 1:
        assert computed == needed


def test_rows_are_made_once_for_each_device_and_dtype():
    layout = Layout.of([3, 1, 2])
    rows = layout.rows(2, CPU, torch.float32)
    assert layout.rows(2, CPU, torch.float32) is rows
    half = layout.rows(2, CPU, torch.float16)
    assert half.bias.dtype is torch.float16 and torch.equal(half.bias.float(), rows.bias)
    assert layout == Layout.of([3, 1, 2])  # what was made is no part of a layout


@pytest.mark.parametrize("lengths", [[3], [3] * 60])
def test_strides_of_the_mask_are_aligned(lengths):
    bias = Layout.of(lengths).rows(5, CPU, torch.float32).bias
    assert all(stride % 8 == 0 for stride in bias.stride()[:-1])


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.integers(-5, 100))
def test_parts_of_a_layout_are_whole_classes_within_the_bound(lengths, most):
    found = []
    tokens = 0
    for place, part in Layout.of(lengths).parts(most):
        assert (place.start, place.stop) == (tokens, tokens + sum(part.lengths))
        assert sum(part.lengths) <= most or len(part.lengths) == 1
        tokens = place.stop
        found += part.lengths
    assert found == lengths


def test_parts_keep_their_rows():
    layout = Layout.of([3] * 100)
    rows = [
        [part.rows(5, CPU, torch.float32) for _, part in layout.parts(most)]
        for most in (150, 150, 90)
    ]
    assert len(rows[0]) == 2 and all(a is b for a, b in zip(*rows[:2], strict=True))
    assert len(rows[2]) == 4
    assert [part.lengths for _, part in layout.few(90)] == [(3,) * 90, (3,) * 10]
    assert layout.few(90) is layout.few(90)


def test_parts_are_few_and_even():
    sizes = [place.stop - place.start for place, _ in Layout.of([3] * 100).parts(150)]
    assert sizes == [150, 150]
    sizes = [place.stop - place.start for place, _ in Layout.of([3] * 110).parts(150)]
    assert sizes == [111, 111, 108]
