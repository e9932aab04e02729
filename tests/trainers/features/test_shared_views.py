"""Augmented views that jobs share: the same bits, and never those of others."""

from __future__ import annotations

import os
import random

import pytest
import torch

from dassl.data import DatasetWrapper
from dassl.data import data_manager as loading
from dassl.engine import TRAINER_REGISTRY, SimpleTrainer
from tests.trainers.features.feature_runs import (
    assert_same_run,
    kinds,
    own_images,
)
from tests.trainers.test_every_method import LEARNING
from trainers.coop import CoOp


# features for each image, random numbers of its own, two gradients
@pytest.mark.parametrize("method", ["CoCoOp", "MoPD", "ProGrad"])
def test_runs_with_shared_views_are_the_same_bits(run, cache, method, capsys):
    plain = run(method, "plain", "CACHE.FEATURES", "False")
    first = run(method, "first", "CACHE.VIEWS", "True")
    assert kinds(cache)["views"] == 2
    told = "Features of augmented images: from the cache"
    assert told not in capsys.readouterr().out
    second = run(method, "second", "CACHE.VIEWS", "True")
    assert capsys.readouterr().out.count(told) == 1
    assert kinds(cache)["views"] == 2
    assert_same_run(plain, first)
    assert_same_run(plain, second)


def test_all_methods_of_a_seed_share_their_views(run, cache, no_images):
    run("CoOp", "first", "CACHE.VIEWS", "True")
    no_images()
    for method in LEARNING:
        run(method, f"second-{method}", "CACHE.VIEWS", "True")
    assert kinds(cache)["views"] == 2


@pytest.mark.parametrize(
    "more",
    [
        ("--seed", "2"),
        ("DATALOADER.TRAIN_X.BATCH_SIZE", "8"),
        ("DATALOADER.NUM_WORKERS", "1"),
        ("INPUT.DEVICE_AUGMENT", "True"),
        ("INPUT.TRANSFORMS", "['normalize']"),
        ("DATASET.NUM_SHOTS", "3"),
    ],
)
def test_other_views_are_not_shared(run, cache, more):
    run("CoOp", "one", "CACHE.VIEWS", "True", "TEST.NO_TEST", "True")
    run("CoOp", "other", "CACHE.VIEWS", "True", "TEST.NO_TEST", "True", *more)
    assert kinds(cache)["views"] == 4


def test_views_of_workers_are_shared_as_well(run, cache, no_images):
    more = ("CACHE.VIEWS", "True", "DATALOADER.NUM_WORKERS", "2")
    plain = run("CoOp", "plain", *more[2:])
    first = run("CoOp", "first", *more)
    no_images()
    second = run("CoOp", "second", *more)
    assert_same_run(plain, first)
    assert_same_run(plain, second)


def test_a_lost_epoch_is_computed_again_between_shared_ones(run, cache):
    plain = run("CoOp", "plain", "OPTIM.MAX_EPOCH", "3")
    run("CoOp", "first", "OPTIM.MAX_EPOCH", "3", "CACHE.VIEWS", "True")
    views = [entry for entry in cache.entries() if entry.kind == "views"]
    views[1].path.unlink()
    second = run("CoOp", "second", "OPTIM.MAX_EPOCH", "3", "CACHE.VIEWS", "True")
    assert kinds(cache)["views"] == 3
    assert_same_run(plain, second)


