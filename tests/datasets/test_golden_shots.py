"""Shots, cuts and subsets are those that CoOp's own code drew (tests/golden/fewshot.json)."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from scipy.io import savemat

from dassl.data.datasets import DatasetBase
from datasets.common import Listed, subsample_classes
from datasets.errors import DatasetError
from datasets.shots import draw
from datasets.splits import cut_classes, cut_trainval, list_classes
from tests.datasets.conftest import (
    GOLDEN,
    entries,
    touch,
    write_mat_annotations,
    write_mat_names,
    write_split,
)

SHOTS = [(seed, shots) for seed in (1, 2, 3) for shots in (1, 2, 4, 8, 16)]
SYNTHETIC = ("A_balanced", "B_irregular", "C_pool_vs_set_boundary")


def test_the_golden_file_has_the_cases_that_are_tested_here(golden):
    assert set(golden["datasets"]) == set(SYNTHETIC)
    about = golden["about"]
    assert (about["seeds"], about["shots"]) == ([1, 2, 3], [1, 2, 4, 8, 16])
    assert set(golden["derivations"]) == {
        *("stanford_cars", "sun397", "ucf101", "fgvc_aircraft", "imagenet_a_like")
    }
    assert GOLDEN.stat().st_size > 250_000


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_the_generator_of_this_python_is_that_of_the_recording(golden, seed):
    probe = golden["rng_probe"][seed]
    for k in (1, 2, 4, 8, 16):
        assert random.Random(int(seed)).sample(range(30), k) == probe[f"sample(range(30),{k})"]
    generator = random.Random(int(seed))
    three = [generator.sample(range(n), k) for n, k in ((30, 2), (20, 2), (100, 8))]
    name = "sample(range(30),2) then sample(range(20),2) then sample(range(100),8)"
    assert three == probe[name]
    order = list(range(10))
    random.Random(int(seed)).shuffle(order)
    assert order == probe["shuffle(range(10))"]


# ---- whole datasets, through a reader


@pytest.fixture(scope="module", params=SYNTHETIC)
def synthetic(request, golden, tmp_path_factory) -> tuple[dict, Path]:
    """A golden dataset and the tree that holds it, in the layout of DTD."""
    content = golden["datasets"][request.param]
    root = tmp_path_factory.mktemp(request.param)
    split = content["input_split"]
    write_split(root / "dtd/split_zhou_DescribableTextures.json", split)
    touch(root / "dtd/images", [path for part in split.values() for path, *_ in part])
    return content, root


@pytest.mark.parametrize(("seed", "shots"), SHOTS)
def test_shots_and_subsets_of_a_dataset(synthetic, load, seed, shots):
    content, root = synthetic
    expected = content["fewshot"][f"shots={shots},seed={seed}"]
    images = root / "dtd/images"

    def lists(subset: str):
        data = load("DescribableTextures", root, subset=subset, shots=shots, seed=seed)
        return data, *(entries(part, images) for part in (data.train_x, data.val, data.test))

    data, train, val, test = lists("all")
    assert [p for p, *_ in train] == expected["train"]
    assert [label for _, label, _ in train] == expected["train_labels"]
    assert [p for p, *_ in val] == expected["val"]
    assert [label for _, label, _ in val] == expected["val_labels"]
    assert test == content["input_split"]["test"], "the test list is never drawn from"
    assert data.classnames == content["all"]["classnames"]
    assert data.num_classes == content["all"]["num_classes"]
    for subset in ("base", "new"):
        data, train, val, test = lists(subset)
        for found, part in ((train, "train"), (val, "val")):
            assert [p for p, *_ in found] == expected[subset][part]["impaths"]
            assert [label for _, label, _ in found] == expected[subset][part]["labels"]
        rest = content["subsample"][subset]
        assert [p for p, *_ in test] == rest["test"]["impaths"]
        assert [label for _, label, _ in test] == rest["test"]["labels"]
        assert data.classnames == rest["classnames"]
        assert data.num_classes == rest["num_classes"]


@pytest.mark.parametrize("shots", [0, -1])
def test_without_shots_nothing_is_drawn(synthetic, load, shots):
    content, root = synthetic
    data = load("DescribableTextures", root, shots=shots)
    for part, items in (("train", data.train_x), ("val", data.val), ("test", data.test)):
        assert entries(items, root / "dtd/images") == content["input_split"][part]
    for subset, counts in content["full_split_when_shots_below_1"]["counts"].items():
        half = load("DescribableTextures", root, shots=shots, subset=subset)
        found = [len(half.train_x), len(half.val), len(half.test)]
        assert found == [counts["n_train"], counts["n_val"], counts["n_test"]]


@pytest.fixture(scope="module")
def imagenet(golden, tmp_path_factory) -> tuple[dict, Path]:
    """The golden ImageNet in its layout."""
    content = golden["imagenet_like"]
    root = tmp_path_factory.mktemp("imagenet_like")
    for part in ("train", "val"):
        for wnid, names in content[f"{part}_listing"].items():
            touch(root / "imagenet/images" / part / wnid, names)
    (root / "imagenet/classnames.txt").write_text(content["classnames_txt"])
    return content, root


@pytest.mark.parametrize(("seed", "shots"), SHOTS)
def test_shots_of_imagenet(imagenet, load, seed, shots):
    content, root = imagenet
    expected = content["fewshot"][f"shots={shots},seed={seed}"]
    images = root / "imagenet/images"
    data = load("ImageNet", root, shots=shots, seed=seed)
    train = entries(data.train_x, images)
    assert [p for p, *_ in train] == expected["train"]
    assert [label for _, label, _ in train] == expected["train_labels"]
    tested = entries(data.test, images)
    assert [p for p, *_ in tested] == content["all"]["test"]["impaths"]
    for subset in ("base", "new"):
        half = load("ImageNet", root, shots=shots, seed=seed, subset=subset)
        train, test = (entries(items, images) for items in (half.train_x, half.test))
        assert [p for p, *_ in train] == expected[subset]["train"]["impaths"]
        assert [label for _, label, _ in train] == expected[subset]["train"]["labels"]
        rest = content["subsample"][subset]["test"]
        assert [p for p, *_ in test] == rest["impaths"]
        assert [label for _, label, _ in test] == rest["labels"]


def test_classes_of_imagenet(imagenet, load):
    content, root = imagenet
    for subset in ("base", "new"):
        expected = content["subsample"][subset]
        assert load("ImageNet", root, subset=subset).classnames == expected["classnames"]
    assert load("ImageNet", root).classnames == content["all"]["classnames"]


# ---- cuts


def listed(rows) -> list[Listed]:
    return [Listed(*row) for row in rows]


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_a_training_list_is_cut_in_five(golden, seed):
    content = golden["split_trainval"]
    train, val = cut_trainval(listed(content["input"]), random.Random(int(seed)))
    expected = content["by_seed"][seed]
    assert [i.impath for i in train] == expected["train"]
    assert [i.impath for i in val] == expected["val"]
    counts = {label: sum(i.label == int(label) for i in val) for label in content["n_val_by_label"]}
    assert counts == content["n_val_by_label"]


def test_a_class_that_is_too_small_to_be_cut_is_named():
    two = listed([["a.jpg", 0, "ant"], ["b.jpg", 0, "ant"]])
    with pytest.raises(DatasetError, match='class "ant" has 2 training images, at least 3'):
        cut_trainval(two, random.Random(1))
    three = [*two, Listed("c.jpg", 0, "ant")]
    assert [len(part) for part in cut_trainval(three, random.Random(1))] == [2, 1]
    with pytest.raises(DatasetError, match='class "ant" has 3 images, at least 4 are needed'):
        cut_classes(three, random.Random(1))
    four = [*three, Listed("d.jpg", 0, "ant")]
    assert [len(part) for part in cut_classes(four, random.Random(1))] == [2, 1, 1]


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_class_folders_are_cut_in_three(golden, tmp_path, seed):
    content = golden["folder_split"]
    for name, size in content["folder_sizes"].items():
        touch(tmp_path / name, [f"img_{i:03}.jpg" for i in range(size)])
    touch(tmp_path / "car", [".hidden"])
    items = list_classes(tmp_path, content["ignored"], content["renames"])
    lists = cut_classes(items, random.Random(int(seed)))
    for part, found in zip(("train", "val", "test"), lists, strict=True):
        assert found == listed(content["by_seed"][seed][part])
    for label, counts in content["counts_by_label"].items():
        assert [sum(i.label == int(label) for i in part) for part in lists] == counts


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_flowers_are_cut_in_the_order_of_the_images(golden, seed):
    content = golden["flowers_like"]
    items = [
        Listed(f"image_{i:05}.jpg", label - 1, content["cat_to_name"][str(label)])
        for i, label in enumerate(content["labels_1_based"], start=1)
    ]
    lists = cut_classes(items, random.Random(int(seed)))
    for part, found in zip(("train", "val", "test"), lists, strict=True):
        assert found == listed(content["by_seed"][seed][part])


# ---- the stream of CoOp's first run, and ours


@pytest.fixture
def pets(golden, tmp_path) -> tuple[dict, Path]:
    """The golden Pets, without a split file."""
    content = golden["chained_split_then_fewshot"]
    folder = tmp_path / "oxford_pets"
    for part, lines in (("trainval", content["trainval_txt"]), ("test", content["test_txt"])):
        touch(folder / "images", [f"{line.split()[0]}.jpg" for line in lines])
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
    return content, folder


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_shots_on_a_split_that_an_earlier_run_wrote(pets, load, seed):
    content, folder = pets
    expected = content["by_seed"][seed]
    write_split(folder / "split_zhou_OxfordPets.json", expected["written_split_json"])
    data = load("OxfordPets", shots=4, seed=int(seed))
    second = expected["fewshot4_second_run_json_present"]
    for part, items in (("train", data.train_x), ("val", data.val)):
        assert [Path(i.impath).name for i in items] == second[part]


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_the_chained_stream_of_a_first_run_is_understood(golden, seed):
    content = golden["chained_split_then_fewshot"]
    expected = content["by_seed"][seed]
    lines = [line.split() for line in content["trainval_txt"]]
    items = [
        Listed(f"{image}.jpg", int(label) - 1, image.rpartition("_")[0].lower())
        for image, label, *_ in lines
    ]
    stream = random.Random(int(seed))
    train, val = cut_trainval(items, stream)
    assert train == listed(expected["written_split_json"]["train"])
    assert val == listed(expected["written_split_json"]["val"])
    first = expected["fewshot4_first_run_no_json"]
    assert [i.impath for i in draw(train, 4, stream)] == first["train"]
    assert [i.impath for i in draw(val, 4, stream)] == first["val"]


def test_our_first_run_draws_what_every_later_run_draws(pets, load):
    content, folder = pets
    expected = content["by_seed"]["1"]  # the seed of the published cuts, always ours
    first = {seed: load("OxfordPets", shots=4, seed=seed) for seed in (1, 2, 3)}
    later = expected["fewshot4_second_run_json_present"]
    assert [Path(i.impath).name for i in first[1].train_x] == later["train"]
    write_split(folder / "split_zhou_OxfordPets.json", expected["written_split_json"])
    for seed, data in first.items():
        again = load("OxfordPets", shots=4, seed=seed)
        assert data.classnames == again.classnames
        for part in ("train_x", "val", "test"):
            assert [i.impath for i in getattr(data, part)] == [
                i.impath for i in getattr(again, part)
            ]


# ---- from official annotations to items


def check_derived(load, name: str, images: Path, expected: dict) -> None:
    data = load(name)
    for part, items in (("train", data.train_x), ("val", data.val), ("test", data.test)):
        assert entries(items, images) == expected[part]


def test_cars_are_derived_from_the_annotations(golden, load, tmp_path):
    content = golden["derivations"]["stanford_cars"]
    folder = tmp_path / "stanford_cars"
    write_mat_names(folder / "devkit/cars_meta.mat", content["class_names"])
    for part, path in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        write_mat_annotations(folder / path, content[f"{part}_annos"])
        touch(folder / f"cars_{part}", [name for _, name in content[f"{part}_annos"]])
    check_derived(load, "StanfordCars", folder, content["written_split_json"])


def test_flowers_are_derived_from_the_labels(golden, load, tmp_path):
    content = golden["flowers_like"]
    folder = tmp_path / "oxford_flowers"
    labels = content["labels_1_based"]
    touch(folder / "jpg", [f"image_{i + 1:05}.jpg" for i in range(len(labels))])
    savemat(folder / "imagelabels.mat", {"labels": [labels]})
    shuffled = dict(reversed(content["cat_to_name"].items()))
    write_split(folder / "cat_to_name.json", shuffled)
    check_derived(load, "OxfordFlowers", folder / "jpg", content["by_seed"]["1"])


def test_scenes_are_derived_from_the_partition(golden, load, tmp_path):
    content = golden["derivations"]["sun397"]
    folder = tmp_path / "sun397"
    for name in ("ClassName", "Training_01", "Testing_01"):
        lines = content[f"{name}_txt"]
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
        if name != "ClassName":
            touch(folder / "SUN397", [line[1:] for line in lines])
    check_derived(load, "SUN397", folder / "SUN397", content["written_split_json"])


def test_actions_are_derived_from_the_lists(golden, load, tmp_path):
    content = golden["derivations"]["ucf101"]
    folder = tmp_path / "ucf101"
    lists = folder / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    numbered = [f"{i + 1} {action}" for i, action in enumerate(content["classInd"])]
    (lists / "classInd.txt").write_text("\n".join(numbered) + "\n")
    for name in ("trainlist01", "testlist01"):
        (lists / f"{name}.txt").write_text("\n".join(content[name]) + "\n")
    expected = content["written_split_json"]
    images = folder / "UCF-101-midframes"
    touch(images, [path for part in expected.values() for path, *_ in part])
    check_derived(load, "UCF101", images, expected)


def test_aircraft_use_the_official_lists(golden, load, tmp_path):
    content = golden["derivations"]["fgvc_aircraft"]
    folder = tmp_path / "fgvc_aircraft"
    folder.mkdir()
    (folder / "variants.txt").write_text("\n".join(content["variants"]) + "\n")
    for part, lines in content["lists"].items():
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
        touch(folder / "images", [f"{line.split()[0]}.jpg" for line in lines])
    check_derived(load, "FGVCAircraft", folder / "images", content["items"])
    assert not list(folder.glob("*.json")), "no split file is written"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ImageNetA", "imagenet-adversarial/imagenet-a"),
        ("ImageNetR", "imagenet-rendition/imagenet-r"),
    ],
)
def test_a_variant_numbers_its_own_folders(golden, load, tmp_path, name, place):
    content = golden["derivations"]["imagenet_a_like"]
    for wnid in content["folders"]:
        touch(tmp_path / place / wnid, ["b.jpg", "a.jpg"])
    (tmp_path / place / "README.txt").touch()
    (tmp_path / place).with_name("classnames.txt").write_text(content["classnames_txt"])
    data = load(name, shots=16, subset="base")
    assert data.classnames == content["classnames"]
    found = {Path(i.impath).parent.name: i.label for i in data.test}
    assert found == content["labels_by_folder"]
    assert (data.train_x is data.test) is content["train_is_test"]
    assert data.val is content["val"]


# ---- subsets of lists with gaps


def test_subsets_of_lists_whose_labels_have_gaps(golden):
    content = golden["subsample_direct"]
    lists = [listed(content["input"][part]) for part in ("train", "val", "test")]
    for subset in ("all", "base", "new"):
        found = subsample_classes(*lists, subset=subset)
        for part, items in zip(("train", "val", "test"), found, strict=True):
            assert [[i.impath, i.label, i.classname] for i in items] == content[subset][part]
            assert {i.domain for i in items} == {0}
    (train, *_) = subsample_classes(*lists, subset="all")
    assert DatasetBase.get_num_classes(train) == content["num_classes_for_gappy_train"]
    assert DatasetBase.get_lab2cname(train)[1] == content["classnames_for_gappy_train"]


def test_the_shots_do_not_depend_on_where_the_data_lies(synthetic, load, tmp_path):
    _, root = synthetic
    before = load("DescribableTextures", root, shots=2)
    moved = tmp_path / "moved"
    shutil.copytree(root, moved)
    after = load("DescribableTextures", moved, shots=2)
    assert entries(after.train_x, moved) == entries(before.train_x, root)
