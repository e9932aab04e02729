"""Results are bound to what was read for them, by content."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from PIL import Image

import train
from dassl.data.datasets import Datum
from runs import inputs
from runs.config import default_cfg
from runs.inputs import TRAINED_CONTENT_KEY, Listing

NAMES = ("cat", "dog", "owl")


def picture(path: Path, red: int, green: int) -> None:
    """An image whose file has 3,126 bytes, whatever it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (red, green, 90)).save(path, "BMP")


@pytest.fixture
def photos(tmp_path) -> Path:
    """Four images in train and in test for each of three classes."""
    folder = tmp_path / "photos"
    for shift, part in enumerate(("train", "test")):
        for number, name in enumerate(NAMES):
            for i in range(4):
                picture(folder / part / name / f"{i}.bmp", 40 * number + shift, 20 * i)
    return folder


@pytest.fixture
def words(job, photos):
    """Arguments of a short run on the photos."""

    def make(trainer: str, *more: str) -> list[str]:
        own = ("DATASET.NAME", f"folder:{photos}", "DATASET.SUBSAMPLE_CLASSES", "all")
        return job(trainer, *own, "OPTIM.MAX_EPOCH", "1", *more)

    return make


def quietly(path: Path, red: int, green: int) -> None:
    """Another image of the same size and time."""
    status = path.stat()
    picture(path, red, green)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def replace_a_test_image(photos: Path) -> str:
    quietly(photos / "test" / "dog" / "2.bmp", 1, 2)
    return f"measured on other images .* \\(1 changed: {photos}/test/dog/2.bmp\\)"


def lead_a_link_elsewhere(photos: Path) -> str:
    shutil.move(photos / "test", photos.parent / "before")
    shutil.copytree(photos.parent / "before", photos.parent / "after")
    quietly(photos.parent / "after" / "cat" / "0.bmp", 1, 2)
    (photos / "test").symlink_to(photos.parent / "after")
    return f"measured on other images .* \\(1 changed: {photos}/test/cat/0.bmp\\)"


def add_a_test_image(photos: Path) -> str:
    picture(photos / "test" / "dog" / "9.bmp", 1, 2)
    return "measured on other images or labels than"


def swap_test_labels(photos: Path) -> str:
    for name in ("0.bmp", "1.bmp"):
        cat, dog = (photos / "test" / label / name for label in ("cat", "dog"))
        cat.rename(photos / "kept")
        dog.rename(cat)
        (photos / "kept").rename(dog)
    return f"measured on other images .* \\(4 changed: {photos}/test/cat/0.bmp, "


TEST_CHANGES = [replace_a_test_image, lead_a_link_elsewhere, add_a_test_image, swap_test_labels]


@pytest.mark.parametrize("change", TEST_CHANGES)
def test_results_of_other_test_images_are_refused(words, refused, photos, tmp_path, change):
    train.main(words("ZeroshotCLIP", "--eval-only"))
    path = tmp_path / "run" / "all" / "results.json"
    before = path.read_bytes()
    expected = change(photos)
    for _ in range(2):  # it is not forgotten that they are other ones
        message = refused(words("ZeroshotCLIP", "--eval-only"))
        assert_matches(expected, message)
    assert path.read_bytes() == before
    fresh = train.main(words("ZeroshotCLIP", "--eval-only", "--output-dir", str(tmp_path / "new")))
    assert fresh["content"] != json.loads(before)["content"]


def assert_matches(expected: str, message: str) -> None:
    assert re.search(expected, message), message
    assert (
        "choose another output folder (--output-dir, or OUTPUT or TAG for the scripts)" in message
    )


def replace_training_images(photos: Path) -> str:
    for number, name in enumerate(NAMES):
        for i in range(4):
            quietly(photos / "train" / name / f"{i}.bmp", 200 - number, i)
    return f"trained on other images .* \\(6 changed: {photos}/train/cat/"


