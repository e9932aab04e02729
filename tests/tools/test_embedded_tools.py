"""The small CLIP: made by its tool, shipped in the repository, and as good as documented."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import clip
import numpy as np
import pytest
import torch
from PIL import Image

from dassl.utils import UserError
from datasets.world.render import STYLES
from tools import measure_embedded, pretrain_embedded
from tools.results.pairing import Paired
from tools.studies.file import read_study
from tools.world import measuring, pretraining, sheet
from tools.world.properties import Tuned, properties, tuned, verdicts
from trainers.backbones.clip_model import load_clip
from trainers.backbones.precision import resolve_precision

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "assets/shapes_clip.pt"
CPU = resolve_precision("fp32", "cpu")


def test_the_tool_writes_weights_that_load_like_any_other(tmp_path, capsys):
    out = tmp_path / "small.pt"
    pretrain_embedded.main(["--steps", "2", "--images", "64", "--batch", "16", "--out", str(out)])
    assert "step 2/2 loss" in capsys.readouterr().out
    shipped = torch.load(WEIGHTS, weights_only=True)
    made = torch.load(out, weights_only=True)
    assert {k: (v.shape, v.dtype) for k, v in made.items()} == {
        k: (v.shape, v.dtype) for k, v in shipped.items()
    }
    assert load_clip(str(out), CPU).resolution == 32
    assert [p.name for p in tmp_path.iterdir()] == ["small.pt"]


def test_the_same_seed_makes_the_same_weights(tmp_path):
    for name in "ab":
        arguments = ["--steps", "2", "--images", "32", "--batch", "8", "--out"]
        pretrain_embedded.main([*arguments, str(tmp_path / name)])
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_pretraining_never_draws_the_images_of_the_datasets():
    from datasets.shapes import SPLITS

    assert max(seed for _, seed in SPLITS.values()) < pretraining.WORLD_SEED


def test_the_shipped_weights_are_small_and_plain():
    assert WEIGHTS.stat().st_size < 12e6
    state = torch.load(WEIGHTS, weights_only=True)
    assert all(isinstance(v, torch.Tensor) and v.isfinite().all() for v in state.values())
    # OpenAI's own loader reads the file, and sees the same features
    model, _ = clip.load(str(WEIGHTS), device="cpu")
    images = torch.randn(2, 3, 32, 32)
    ours = load_clip("assets/shapes_clip.pt", CPU).encode_image(images)
    with torch.no_grad():
        theirs = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
    assert (ours - theirs).abs().max() < 1e-5


@pytest.fixture(scope="module")
def found(data_root) -> measuring.Figures:
    return measuring.measure(data_root)


def test_the_world_has_every_property_that_needs_no_training(found):
    fine = Tuned({seed: 80.0 for seed in range(3)},
                 {"base": Paired((20.0,) * 3), "new": Paired((-9.0, -8.0, -10.0))})  # fmt: skip
    rows = properties(found, fine)
    assert len(rows) == 11 and [row.name for row in rows if not row.holds] == []


def test_different_prompts_win_on_different_styles(found):
    matrix, column = found.matrix(), {style: i for i, style in enumerate(STYLES)}
    for mine, other in itertools.permutations(("photo", "sketch", "neon"), 2):
        assert matrix[mine][column[mine]] > matrix[other][column[mine]] + 10


def test_the_matrix_and_what_is_read_from_it():
    styles = np.array([0, 0, 1, 1, 2, 3, 4, 4])
    hits = {"photo": np.array([1, 1, 0, 0, 1, 0, 0, 1]), "icon": np.array([0, 1, 1, 1, 0, 0, 1, 1])}
    figures = measuring.Figures({}, hits, styles, 20.0)
    assert figures.matrix() == {
        "photo": [100.0, 0.0, 100.0, 0.0, 50.0, 50.0],
        "icon": [50.0, 100.0, 0.0, 0.0, 100.0, 62.5],
    }
    assert figures.best_single() == 62.5
    assert figures.best_by_style() == pytest.approx(100 * 7 / 8)


SOUND = {
    "zero_shot": (60.0, 62.0),
    "probe": 75.0,
    "base": (74.0, 75.0, 76.0),
    "gains": (14.0, 15.0, 16.0),
    "losses": (-6.0, -7.0, -8.0),
    "pool": (40.0, 60.0),
    "hits": (1, 1, 1, 1, 0, 0, 0, 0),
}


@pytest.mark.parametrize(
    ("changed", "failing"),
    [
        ({}, []),
        ({"zero_shot": (54.9, 60.0)}, ["zero-shot on base classes"]),
        ({"zero_shot": (60.0, 54.9)}, ["zero-shot on new classes"]),
        ({"zero_shot": (60.0, 70.1)}, ["zero-shot, difference between the halves"]),
        ({"probe": 69.9}, ["linear probe minus zero-shot, base"]),
        ({"base": (72.9, 75.0, 77.1)}, ["CoOp on base classes, standard deviation"]),
        ({"gains": (7.8, 7.9, 8.1)}, ["CoOp minus zero-shot, base"]),
        ({"losses": (-4.9, -5.0, -5.0)}, ["CoOp minus zero-shot, new"]),
        ({"losses": (1.0, -7.0, -12.0)}, ["the same, upper end of its 95% interval"]),
        ({"pool": (55.1, 60.0)}, ["best prompt of the pool minus worst one, base"]),
        ({"hits": (1,) * 8}, ["best prompt for each style minus best single one"]),
    ],
)
def test_each_property_fails_alone(changed, failing):
    facts = SOUND | changed
    halves = {
        ("Shapes", half): measuring.Half(
            {"photo": zero_shot}, dict(enumerate(facts["pool"])), [facts["probe"]]
        )
        for half, zero_shot in zip(("base", "new"), facts["zero_shot"], strict=True)
    }
    first = np.array(facts["hits"])
    hits = {"photo": first, "icon": 1 - first}
    figures = measuring.Figures(halves, hits, np.array([0, 0, 1, 1, 2, 2, 3, 4]), 20.0)
    coop = Tuned(
        dict(enumerate(facts["base"])),
        {"base": Paired(facts["gains"]), "new": Paired(facts["losses"])},
    )
    rows = properties(figures, coop)
    assert [row.name for row in rows if not row.holds] == failing
    shown = verdicts(rows)
    assert (shown.count("holds"), shown.count("FAILS")) == (11 - len(failing), len(failing))


def test_a_world_that_lacks_a_property_ends_with_code_1(data_root, tmp_path, monkeypatch, capsys):
    """The real study with two seeds of two epochs: CoOp cannot have gained by then."""
    study = tmp_path / "short.yaml"
    study.write_text(
        measure_embedded.STUDY.read_text()
        .replace("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "[1, 2]")
        .replace("CACHE.VIEWS: True", "OPTIM.MAX_EPOCH: 1")
    )
    monkeypatch.setattr(measure_embedded, "STUDY", study)
    with pytest.raises(SystemExit) as end:
        measure_embedded.main(["--data", str(data_root), "--output", str(tmp_path / "output")])
    out = capsys.readouterr().out
    assert end.value.code == 1
    assert re.search(r"CoOp minus zero-shot, base +-?\d+\.\d +at least 8 +FAILS", out)
    assert out.count("holds") >= 6


def test_results_that_are_not_complete_are_not_judged(data_root, tmp_path):
    study = read_study(measure_embedded.STUDY, data_root, tmp_path)
    with pytest.raises(UserError, match="incomplete results; run it first"):
        tuned(study)


def test_the_picture_shows_test_images_in_their_styles(found, data_root, tmp_path, capsys):
    picture = tmp_path / "shapes.png"
    measure_embedded.main(["--picture", str(picture)])
    assert capsys.readouterr().out == "" and [p.name for p in tmp_path.iterdir()] == ["shapes.png"]
    made, shipped = (np.array(Image.open(p)) for p in (picture, ROOT / "docs/images/shapes.png"))
    split, shown = json.loads((data_root / "shapes/split.json").read_text()), []
    for side, classes in enumerate(sheet.SHOWN):
        for column, label in enumerate(classes):
            files = [data_root / "shapes" / name for name, y, _ in split["test"] if y == label]
            images = {np.array(Image.open(file)).tobytes() for file in files}
            left = sheet.LEFT + side * (len(classes) * sheet.CELL + sheet.GAP)
            for row, style in enumerate(STYLES):
                x, y = left + column * sheet.CELL, sheet.HEAD + row * sheet.CELL
                tiles = [whole[y : y + 64 : 2, x : x + 64 : 2] for whole in (made, shipped)]
                assert (tiles[0] == tiles[1]).all()
                if tiles[0].tobytes() in images:
                    shown.append((side, style))
                else:
                    assert (tiles[0] == 255).all()
    styles = {0: {"photo", "sketch", "blueprint"}, 1: {"photo", "neon", "icon"}}
    assert {side: {style for at, style in shown if at == side} for side in (0, 1)} == styles


def test_a_picture_that_cannot_be_written_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        measure_embedded.main(["--picture", str(tmp_path)])
    told = capsys.readouterr().err
    assert error.value.code == 1 and str(tmp_path) in told and "another file for --picture" in told


def test_the_documented_figures_are_those_of_the_tool(found):
    page = (ROOT / "docs/embedded_world.md").read_text()
    shown = re.search(
        r"python -m tools.measure_embedded\n```\n\n```text\n(.*?)\n\nproperty", page, re.DOTALL
    )
    ours = [float(x) for x in re.findall(r"\d+\.\d", measuring.report(found))]
    documented = [float(x) for x in re.findall(r"\d+\.\d", shown[1])]
    assert len(ours) == len(documented) > 40
    # machines round differently, and one image of a cell is 0.6
    assert max(abs(a - b) for a, b in zip(ours, documented, strict=True)) <= 1.3
