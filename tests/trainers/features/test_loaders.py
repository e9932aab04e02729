"""Features instead of images: the same bits, without the image tower, and never stale."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, default_collate
from torchvision.transforms import Compose, Lambda, RandomApply

import dassl.data
from dassl.data import DatasetWrapper
from dassl.data import data_manager as loading
from dassl.engine import SimpleTrainer
from tests.trainers.features.feature_runs import (
    assert_same_run,
    kinds,
    metrics,
    own_images,
    results,
)
from trainers.backbones.clip_model import FrozenCLIP
from trainers.coop import CoOp
from trainers.features import loaders as feature_loader
from trainers.features.cache import FeatureCache
from trainers.features.loaders import list_digest


def test_an_evaluation_from_the_cache_needs_no_images_and_gives_the_same(
    run, cache, no_images, capsys
):
    plain = run("ZeroshotCLIP", "plain", "CACHE.FEATURES", "False")
    assert kinds(cache) == {}
    first = run("ZeroshotCLIP", "first")
    assert kinds(cache) == {"images": 1, "prompts": 1}
    assert "from the cache" not in capsys.readouterr().out
    no_images()
    second = run("ZeroshotCLIP", "second")
    assert "Image features of 800 images: from the cache" in capsys.readouterr().out
    assert results(plain) == results(first) == results(second)


def test_all_methods_share_the_test_images(run, cache, monkeypatch):
    run("ZeroshotCLIP", "zero")
    trained = run("CoOp", "trained")
    monkeypatch.setattr(FeatureCache, "load", lambda *_: None)
    again = run("CoOp", "again")
    assert_same_run(trained, again)
    assert kinds(cache)["images"] == 1


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
    monkeypatch.setattr(feature_loader, "CODE", feature_loader.CODE[:-1])
    feature_loader._code_digest.cache_clear()
    run("ZeroshotCLIP", "other")
    feature_loader._code_digest.cache_clear()
    assert kinds(cache) == {"images": 2, "prompts": 2}


def test_precision_of_float32_that_is_set_anyhow_is_part_of_the_key():
    program = """
        import torch
        from trainers.features.loaders import _float32_arithmetic as told

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


def test_a_missing_image_is_told_as_without_a_cache(job, cache, refused, tmp_path):
    own_images(tmp_path / "own")
    (tmp_path / "own" / "red" / "5.png").write_bytes(b"no image")
    words = job("ZeroshotCLIP", "DATASET.NAME", f"folder:{tmp_path / 'own'}", "CACHE.DIR",
                str(cache.folder), "DATASET.SUBSAMPLE_CLASSES", "all")  # fmt: skip
    assert "5.png" in refused(words) and "is not a readable image" in refused(words)
    assert kinds(cache).get("images", 0) == 0  # half a split is not kept


def test_validation_does_not_move_the_training(run, cache):
    best = ("DATASET.NAME", "Digits", "TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", "3")
    plain = run("CoOp", "plain", *best, "CACHE.FEATURES", "False")
    first = run("CoOp", "first", *best)
    second = run("CoOp", "second", *best)
    assert [m["split"] for m in metrics(plain)].count("val") == 3
    assert_same_run(plain, first)
    assert_same_run(plain, second)


@pytest.mark.parametrize("name", ["model_inference", "image_features", "parse_batch_test", "test"])
def test_a_method_with_its_own_inference_gets_images(run, cache, monkeypatch, name):
    whole, shapes = getattr(CoOp, name), set()
    encode = FrozenCLIP.encode_image

    def see(self, images):
        shapes.add(tuple(images.shape[1:]))
        return encode(self, images)

    monkeypatch.setattr(CoOp, name, lambda *args: whole(*args), raising=False)
    monkeypatch.setattr(FrozenCLIP, "encode_image", see)
    run("CoOp", "own")
    assert shapes == {(3, 32, 32)} and kinds(cache).get("images", 0) == 0


