"""Features are kept under all that they depend on: never stale, and shared where they may be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.trainers.features.feature_runs import kinds, own_images, results
from trainers.features import keys


@pytest.mark.parametrize(
    "more",
    [
        ("DATALOADER.TEST.BATCH_SIZE", "64"),  # another batch may change last bits
        ("INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]"),
        ("INPUT.INTERPOLATION", "bilinear"),
        ("TRAINER.ZEROSHOTCLIP.PREC", "bf16"),
        ("DATASET.SUBSAMPLE_CLASSES", "new"),
    ],
)
def test_what_changes_features_is_part_of_the_key(run, cache, more):
    run("ZeroshotCLIP", "one")
    run("ZeroshotCLIP", "other", *more)
    assert kinds(cache)["images"] == 2


def test_other_weights_have_other_features(run, cache, tmp_path):
    state = torch.load(Path(__file__).parents[3] / "assets/shapes_clip.pt", weights_only=True)
    state["visual.attnpool.c_proj.bias"] += 1
    torch.save(state, tmp_path / "other.pt")
    run("ZeroshotCLIP", "one")
    run("ZeroshotCLIP", "other", "MODEL.BACKBONE.NAME", str(tmp_path / "other.pt"))
    assert kinds(cache) == {"images": 2, "prompts": 2}


def test_other_code_has_other_features(run, cache, monkeypatch):
    run("ZeroshotCLIP", "one")
    monkeypatch.setattr(keys, "CODE", keys.CODE[:-1])
    keys._code_digest.cache_clear()
    run("ZeroshotCLIP", "other")
    keys._code_digest.cache_clear()
    assert kinds(cache) == {"images": 2, "prompts": 2}


@pytest.mark.parametrize("pattern", keys.CODE)
def test_all_code_that_is_named_is_there_and_part_of_the_key(monkeypatch, pattern):
    whole = keys._code_digest.__wrapped__()
    monkeypatch.setattr(keys, "CODE", [other for other in keys.CODE if other != pattern])
    assert keys._code_digest.__wrapped__() != whole


def test_the_code_that_decodes_an_image_is_part_of_the_key(monkeypatch, tmp_path):
    whole = keys._code_digest.__wrapped__()
    (tmp_path / "other.py").write_text("")
    monkeypatch.setattr(keys.inspect, "getfile", lambda _: str(tmp_path / "other.py"))
    assert keys._code_digest.__wrapped__() != whole


def test_precision_of_float32_that_is_set_anyhow_is_part_of_the_key():
    program = """
        import torch
        from trainers.features.keys import _float32_arithmetic as told

        found = [told()]
        torch.set_float32_matmul_precision("medium")
        found.append(told())
        if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            torch.backends.cuda.matmul.fp32_precision = "ieee"
            found.append(told())
            torch.backends.cudnn.conv.fp32_precision = "ieee"
        else:
            torch.backends.cudnn.allow_tf32 = False
        found.append(told())
        assert len({tuple(one) for one in found}) == len(found), found
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


def test_a_file_that_changed_is_encoded_anew(run, cache, tmp_path):
    """Neither size nor time of a file tells; nor does its place."""
    own_images(tmp_path / "own")
    pairs = ("DATASET.NAME", f"folder:{tmp_path / 'own'}", "DATASET.SUBSAMPLE_CLASSES", "all")
    run("ZeroshotCLIP", "one", *pairs)
    for path in sorted((tmp_path / "own").glob("*/*.png")):
        os.utime(path, (5, 5))
    run("ZeroshotCLIP", "touched", *pairs)
    assert kinds(cache)["images"] == 1
    for path in sorted((tmp_path / "own").glob("*/*.png")):
        content = path.read_bytes()
        Image.new("RGB", (40, 32), (7, 7, 7)).save(path)
        path.write_bytes(path.read_bytes().ljust(len(content), b"\0"))  # PNG ends before
        os.utime(path, (5, 5))
    other = run("ZeroshotCLIP", "other", *pairs)
    assert kinds(cache)["images"] == 2
    assert results(other, "all") == results(
        run("ZeroshotCLIP", "plain", "CACHE.FEATURES", "False", *pairs), "all"
    )


def test_the_same_images_elsewhere_are_not_encoded_again(run, cache, tmp_path):
    own_images(tmp_path / "own")
    shutil.copytree(tmp_path / "own", tmp_path / "copy")
    for name in ("own", "copy"):
        pairs = ("DATASET.NAME", f"folder:{tmp_path / name}", "DATASET.SUBSAMPLE_CLASSES", "all")
        run("ZeroshotCLIP", name, *pairs)
    assert kinds(cache)["images"] == 1


def test_file_names_may_hold_any_bytes(run, cache, tmp_path):
    own_images(tmp_path / "own")
    for path in sorted((tmp_path / "own").glob("*/0.png")):
        os.rename(path, os.fsencode(path.parent) + b"/\xe9t\xe9.png")
    more = ("DATASET.NAME", f"folder:{tmp_path / 'own'}", "DATASET.SUBSAMPLE_CLASSES", "all")
    one, other = (run("ZeroshotCLIP", name, *more) for name in ("one", "other"))
    assert results(one, "all") == results(other, "all") and kinds(cache)["images"] == 1
