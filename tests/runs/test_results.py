"""What is no results.json, and what is one all the same."""

from __future__ import annotations

import json

import pytest

from dassl.utils import UserError
from runs.results import read_results

GOOD = {
    **{"dataset": "Shapes", "trainer": "CoOp", "classes": "base", "shots": 2, "seed": 1},
    **{"accuracy": 50.0, "epoch": 2, "checkpoint": None},
}


def test_a_byte_order_mark_makes_no_difference(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert read_results(path) == GOOD


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[" * 100_000, "is damaged (maximum recursion depth exceeded"),
        (b'{"accuracy": 1' + b"0" * 5000 + b"}", "is damaged (Exceeds the limit (4300 digits)"),
        (b'{"dataset": "caf\xe9"}', "cannot be read ('utf-8' codec can't decode byte 0xe9"),
        (
            json.dumps({**GOOD, "dataset": "\ud800"}).encode(),
            "is damaged ('utf-8' codec can't encode character",
        ),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, content, told):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_results(path)
    assert str(error.value).startswith(f"{path} {told}") and "move it away" in str(error.value)
