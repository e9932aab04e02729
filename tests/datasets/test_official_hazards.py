"""What can be wrong with the files that come with a dataset, where it has no split file."""

from __future__ import annotations

import pytest
from scipy.io import savemat

from dassl.data.datasets import DATASET_REGISTRY
from tests.datasets.conftest import (
    PLACES,
    derived,
    touch,
    write_mat_annotations,
    write_mat_names,
)


def test_without_split_file_and_official_files(tree):
    tree.file.unlink()
    if tree.name in ("Caltech101", "Food101", "DescribableTextures", "EuroSAT"):
        assert tree.read().derived
        return
    message = tree.refusal()
    assert f"there is no {tree.file}, and the split cannot be derived: " in message
    assert "cannot read " in message or "there is no " in message.partition("derived")[2]


@pytest.mark.parametrize("name", ["Caltech101", "Food101", "DescribableTextures", "EuroSAT"])
def test_class_folders_that_cannot_be_cut(tmp_path, name):
    folder, images, _ = PLACES[name]
    place = tmp_path / folder / images
    place.mkdir(parents=True)
    assert f"{place} has no class folders" in derived(tmp_path, name)
    touch(place / "ant", ["1.jpg", "2.jpg", "3.jpg", "notes.txt"])
    assert 'class "ant" has 3 images, at least 4 are needed' in derived(tmp_path, name)
    touch(place / "bee", ["Thumbs.db"])
    assert f"the class folder {place / 'bee'} has no images" in derived(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "file", "text", "expected"),
    [
        ("OxfordPets", "annotations/trainval.txt", "Abyssinian_1 1 1",
         "line 1: expected `<breed>_<n> <class from 1>"),
        ("OxfordPets", "annotations/trainval.txt", "\n\nAbyssinian 1 1 1", "line 3: expected"),
        ("OxfordPets", "annotations/trainval.txt", "Abyssinian_1 0 1 1", "line 1: expected"),
        ("OxfordPets", "annotations/trainval.txt", "../x_1 1 1 1\n" * 3, "expected a path below"),
        ("SUN397", "ClassName.txt", "/a/abbey\n/a/abbey\n", "has a class twice"),
        ("SUN397", "Training_01.txt", "/a/abey/sun_1.jpg", "line 1: expected `/<class of ClassNa"),
        ("UCF101", "ucfTrainTestlist/classInd.txt", "Archery\n", "line 1: expected `<number from"),
        ("UCF101", "ucfTrainTestlist/classInd.txt", "1 Archery\n2 Archery", "line 2: expected"),
        ("UCF101", "ucfTrainTestlist/testlist01.txt", "Bowling/v.avi", "line 1: expected `<Action"),
        ("UCF101", "ucfTrainTestlist/testlist01.txt", "Archery/v.mp4", "line 1: expected `<Action"),
        ("FGVCAircraft", "variants.txt", "707-320\n707-320", "has a variant twice"),
        ("FGVCAircraft", "images_variant_val.txt", "12 707-32", "line 1: expected `<image> <vari"),
        ("FGVCAircraft", "images_variant_val.txt", "../12 707-320", "line 1: expected `<image> "),
    ],
)  # fmt: skip
def test_mistakes_in_official_lists(tmp_path, name, file, text, expected):
    good = {
        "OxfordPets": {
            "annotations/trainval.txt": "Abyssinian_1 1 1 1",
            "annotations/test.txt": "",
        },
        "SUN397": {"ClassName.txt": "/a/abbey", "Training_01.txt": "", "Testing_01.txt": ""},
        "UCF101": {
            "ucfTrainTestlist/classInd.txt": "1 Archery",
            "ucfTrainTestlist/trainlist01.txt": "",
            "ucfTrainTestlist/testlist01.txt": "",
        },
        "FGVCAircraft": {
            "variants.txt": "707-320",
            **{f"images_variant_{part}.txt": "" for part in ("train", "val", "test")},
        },
    }[name]
    reader = DATASET_REGISTRY.get(name)
    folder = tmp_path / reader.dataset_dir
    (folder / reader.image_dir).mkdir(parents=True)
    for path, content in {**good, file: text}.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content)
    message = derived(tmp_path, name)
    assert expected in message
    assert str(folder / file) in message or "expected a path below" in expected


