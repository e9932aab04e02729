"""Features are kept under all that they depend on: never stale, and shared where they may be."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.trainers.features.feature_runs import kinds, own_images, results
from trainers.features import keys
from trainers.features.keys import list_digest


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
    own_images(tmp_path / "own")
    pairs = ("DATASET.NAME", f"folder:{tmp_path / 'own'}", "DATASET.SUBSAMPLE_CLASSES", "all")
    run("ZeroshotCLIP", "one", *pairs)
    run("ZeroshotCLIP", "same", *pairs)
    assert kinds(cache)["images"] == 1
    for path in sorted((tmp_path / "own").glob("*/*.png")):
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    run("ZeroshotCLIP", "touched", *pairs)
    assert kinds(cache)["images"] == 2


def test_file_names_may_hold_any_bytes(run, cache, tmp_path):
    own_images(tmp_path / "own")
    for path in sorted((tmp_path / "own").glob("*/0.png")):
        os.rename(path, os.fsencode(path.parent) + b"/\xe9t\xe9.png")
    more = ("DATASET.NAME", f"folder:{tmp_path / 'own'}", "DATASET.SUBSAMPLE_CLASSES", "all")
    one, other = (run("ZeroshotCLIP", name, *more) for name in ("one", "other"))
    assert results(one, "all") == results(other, "all") and kinds(cache)["images"] == 1


def test_the_digest_of_a_list_tells_order_labels_sizes_and_times(tmp_path):
    class Item:
        def __init__(self, name: str, label: int):
            self.impath, self.label = str(tmp_path / name), label

    for name in ("a", "b"):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (5, 5))
    lists = [
        [Item("a", 0), Item("b", 1)],
        [Item("b", 1), Item("a", 0)],
        [Item("a", 1), Item("b", 1)],
        [Item("a", 0)],
    ]
    digests = [list_digest(items) for items in lists]
    os.utime(tmp_path / "a", (5, 6))
    digests.append(list_digest(lists[0]))
    (tmp_path / "b").write_text("xy")
    os.utime(tmp_path / "b", (5, 5))
    digests.append(list_digest(lists[0]))
    assert len(set(digests)) == 6 and "" not in digests
    (tmp_path / "b").unlink()
    assert list_digest(lists[0]) == list_digest([]) == list_digest(None) == ""
