"""The small CLIP: made by its tool, shipped in the repository, and as good as documented."""

from __future__ import annotations

import re
from pathlib import Path

import clip
import pytest
import torch

from datasets.world.render import STYLES
from tools import pretrain_embedded
from tools.world import measuring, pretraining
from trainers.backbones.clip_model import load_clip
from trainers.backbones.precision import resolve_precision

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "assets/shapes_clip.pt"
CPU = resolve_precision("fp32", "cpu")


def test_the_tool_writes_weights_that_load_like_any_other(tmp_path, capsys):
    out = tmp_path / "small.pt"
    pretrain_embedded.main(
        ["--steps", "2", "--images", "64", "--batch", "16", "--late-steps", "1", "--out", str(out)]
    )
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
        arguments = ["--steps", "2", "--late-steps", "1", "--images", "32", "--batch", "8", "--out"]
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
def found(data_root):
    return measuring.measure(data_root, "assets/shapes_clip.pt")


def test_zero_shot_leaves_something_to_gain_on_base_classes(found):
    base = found["Shapes", "base"]
    assert 45 <= base["zero-shot"] <= 80
    for probe in base["probe"]:
        assert probe >= base["zero-shot"] + 8


def test_different_prompts_win_on_different_styles(found):
    matrix, column = found["matrix"], {style: i for i, style in enumerate(STYLES)}
    others = ("photo", "sketch", "blueprint", "neon")
    icons = column["icon"]
    assert all(matrix["icon"][icons] > matrix[prompt][icons] + 3 for prompt in others)
    photos, sketches = column["photo"], column["sketch"]
    assert matrix["photo"][photos] > matrix["sketch"][photos] + 1
    assert matrix["sketch"][sketches] > matrix["photo"][sketches] + 5


def test_the_documented_figures_are_those_of_the_tool(found):
    page = (ROOT / "docs/embedded_world.md").read_text()
    shown = re.search(
        r"python -m tools.measure_embedded\n```\n\n```text\n(.*?)```", page, re.DOTALL
    )
    ours = [float(x) for x in re.findall(r"\d+\.\d", measuring.report(found))]
    documented = [float(x) for x in re.findall(r"\d+\.\d", shown[1])]
    assert len(ours) == len(documented) > 40
    assert (
        max(abs(a - b) for a, b in zip(ours, documented, strict=True)) <= 2.0
    )  # one image of a cell is 0.6