def test_a_list_file_that_is_no_text(tmp_path):
    (tmp_path / "oxford_pets/images").mkdir(parents=True)
    touch(tmp_path / "oxford_pets/annotations", ["trainval.txt"])
    path = tmp_path / "oxford_pets/annotations/trainval.txt"
    path.write_bytes(b"\xff\xfeA\0")
    assert (
        f"{path}, line 1: not text in UTF-8. Convert the file, from UTF-16 as it seems: "
        in derived(tmp_path, "OxfordPets")
    )


def test_mistakes_in_the_annotations_of_cars(tmp_path):
    folder = tmp_path / "stanford_cars"
    touch(folder / "cars_train", [f"{i:05}.jpg" for i in range(1, 7)])
    touch(folder / "cars_test", ["00001.jpg"])
    good = [(1 + i % 2, f"{i:05}.jpg") for i in range(1, 7)]
    names, train = folder / "devkit/cars_meta.mat", folder / "devkit/cars_train_annos.mat"
    test = folder / "cars_test_annos_withlabels.mat"
    assert f"there is no {names}" in derived(tmp_path, "StanfordCars")
    write_mat_names(names, ["Audi R8", "Fiat 500 Abarth 2012"])
    assert f"{names}: expected names such as \"Audi R8 2012\", found 'Audi R8'" in derived(
        tmp_path, "StanfordCars"
    )
    write_mat_names(names, ["Audi R8 2012", "Fiat 500 Abarth 2012"])
    train.write_bytes(b"MATLAB 5.0 MAT-file, cut off")
    assert f"{train} cannot be read as a MATLAB file" in derived(tmp_path, "StanfordCars")
    savemat(train, {"annos": [1]})
    assert f'{train} has no variable "annotations"' in derived(tmp_path, "StanfordCars")
    write_mat_annotations(train, [*good, (3, "00007.jpg")])
    assert f"{train}, annotation 7: class is 3, expected 1 to 2" in derived(
        tmp_path, "StanfordCars"
    )
    write_mat_annotations(train, [*good, (1, "../x.jpg")])
    assert f"{train}, annotation 7: expected a file name" in derived(tmp_path, "StanfordCars")
    write_mat_annotations(train, good)
    savemat(test, {"annotations": [{"fname": "00001.jpg"}]})
    assert "unlabelled test annotations will not do" in derived(tmp_path, "StanfordCars")


def test_mistakes_in_the_labels_of_flowers(tmp_path):
    folder = tmp_path / "oxford_flowers"
    (folder / "jpg").mkdir(parents=True)
    labels, names = folder / "imagelabels.mat", folder / "cat_to_name.json"
    assert f"there is no {labels}" in derived(tmp_path, "OxfordFlowers")
    savemat(labels, {"labels": [[1.5, 2.0]]})
    assert "expected a row of whole numbers in labels, found float64" in derived(
        tmp_path, "OxfordFlowers"
    )
    savemat(labels, {"labels": [[1, 1, 1, 1, 2, 2, 2, 2]]})
    assert f"cannot read {names}" in derived(tmp_path, "OxfordFlowers")
    for text in ("[]", '{"1": 3}', '{"one": "rose"}', '{"2": "rose"}', "{}", "[", '{"1": " "}'):
        names.write_text(text)
        message = derived(tmp_path, "OxfordFlowers")
        assert f"{names}: expected names by number" in message or "not valid JSON" in message
    names.write_text('{"1": "rose"}')
    assert "the label of image 5 is 2, without a name in cat_to_name.json" in derived(
        tmp_path, "OxfordFlowers"
    )