def move_training_images(photos: Path) -> str:
    for i in range(4):
        (photos / "train" / "cat" / f"{i}.bmp").rename(photos / "train" / "dog" / f"{i + 4}.bmp")
        picture(photos / "train" / "cat" / f"{i + 8}.bmp", 3, i)
    return "trained on other images or labels than"


def add_training_images(photos: Path) -> str:
    for name in NAMES:
        for i in range(30):
            picture(photos / "train" / name / f"0{i}.bmp", 3, i)
    return "trained on other images or labels than"


@pytest.mark.parametrize(
    "change", [replace_training_images, move_training_images, add_training_images]
)
def test_results_of_a_training_on_other_images_are_refused(
    words, refused, photos, tmp_path, change
):
    """Before the results are there, too: a training that was cut off does not go on."""
    train.main(words("CoOp"))
    expected = change(photos)
    assert_matches(expected, refused(words("CoOp")))
    results = tmp_path / "run" / "all" / "results.json"
    results.unlink()
    assert_matches(expected, refused(words("CoOp")))
    elsewhere = ("--resume", str(tmp_path / "run"), "--output-dir", str(tmp_path / "new"))
    assert_matches(expected, refused(words("CoOp", *elsewhere)))
    assert not results.exists() and not (tmp_path / "new" / "config.yaml").exists()


def test_results_whose_settings_were_lost_are_bound_as_well(words, refused, photos, tmp_path):
    first = train.main(words("CoOp"))
    (tmp_path / "run" / "config.yaml").unlink()
    assert train.main(words("CoOp")) == first
    assert "OPTIM.LR is 0.02 there, 0.5 here" in refused(words("CoOp", "OPTIM.LR", "0.5"))
    assert_matches(replace_training_images(photos), refused(words("CoOp")))


def test_validation_images_that_choose_the_model_are_bound_as_well(words, refused, photos):
    for number, name in enumerate(NAMES):
        for i in range(2):
            picture(photos / "val" / name / f"{i}.bmp", 40 * number, 20 * i)
    best = ("TEST.FINAL_MODEL", "best_val")
    train.main(words("CoOp", *best))
    quietly(photos / "val" / "cat" / "0.bmp", 1, 2)
    expected = f"trained on other images .* \\(1 changed: {photos}/val/cat/0.bmp\\)"
    assert_matches(expected, refused(words("CoOp", *best)))


def test_the_split_that_is_tested_is_bound(words, refused, photos):
    for number, name in enumerate(NAMES):
        picture(photos / "val" / name / "0.bmp", 40 * number, 20)
    val = ("--eval-only", "TEST.SPLIT", "val")
    train.main(words("ZeroshotCLIP", *val))
    quietly(photos / "val" / "cat" / "0.bmp", 1, 2)
    assert_matches("measured on other images", refused(words("ZeroshotCLIP", *val)))


def test_the_same_names_below_another_root_are_told_apart_by_content(
    job, data_root, refused, tmp_path, capsys
):
    train.main(job("ZeroshotCLIP", "--eval-only", "DATASET.NAME", "Digits"))
    for copy in ("same", "other"):
        shutil.copytree(data_root / "digits", tmp_path / copy / "digits")
    capsys.readouterr()
    words = job("ZeroshotCLIP", "--eval-only", "DATASET.NAME", "Digits")
    train.main([*words[:1], str(tmp_path / "same"), *words[2:]])
    assert "Results exist already" in capsys.readouterr().out
    for path in (tmp_path / "other" / "digits").rglob("*.png"):
        with Image.open(path) as found:
            found.transpose(Image.Transpose.ROTATE_180).save(path)
    message = refused([*words[:1], str(tmp_path / "other"), *words[2:]])
    assert_matches("measured on other images or labels than Digits has now", message)


def test_results_and_runs_that_do_not_tell_their_content_are_accepted(
    words, photos, tmp_path, monkeypatch
):
    train.main(words("CoOp"))
    results, config = tmp_path / "run" / "all" / "results.json", tmp_path / "run" / "config.yaml"
    older = json.loads(results.read_text())
    assert older.pop("content").keys() == {"train", "test"}
    results.write_text(json.dumps(older))
    settings = yaml.safe_load(config.read_text())
    assert len(settings.pop(TRAINED_CONTENT_KEY)) == 12
    config.write_text(yaml.safe_dump(settings))
    monkeypatch.delattr(inputs, "FileDigests")  # no image need be read
    assert train.main(words("CoOp")) == older


