"""`benchmarks.input`, with a small CLIP."""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks import image_tower
from benchmarks import input as image_input
from benchmarks.images import write_folder
from benchmarks.input import Input
from trainers.features.loaders import FeatureLoader

TINY = {"size": "small", "files": 20, "batch": 8, "pixels": (48, 36)}


@pytest.fixture(scope="module")
def side(tmp_path_factory) -> Input:
    return Input(tmp_path_factory.mktemp("input"), **TINY, workers=0)


def test_all_ways_read_the_same_images(side):
    assert side.files == side.decode() == 20
    assert side.tower().shape == (4, 96)  # the last batch
    found, expected = side.evaluation(), side.plain()
    assert torch.equal(found, expected) and found.shape == (20, 96)


def test_an_evaluation_never_finds_its_features(side, monkeypatch):
    seen = []
    compute = FeatureLoader.compute
    monkeypatch.setattr(FeatureLoader, "compute", lambda one: seen.append(1) or compute(one))
    side.evaluation()
    side.evaluation()
    assert len(seen) == 2


def test_other_features_are_refused(side, monkeypatch):
    right = Input.plain
    monkeypatch.setattr(Input, "plain", lambda one: right(one) + 1e-6)
    with pytest.raises(SystemExit, match="not the same results: features of the evaluation differ"):
        image_input.compare(side, 1)


def test_what_bounds_is_the_slower_of_decoding_and_tower():
    rate = {"decode": 50.0, "tower": 200.0, "evaluation": 40.0, "plain": 20.0}
    shown = image_input.table([{"workers": 8, "rate": rate, "bound": "decode"}], "github")
    cells = [cell.strip() for cell in shown.splitlines()[-1].strip("|").split("|")]
    assert cells == ["8", "50.0", "200.0", "40.0", "20.0", "decode", "80", "2.00x"]


def test_the_command_prints_a_row_for_each_number_of_workers(capsys, stopped):
    words = ["--small", "--files", "8", "--workers", "0", "1", "--runs", "1", "--device", "cpu"]
    message = stopped(image_input.main, *words, "--at-least", "1e6")
    assert message.startswith("the evaluation against the plain loop: ")
    shown = capsys.readouterr().out
    assert shown.startswith("8 test images, small, fp32; ")
    assert re.findall(r"^(\d) .*(?:decode|tower) ", shown, flags=re.MULTILINE) == ["0", "1"]


def test_a_device_that_is_not_there_is_refused(stopped):
    message = stopped(image_input.main, "--device", "cuda")
    assert message == "--device cuda, but torch sees no CUDA device here: use --device cpu"


def test_images_beyond_the_distinct_ones_are_copies(tmp_path):
    write_folder(tmp_path, ["a", "b"], 1, 2, (24, 16), distinct=2)
    found = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in sorted(tmp_path.rglob("*.jpg"))
    }
    assert len(found) == 6 and len(set(found.values())) == 2
    assert found["train/a/00000.jpg"] == found["test/a/00001.jpg"] != found["test/a/00000.jpg"]


def test_the_image_tower_is_measured(in_process, capsys):
    from benchmarks import measure

    words = ["--size", "small", "--precision", "bf16", "--batch", "2", "--seconds", "0"]
    found = measure.fresh_process("benchmarks.image_tower", [*words, "--device", "cpu"])[1]
    assert found["images"] == 2 and found["rate"] > 0 and 0 < found["share"] < 10
    assert found.keys() == {"images", "rate", "matmul", "share", "first"}
    assert image_tower.tower_speed("small", "fp32", False, 3, "cpu", 0.0)["images"] == 3