class Scaled(nn.Module):
    """A module, whose text does not tell the factor."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.factor


class Negative(DatasetWrapper):
    """Items that `data_source` and `transform` do not describe."""

    def __getitem__(self, idx):
        item = super().__getitem__(idx)
        return {**item, "img": -item["img"]}


def negative(items):
    batch = default_collate(items)
    return {**batch, "img": -batch["img"]}


def _from_manager(**more):
    """DataManager with other arguments."""
    manager = dassl.data.DataManager
    return lambda cfg: manager(cfg, **more)


@pytest.mark.parametrize("way", ["lambda", "inner lambda", "module", "wrapper", "collate"])
def test_what_cannot_be_described_is_neither_kept_nor_taken(run, cache, monkeypatch, way):
    run("ZeroshotCLIP", "usual")
    assert kinds(cache)["images"] == 1
    build = loading.build_transform
    last = {
        "lambda": Lambda(lambda image: -image),
        "inner lambda": RandomApply([Lambda(lambda image: -image)], p=1.0),
        "module": Scaled(-1.0),
    }.get(way)
    if last is not None:
        usual = lambda *a, **k: Compose([build(*a, **k), last])  # noqa: E731
        monkeypatch.setattr(loading, "build_transform", usual)
    elif way == "wrapper":
        monkeypatch.setattr(dassl.data, "DataManager", _from_manager(dataset_wrapper=Negative))
    else:
        own_loader(monkeypatch, lambda data: DataLoader(data, 100, collate_fn=negative))
    plain = run("ZeroshotCLIP", "plain", "CACHE.FEATURES", "False")
    again = run("ZeroshotCLIP", "again")
    assert results(plain) == results(again)
    assert results(plain)["correct"] != results(run.folder / "usual")["correct"]
    assert kinds(cache)["images"] == 1


def own_loader(monkeypatch, make) -> None:
    """Let trainers test with the loader `make(dataset)`."""
    build = SimpleTrainer.build_data_loader

    def build_own(self):
        build(self)
        self.test_loader = make(self.test_loader.dataset)

    monkeypatch.setattr(SimpleTrainer, "build_data_loader", build_own)


@pytest.mark.parametrize(
    "make",
    [
        lambda data: DataLoader(
            data, batch_sampler=BatchSampler(SequentialSampler(data), 50, False)
        ),
        lambda data: DataLoader(data, 50, shuffle=True),
        lambda data: list(DataLoader(data, 50)),
    ],
)
def test_other_loaders_are_used_as_they_are(run, cache, monkeypatch, make):
    own_loader(monkeypatch, make)
    test = SimpleTrainer.test
    monkeypatch.setattr(SimpleTrainer, "test", lambda *a, **k: test(*a, **k) and test(*a, **k))
    plain = run("ZeroshotCLIP", "plain", "CACHE.FEATURES", "False")
    assert results(plain) == results(run("ZeroshotCLIP", "other"))
    assert "images" not in kinds(cache)


def test_a_sampler_that_leaves_images_out_is_not_taken_for_all_of_them(run, cache):
    more = ("DATALOADER.TEST.BATCH_SIZE", "20", "DATALOADER.TRAIN_X.N_INS", "2")
    assert results(run("ZeroshotCLIP", "all", *more))["total"] == 800
    some = run("ZeroshotCLIP", "some", *more, "DATALOADER.TEST.SAMPLER", "RandomClassSampler")
    assert results(some)["total"] < 800 and kinds(cache)["images"] == 1


def test_hard_prompts_are_encoded_once(run, cache, monkeypatch):
    first = run("MoPD", "first")
    assert kinds(cache)["prompts"] == 1

    def fail(*_args):
        raise AssertionError("prompts are encoded")

    with monkeypatch.context() as patch:
        patch.setattr(FrozenCLIP, "encode_templates", fail)
        second = run("MoPD", "second")
    assert_same_run(first, second)
    run("MoPD", "other", "TRAINER.MOPD.POOL", "single", "TRAINER.MOPD.NUM_TEACHERS", "1")
    assert kinds(cache)["prompts"] == 2