def test_images_that_change_during_a_test_give_no_results(
    words, refused, photos, tmp_path, monkeypatch
):
    from trainers.zsclip import ZeroshotCLIP

    test = ZeroshotCLIP.test

    def changes(self, *args):
        found = test(self, *args)
        quietly(photos / "test" / "cat" / "3.bmp", 1, 2)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ZeroshotCLIP, "test", changes)
        message = refused(words("ZeroshotCLIP", "--eval-only"))
    assert "have changed while they were tested: no results are written" in message
    assert not list(tmp_path.rglob("results.json"))
    train.main(words("ZeroshotCLIP", "--eval-only"))


def test_results_without_their_images_can_be_looked_at_and_are_said_to_be_unchecked(
    words, photos, capsys
):
    first = train.main(words("ZeroshotCLIP", "--eval-only"))
    photos.rename(photos.with_name("elsewhere"))
    capsys.readouterr()
    assert train.main(words("ZeroshotCLIP", "--eval-only")) == first
    said = capsys.readouterr().out
    assert said.startswith("Note: not compared with the images, which cannot be read: Folder: ")
    assert str(photos) in said.splitlines()[0]


def test_results_of_images_that_are_there_but_cannot_be_used_are_not_shown(
    words, refused, photos, job, data_root, tmp_path
):
    train.main(words("ZeroshotCLIP", "--eval-only"))
    gone = photos / "test" / "cat" / "3.bmp"
    gone.unlink()
    gone.symlink_to("nowhere")
    assert refused(words("ZeroshotCLIP", "--eval-only")).startswith("Folder: ")

    shutil.copytree(data_root / "digits", tmp_path / "root" / "digits")
    digits = ["--eval-only", "DATASET.NAME", "Digits", "--output-dir", str(tmp_path / "digits")]
    below = ["--root", str(tmp_path / "root")]
    train.main(job("ZeroshotCLIP", *digits, *below))
    (tmp_path / "root" / "digits" / "split.json").write_text("{")
    message = refused(job("ZeroshotCLIP", *digits, *below))
    assert "split.json is missing or damaged" in message


def test_the_names_of_all_classes_are_part_of_the_content(photos):
    """A class without test images changes zero-shot accuracy, too."""
    cfg = default_cfg()
    items = [Datum(str(photos / "test" / "cat" / "0.bmp"), 0, classname="cat")]
    one, other = (Listing(cfg, names, items) for names in (["cat", "dog"], ["cat", "dog", "yak"]))
    assert one.names == other.names and one.content != other.content


def test_images_that_are_no_files_have_no_content_and_fit_all(photos):
    item = SimpleNamespace(impath="in memory/0", label=0, classname="cat")
    listing = Listing(default_cfg(), ["cat"], [item])
    assert listing.content is None and not listing.differs(listing.names, None)
    assert listing.differs(listing.names, "0" * 12)
    assert listing.what() == " ([Errno 2] No such file or directory: 'in memory/0')"


def test_weights_to_start_from_are_told_apart_by_content(words, refused, tmp_path):
    train.main(words("CoOp", "--output-dir", str(tmp_path / "before")))
    (start,) = (tmp_path / "before").glob("*/model.pth.tar-1")
    pairs = ("MODEL.INIT_WEIGHTS", str(start))
    train.main(words("CoOp", *pairs))
    train.main(words("CoOp", *pairs))
    checkpoint = torch.load(start, weights_only=True)
    checkpoint["state_dict"]["ctx"] += 1
    torch.save(checkpoint, start)
    assert "holds a run with other settings: INIT_WEIGHTS_DIGEST is" in refused(
        words("CoOp", *pairs)
    )
