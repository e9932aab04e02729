"""What can be wrong with folders, images and links: each is refused, and the message helps."""

from __future__ import annotations

import os

import pytest

from dassl.data.datasets import DATASET_REGISTRY
from datasets.errors import DatasetError
from tests.datasets.conftest import CLASSES, Tree, settings, touch

# ---- folders and images that are not there


def test_a_good_tree_is_read(tree):
    split = tree.read()
    assert [len(items) for _, items in split.parts()] == [12, 6, 9] and not split.derived


def test_no_folder_of_the_datasets(tree):
    tree.root = tree.root / "nowhere"
    assert f"there is no folder {tree.root} for the datasets (DATA)" in tree.refusal()
    assert not tree.root.exists()


def test_no_folder_of_the_dataset(tree):
    tree.folder.rename(tree.root / "moved")
    assert f"there is no {tree.folder}\n" in tree.refusal()
    assert not tree.folder.exists()


def test_no_images_folder(tree):
    place = tree.images if tree.images != tree.folder else tree.folder / "cars_train"
    place.rename(tree.folder / "else")
    assert f"there is no {place}\n" in tree.refusal()


def test_missing_images_are_counted_and_named(tree):
    gone = [tree.split["train"][0][0], tree.split["train"][5][0], tree.split["test"][8][0]]
    for path in gone:
        (tree.images / path).unlink()
    message = tree.refusal()
    assert "3 of 27 images are missing (2 train, 1 test):\n" in message
    for path in gone:
        assert f"\n  {tree.images}/{path}\n" in message


def test_of_many_missing_images_twenty_are_named(textures):
    for part in textures.split.values():
        for path, *_ in part:
            (textures.images / path).unlink()
    message = textures.refusal()
    assert "27 of 27 images are missing (12 train, 6 val, 9 test)" in message
    assert message.count(f"\n  {textures.images}/") == 20 and "\n  ... and 7 more\n" in message


def test_a_name_in_another_case_is_told(tree):
    path, *_ = tree.split["val"][0]
    (tree.images / path).rename(tree.images / path.replace(".jpg", ".JPG"))
    near = tree.images / path.replace(".jpg", ".JPG")
    assert f"{near} is there, spelled in another way: rename it as listed" in tree.refusal()


def test_a_name_in_another_unicode_form_is_told(textures):
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    textures.split["val"][0][0] = composed
    textures.write()
    touch(textures.images, [decomposed])
    assert f"{textures.images}/{decomposed} is there, spelled in another" in textures.refusal()


def test_a_folder_in_another_case_is_told(textures):
    (textures.images / "class_1").rename(textures.images / "Class_1")
    message = textures.refusal()
    assert "9 of 27 images are missing" in message
    assert f"{textures.images}/Class_1 is there, spelled in another way" in message


@pytest.mark.parametrize(
    ("name", "found", "wanted"),
    [
        ("DescribableTextures", "dtd/dtd/images", "dtd/images"),
        ("EuroSAT", "eurosat/EuroSAT_RGB", "eurosat/2750"),
        ("OxfordPets", "oxford-iiit-pet", "oxford_pets"),
        ("OxfordFlowers", "flowers-102", "oxford_flowers"),
        ("FGVCAircraft", "fgvc-aircraft-2013b/data", "fgvc_aircraft"),
        ("Caltech101", "caltech101", "caltech-101"),
        ("ImageNet", "imagenet/train", "imagenet/images/train"),
        ("ImageNetSketch", "imagenet-sketch/sketch", "imagenet-sketch/images"),
        ("ImageNetA", "imagenet-a", "imagenet-adversarial/imagenet-a"),
    ],
)
def test_where_other_tools_put_the_data_is_known(tmp_path, name, found, wanted):
    (tmp_path / found).mkdir(parents=True)
    if name == "ImageNet":
        (tmp_path / "imagenet/classnames.txt").write_text("n01440764 tench\n")
    elif (tmp_path / wanted).parent != tmp_path:
        (tmp_path / wanted).parent.mkdir(exist_ok=True)
    with pytest.raises(DatasetError) as error:
        DATASET_REGISTRY.get(name).read(tmp_path)
    link = f"ln -s {tmp_path / found} {tmp_path / wanted}"
    assert link in str(error.value)
    if not (tmp_path / wanted).parent.is_dir():
        assert f"mkdir -p {(tmp_path / wanted).parent} && {link}" in str(error.value)


def test_cars_that_lie_one_level_too_deep(tmp_path):
    tree = Tree(tmp_path, "StanfordCars")
    outer = tree.folder / "cars_train"
    outer.rename(tree.folder / "inner")
    outer.mkdir()
    (tree.folder / "inner").rename(outer / "cars_train")
    found = f"{outer}/cars_train is there, one level too deep: move its content to {outer}"
    assert found in tree.refusal()


# ---- links


def test_the_image_folder_may_be_a_link(tree, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    place = tree.images if tree.images != tree.folder else tree.folder / "cars_train"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    assert len(tree.read().train) == 12


def test_links_that_leave_the_image_folder_are_refused(textures, tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.touch()
    image = textures.images / textures.split["test"][0][0]
    image.unlink()
    image.symlink_to(secret)
    assert f"{image} leads to {secret}, out of the image folder" in textures.refusal()
    image.unlink()
    image.symlink_to(textures.images / textures.split["test"][1][0])
    assert len(textures.read().test) == 9, "a link within the folder is good"
    folder = textures.images / "class_2"
    folder.rename(tmp_path / "class_2")
    folder.symlink_to(tmp_path / "class_2")
    assert f"{folder} leads to {tmp_path / 'class_2'}, out of" in textures.refusal()


def test_folders_are_listed_once_and_images_not_touched(textures, monkeypatch):
    listed, looked = [], []
    scandir, lookup = os.scandir, os.path.isfile
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(os.path, "isfile", lambda path: looked.append(str(path)) or lookup(path))
    data = DATASET_REGISTRY.get(textures.name)(settings(textures.root))
    assert len(data.train_x) == 12
    assert sorted(listed) == [str(textures.images / f"class_{i}") for i in range(CLASSES)]
    assert not [path for path in looked if path.endswith(".jpg")]
