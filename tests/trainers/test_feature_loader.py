"""Features instead of images: the same bits, without the image tower, and never stale."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, default_collate
from torchvision.transforms import Compose, Lambda, RandomApply

import dassl.data
import train
from dassl.data import DatasetWrapper, dataset_wrapper, image_memory
from dassl.data import data_manager as loading
from dassl.engine import TRAINER_REGISTRY, SimpleTrainer
from tests.trainers.test_every_method import LEARNING
from trainers import feature_loader
from trainers.clip_model import FrozenCLIP
from trainers.coop import CoOp
from trainers.feature_cache import FeatureCache
from trainers.feature_loader import list_digest


def results(run: Path, classes: str = "base") -> dict:
    """results.json without what no two runs share."""
    found = json.loads((run / classes / "results.json").read_text())
    return {key: value for key, value in found.items() if key not in ("seconds", "memory")}


def metrics(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights(run: Path, epoch: int = 2) -> dict[str, torch.Tensor]:
    path = run / f"prompt_learner/model.pth.tar-{epoch}"
    return torch.load(path, weights_only=True)["state_dict"]


def assert_same_run(one: Path, other: Path) -> None:
    assert results(one) == results(other)
    assert metrics(one) == metrics(other)
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """A cache of this test alone."""
    return FeatureCache(tmp_path / "cache", 2.0**30)


@pytest.fixture
def run(job, tmp_path, cache):
    """`run(trainer, name, KEY, VALUE, ...)` trains into a folder `name`, which is returned."""

    def start(trainer: str, name: str, *more: str) -> Path:
        words = job(trainer, *more, "CACHE.DIR", str(cache.folder), output=tmp_path / name)
        train.main(words)
        return tmp_path / name

    start.folder = tmp_path
    return start


@pytest.fixture
def no_images(monkeypatch):
    """From when it is called on, neither the image tower nor an image file may be used."""

    def forbid() -> None:
        def fail(*_args, **_more):
            raise AssertionError("images are read")

        monkeypatch.setattr(FrozenCLIP, "encode_image", fail)
        for module in (dataset_wrapper, image_memory):
            monkeypatch.setattr(module, "read_image", fail)

    return forbid


def kinds(cache: FeatureCache) -> dict[str, int]:
    found = [entry.kind for entry in cache.entries()]
    return {kind: found.count(kind) for kind in sorted(set(found))}


# ---- test images ------------------------------------------------------------------------------


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
    state = torch.load(Path(__file__).parents[2] / "assets/shapes_clip.pt", weights_only=True)
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
        from trainers.feature_loader import _float32_arithmetic as told

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


def own_images(folder: Path) -> None:
    """Two classes with six images each, a class in a folder."""
    for c, colour in enumerate(("red", "blue")):
        (folder / colour).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (40, 32), (200 * c, 10 * i, 50)).save(folder / colour / f"{i}.png")


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


# ---- augmented views --------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNING)
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


# ---- prompts ----------------------------------------------------------------------------------


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
