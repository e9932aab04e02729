"""Lists are what lists must be, and as many and as published."""

from __future__ import annotations

import pytest

from dassl.data.datasets import Datum
from datasets.counts import DIGESTS
from datasets.splits import PARTS, digest, read_split
from tests.tools.data.toy import command, edit, problems
from tools.data import checks
from tools.data.checks import check
from tools.data.lists import compare


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda lists: lists["train"].pop(0),
            ["8 train images, expected 9"],
        ),
        (
            lambda lists: [item.__setitem__(1, item[1] * 2) for s in PARTS for item in lists[s]],
            ["labels are not 0 to C-1: 1, 3 without an image"],
        ),
        (
            lambda lists: lists["val"][1].__setitem__(2, "wasp"),
            ["label 1 has 2 names: bee, wasp"],
        ),
        (
            lambda lists: lists["test"][2].__setitem__(1, 0),
            ["label 0 has 2 names: ant, cat", "test has no image of 1 classes: 2"],
        ),
        (
            lambda lists: lists["test"].append(lists["train"][0]),
            [
                "1 images are in train and in test: {}/images/ant/0.jpg",
                "4 test images, expected 3",
            ],
        ),
        (
            lambda lists: lists["val"].append(lists["val"][0]),
            ["1 images are twice in val: {}/images/ant/3.jpg", "4 val images, expected 3"],
        ),
    ],
)
def test_lists_that_are_not_what_they_should_be(toy, change, expected):
    edit(toy, change)
    found = problems(toy)
    wanted = [text.format(toy) for text in expected]
    assert found == [(text, f"{command(toy)} --repair") for text in wanted]


def test_a_test_only_dataset_has_no_training_list_and_no_overlap(toy, monkeypatch):
    monkeypatch.setattr(checks, "known_datasets", lambda: {"toy": "ToyTestOnly"})
    report = check("toy", toy.parent)
    assert report.problems == []
    assert report.numbers == {"classes": 3, "test": 3, "train": None, "val": None}


def test_counts_that_are_not_known_are_not_compared():
    items = [Datum(__file__, 0, classname="a")]
    assert compare({"train": items, "val": None, "test": None}, "nowhere") == (
        [],
        {"classes": 1, "train": 1, "val": None, "test": None},
    )


def test_an_edited_split_file_is_told_from_the_published_one(toy, monkeypatch):
    path = toy / "split_zhou_Toy.json"
    lists = read_split(path, toy).parts()
    monkeypatch.setitem(DIGESTS, "Toy", tuple(digest(items) for _, items in lists))
    assert problems(toy) == []
    edit(toy, lambda lists: lists["train"].reverse())
    assert problems(toy) == [
        (
            f"split_zhou_Toy.json is there but damaged ({path} does not list the images of the "
            "published split)",
            f"mv {path} {path}.damaged && {command(toy)}",
        )
    ]
