"""Features instead of images: the same bits, without the image tower."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
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
from trainers.features.cache import FeatureCache
from trainers.features.loaders import FeatureLoader


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_from_the_cache_are_pinned_for_a_gpu(device, cache, monkeypatch):
    pinned = []

    def pin(self):
        pinned.append(self.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    feature, label = np.arange(10, dtype=np.float32).reshape(5, 2), np.arange(5)
    images = SimpleNamespace(batch_size=2)
    loader = FeatureLoader(images, torch.device(device), lambda images: images, cache, {}, "")
    batches = list(loader.replay(feature, label))
    assert [len(batch["label"]) for batch in batches] == [2, 2, 1]
    for name, kept in (("feature", feature), ("label", label)):
        found = torch.cat([batch[name] for batch in batches])
        assert found.dtype == torch.from_numpy(kept).dtype and found.tolist() == kept.tolist()
    given = [tensor for batch in batches for tensor in batch.values()]
    assert all(any(one is other for other in pinned) for one in given) == (device == "cuda")
    assert len(pinned) == (6 if device == "cuda" else 0)


def test_all_methods_share_the_test_images(run, cache, monkeypatch):
    run("ZeroshotCLIP", "zero")
    trained = run("CoOp", "trained")
    monkeypatch.setattr(FeatureCache, "load", lambda *_: None)
    again = run("CoOp", "again")
    assert_same_run(trained, again)
    assert kinds(cache)["images"] == 1


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
