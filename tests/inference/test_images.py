"""Batches of image files."""

from __future__ import annotations

import threading

import torch
from PIL import Image

from inference.images import batches


def test_the_next_batch_is_read_while_one_is_computed():
    images = [(str(i), Image.new("RGB", (2, 2), (i, 0, 0))) for i in range(5)]
    read = threading.Event()

    def transform(picture):
        value = picture.getpixel((0, 0))[0]
        if value == 3:
            read.set()
        return torch.tensor([value])

    found = batches(images, transform, 2, [])
    assert next(found)[0] == ["0", "1"]
    assert read.wait(60)  # image 3 is of the next batch, which nobody has asked for
    names, values = zip(*found, strict=True)
    assert names == (["2", "3"], ["4"])
    assert [part.flatten().tolist() for part in values] == [[2, 3], [4]]


def test_what_cannot_be_read_is_told_in_order(tmp_path):
    (tmp_path / "a.png").write_text("text")
    good = Image.new("RGB", (2, 2))
    images = [("bad", str(tmp_path / "a.png")), ("good", good), ("gone", str(tmp_path / "b.png"))]
    problems: list = []
    found = list(batches(images, lambda picture: torch.zeros(1), 1, problems))
    assert [names for names, _ in found] == [["good"]]
    assert [problem["image"] for problem in problems] == ["bad", "gone"]
