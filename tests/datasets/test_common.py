"""Few-shot draw and base/new classes: the lists of the CoOp codebase."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.common import Listed, subsample_classes
from datasets.errors import DatasetError
from datasets.shots import draw, few_shot_lists
from runs.config import default_cfg


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    """Make an item of a label; its class name tells its position."""
    path = tmp_path_factory.mktemp("items") / "image.png"
    path.write_bytes(b"")
    return lambda label, position=0: Listed(str(path), label, f"{label}/{position}")


def cfg(shots: int, seed: int):
    settings = default_cfg()
    settings.DATASET.NUM_SHOTS, settings.SEED = shots, seed
    return settings


def positions(items) -> list[int]:
    return [int(i.classname.split("/")[1]) for i in items]


# seed, shots, images per class -> positions in the first classes (upstream's own draws)
@pytest.mark.parametrize(
    ("seed", "shots", "count", "expected"),
    [
        (1, 4, 20, [4, 18, 2, 8, 3, 15, 14, 18]),
        (2, 4, 20, [1, 2, 18, 11]),
        (3, 4, 20, [7, 18, 17, 4]),
        (1, 16, 100, [17, 72, 97, 8, 32, 15, 63, 57, 60, 83, 48, 26, 12, 62, 3, 49]),
    ],
)
def test_shots_are_those_of_the_coop_codebase(item, seed, shots, count, expected):
    items = [item(label, i) for label in range(3) for i in range(count)]
    train, _ = few_shot_lists(cfg(shots, seed), items, [])
    assert positions(train)[: len(expected)] == expected


def test_val_shots_continue_the_stream_of_the_train_shots(item):
    train = [item(label, i) for label in (2, 0, 1) for i in range(9)]
    val = [item(label, i) for label in (1, 2, 0) for i in range(7)]
    got_train, got_val = few_shot_lists(cfg(5, 7), train, val)
    stream = random.Random(7)
    expected = [i for _ in range(3) for i in stream.sample(range(9), 5)]
    assert positions(got_train) == expected
    assert positions(got_val) == [i for _ in range(3) for i in stream.sample(range(7), 4)]
    assert [i.label for i in got_train[::5]] == [2, 0, 1]
    assert [i.label for i in got_val[::4]] == [1, 2, 0]


def test_the_draw_neither_reads_nor_moves_the_global_generator(item):
    items = [item(0, i) for i in range(50)]
    random.seed(5)
    first = positions(few_shot_lists(cfg(8, 1), items, [])[0])
    after = random.random()
    random.seed(5)
    assert random.random() == after
    assert positions(few_shot_lists(cfg(8, 1), items, [])[0]) == first


def test_a_small_class_is_taken_whole_in_order_and_uses_no_random_numbers(item):
    small = [item(0, i) for i in range(3)]
    large = [item(1, i) for i in range(20)]
    with_small = draw([*small, *large], 4, random.Random(1))
    assert positions(with_small[:3]) == [0, 1, 2]
    assert positions(with_small[3:]) == positions(draw(large, 4, random.Random(1)))


def test_small_classes_are_told_with_their_sizes(item, capsys):
    items = [item(label, i) for label in range(12) for i in range(label)]
    draw(items, 3, random.Random(1))
    assert "Note: 2 classes have fewer than 3 images, and are taken whole: 1/0 (1), 2/0 (2)" in (
        capsys.readouterr().out
    )
    draw(items, 20, random.Random(1))
    assert "Note: 11 classes have fewer than 20 images" in (shown := capsys.readouterr().out)
    assert "10/0 (10), ...\n" in shown, "the first ten are named"


@pytest.mark.parametrize("shots", [0, -1])
def test_without_shots_everything_is_kept(item, shots):
    train, val = [item(0, i) for i in range(9)], [item(0, i) for i in range(6)]
    assert few_shot_lists(cfg(shots, 1), train, val) == (train, val)


def test_seed_zero_is_honoured_and_a_negative_seed_is_unseeded(item):
    items = [item(0, i) for i in range(1000)]
    a, b = (positions(few_shot_lists(cfg(16, 0), items, [])[0]) for _ in range(2))
    c, d = (positions(few_shot_lists(cfg(16, -1), items, [])[0]) for _ in range(2))
    assert a == b and c != d


@given(st.sets(st.integers(0, 30), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_base_and_new_split_the_sorted_labels_and_count_from_zero(item, labels, rng):
    train = [item(label) for label in labels for _ in range(2)]
    rng.shuffle(train)
    test = [item(label) for label in sorted(labels)] + [item(31)]
    ordered = sorted(labels)
    middle = (len(ordered) + 1) // 2
    for subset, chosen in (("base", ordered[:middle]), ("new", ordered[middle:])):
        a, b = subsample_classes(train, test, subset=subset)
        assert {i.label for i in a} == set(range(len(chosen)))
        assert [i.classname for i in b] == [f"{label}/0" for label in chosen]
        assert [chosen[i.label] for i in a] == [
            int(i.classname.split("/")[0]) for i in train
            if int(i.classname.split("/")[0]) in chosen
        ]  # fmt: skip


def test_all_keeps_labels_as_they_are(item):
    train = [item(3), item(7)]
    (kept,) = subsample_classes(train, subset="all")
    assert [(i.label, i.classname) for i in kept] == [(3, "3/0"), (7, "7/0")]


def test_unknown_subsets_and_empty_halves_are_refused(item):
    with pytest.raises(DatasetError, match='SUBSAMPLE_CLASSES is "old", expected one of: all, ba'):
        subsample_classes([item(0)], subset="old")
    with pytest.raises(DatasetError, match="there are no new classes: the dataset has 1 class"):
        subsample_classes([item(0)], subset="new")