@pytest.mark.parametrize("epochs_in_cache", [0, 1, 3])
def test_a_run_that_is_cut_off_goes_on_with_shared_views(
    run, cache, job, tmp_path, monkeypatch, epochs_in_cache
):
    more = ("OPTIM.MAX_EPOCH", "3", "CACHE.VIEWS", "True")
    plain = run("CoOp", "plain", *more[:2])
    if epochs_in_cache:
        run("CoOp", "filler", "OPTIM.MAX_EPOCH", str(epochs_in_cache), *more[2:])

    whole = CoOp.losses
    steps = []

    def stops_in_the_second_epoch(self, features, label):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return whole(self, features, label)

    small = ("DATALOADER.TRAIN_X.BATCH_SIZE", "32")
    monkeypatch.setattr(CoOp, "losses", stops_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        run("CoOp", "cut", *more, *small)
    monkeypatch.setattr(CoOp, "losses", whole)
    cut = run("CoOp", "cut", *more, *small)
    assert_same_run(plain, cut)


def test_a_step_that_writes_to_its_features_changes_nobodys(run, cache, monkeypatch):
    plain = run("CoOp", "plain", "CACHE.FEATURES", "False")

    def writes(self, features, label):
        found = LOSSES(self, features * 1, label * 1)
        features.zero_()
        label.zero_()
        return found

    def infers(self, features):
        found = predict(self, features)
        features.zero_()
        return found

    predict = CoOp.predict
    with monkeypatch.context() as patch:
        patch.setattr(CoOp, "losses", writes)
        patch.setattr(CoOp, "predict", infers)
        run("CoOp", "first", "CACHE.VIEWS", "True")
    assert kinds(cache) == {"images": 1, "views": 2}
    assert_same_run(plain, run("CoOp", "second", "CACHE.VIEWS", "True"))


@pytest.mark.parametrize("sampler", ["RandomClassSampler", "RandomDomainSampler"])
def test_a_sampler_that_draws_elsewhere_cannot_share_views(job, refused, sampler):
    assert refused(
        job(
            "CoOp",
            "CACHE.VIEWS",
            "True",
            "DATALOADER.TRAIN_X.SAMPLER",
            sampler,
            "DATALOADER.TRAIN_X.BATCH_SIZE",
            "8",
            "DATALOADER.TRAIN_X.N_INS",
            "2",
        )  # fmt: skip
    ).startswith(CANNOT_BE_SHARED)


def test_a_training_image_that_is_gone_is_told(run, job, refused, tmp_path, monkeypatch):
    own_images(tmp_path / "own")
    build = SimpleTrainer.build_data_loader

    def then_remove(self):
        build(self)
        os.remove(self.train_loader_x.dataset.data_source[0].impath)

    monkeypatch.setattr(SimpleTrainer, "build_data_loader", then_remove)
    words = job("CoOp", "DATASET.NAME", f"folder:{tmp_path / 'own'}", "CACHE.VIEWS", "True",
                "DATASET.SUBSAMPLE_CLASSES", "all")  # fmt: skip
    assert refused(words).startswith("No file exists at ")


CANNOT_BE_SHARED = (
    "CACHE.VIEWS is True, but views can only be shared where DATALOADER.TRAIN_X.SAMPLER is "
    "RandomSampler or SequentialSampler"
)
LOSSES = CoOp.losses


def drawing_losses(self, features, label):
    """Draws from torch's global generator in every step."""
    torch.rand(1)
    return LOSSES(self, features, label)


def test_a_method_that_draws_in_its_steps_keeps_no_views(run, cache, monkeypatch, capsys):
    monkeypatch.setattr(CoOp, "losses", drawing_losses)
    plain = run("CoOp", "plain")
    first = run("CoOp", "first", "CACHE.VIEWS", "True")
    assert "Note: views are not kept: the method" in capsys.readouterr().out
    assert "views" not in kinds(cache)
    assert_same_run(plain, first)


def test_a_method_that_draws_in_its_steps_takes_no_views_of_others(
    run, cache, job, refused, monkeypatch, tmp_path
):
    run("CoOp", "first", "CACHE.VIEWS", "True")
    monkeypatch.setattr(CoOp, "losses", drawing_losses)
    words = job("CoOp", "CACHE.VIEWS", "True", "CACHE.DIR", str(cache.folder))
    assert refused(words) == (
        "the method draws from torch's global generator in its steps, which would change the "
        "views: set CACHE.VIEWS False, or draw from a torch.Generator of its own"
    )


def test_a_transform_with_another_generator_keeps_no_views(run, cache, monkeypatch, capsys):
    get = DatasetWrapper.__getitem__

    def draws(self, index):
        random.random()
        return get(self, index)

    monkeypatch.setattr(DatasetWrapper, "__getitem__", draws)
    run("CoOp", "first", "CACHE.VIEWS", "True", "CACHE.FEATURES", "False")
    assert "Note: views are not kept" in capsys.readouterr().out
    assert "views" not in kinds(cache)


@pytest.mark.parametrize("name", ["forward_backward", "image_features", "run_epoch"])
def test_a_method_that_handles_images_by_itself_cannot_share_views(job, refused, monkeypatch, name):
    whole = getattr(CoOp, name)
    own = TRAINER_REGISTRY.get("KgCoOp")
    monkeypatch.setattr(own, name, lambda *args: whole(*args), raising=False)
    assert refused(job("KgCoOp", "CACHE.VIEWS", "True")) == (
        f"CACHE.VIEWS is True, but KgCoOp has its own {name} and may need the images: "
        "set CACHE.VIEWS False"
    )


def test_a_transform_that_does_not_describe_itself_cannot_share_views(job, refused, monkeypatch):
    build = loading.build_transform

    class Opaque:
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, image):
            return self.inner(image)

    monkeypatch.setattr(loading, "build_transform", lambda *a, **k: Opaque(build(*a, **k)))
    assert refused(job("CoOp", "CACHE.VIEWS", "True")).startswith(CANNOT_BE_SHARED)
