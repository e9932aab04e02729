"""What can be wrong with a dataset's files: each mistake is refused, and the message helps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.splits import Split, check_split, read_split
from tests.datasets.conftest import (
    settings,
    touch,
    write_mat_annotations,
    write_mat_names,
    write_split,
)

# folder below DATA, image folder in it, where the images of a class lie
PLACES = {
    "Caltech101": ("caltech-101", "101_ObjectCategories", "class_{}/"),
    "OxfordPets": ("oxford_pets", "images", "class_{}_"),
    "StanfordCars": ("stanford_cars", "", "cars_train/{}"),
    "OxfordFlowers": ("oxford_flowers", "jpg", "image_{}"),
    "Food101": ("food-101", "images", "class_{}/"),
    "SUN397": ("sun397", "SUN397", "a/class_{}/indoor/sun_"),
    "DescribableTextures": ("dtd", "images", "class_{}/"),
    "EuroSAT": ("eurosat", "2750", "class_{}/"),
    "UCF101": ("ucf101", "UCF-101-midframes", "Class_{}/v_Class"),
}
CLASSES = 3


class Tree:
    """A dataset with a split file, and what a test does to it."""

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        folder, images, self.start = PLACES[name]
        self.folder = root / folder
        self.images = self.folder / images
        self.file = self.folder / f"split_zhou_{name}.json"
        self.split = {
            part: [
                [f"{self.start.format(label)}{part[:2]}{i}.jpg", label, f"class {label}"]
                for label in range(CLASSES)
                for i in range(count)
            ]
            for part, count in (("train", 4), ("val", 2), ("test", 3))
        }
        touch(self.images, [path for part in self.split.values() for path, *_ in part])
        if name == "StanfordCars":
            (self.folder / "cars_test").mkdir()
        self.write()

    def write(self) -> None:
        write_split(self.file, self.split)

    def read(self) -> Split:
        return DATASET_REGISTRY.get(self.name).read(self.root)

    def refusal(self) -> str:
        with pytest.raises(DatasetError) as error:
            self.read()
        message = str(error.value)
        assert message.startswith(f"{self.name}: ")
        assert f"DATA/{self.folder.name}/" in message, "the layout is told"
        assert "python -m tools.prepare_data" in message and "python -m tools.doctor" in message
        return message


@pytest.fixture(params=sorted(PLACES))
def tree(request, tmp_path) -> Tree:
    return Tree(tmp_path, request.param)


@pytest.fixture
def textures(tmp_path) -> Tree:
    return Tree(tmp_path, "DescribableTextures")


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


# ---- split files


def edit(change: Callable[[dict], object]) -> Callable[[Tree], None]:
    def apply(tree: Tree) -> None:
        change(tree.split)
        tree.write()

    return apply


MISTAKES = {
    "no JSON": (lambda t: t.file.write_text("{"), "is not valid JSON: "),
    "no UTF-8": (lambda t: t.file.write_bytes(b"\xff\xfe{}"), "is not valid JSON: "),
    "deep nesting": (lambda t: t.file.write_text("[" * 200_000), "is not valid JSON: "),
    "a list": (lambda t: t.file.write_text("[]"), "the keys train, val and test, found list"),
    "a key is missing": (edit(lambda s: s.pop("val")), "found ['test', 'train']"),
    "a key too many": (edit(lambda s: s.update(more=[])), "found ['more', 'test', 'train', 'val']"),
    "no list": (edit(lambda s: s.update(val={})), ", val: expected a list"),
    "two values": (edit(lambda s: s["test"][3].pop()), "test[3]: expected [path, label, class n"),
    "four values": (edit(lambda s: s["test"][3].append(0)), "test[3]: expected [path, label, cla"),
    "no path": (edit(lambda s: s["val"][1].__setitem__(0, 7)), "val[1]: the path is 7, expected"),
    "empty path": (edit(lambda s: s["val"][1].__setitem__(0, "")), "val[1] is '': expected a path"),
    "text label": (edit(lambda s: s["val"][1].__setitem__(1, "0")), "val[1]: the label is '0', ex"),
    "float label": (edit(lambda s: s["val"][1].__setitem__(1, 0.0)), "val[1]: the label is 0.0, e"),
    "bool label": (edit(lambda s: s["val"][1].__setitem__(1, True)), "val[1]: the label is True, "),
    "negative": (edit(lambda s: s["val"][1].__setitem__(1, -1)), "val[1]: the label is -1, expect"),
    "empty name": (edit(lambda s: s["val"][1].__setitem__(2, " ")), "val[1]: the class name is ' "),
    "absolute path": (
        edit(lambda s: s["val"][1].__setitem__(0, "/etc/x.jpg")), "val[1] is '/etc/x.jpg': expecte",
    ),
    "way out": (
        edit(lambda s: s["val"][1].__setitem__(0, "a/../../x.jpg")), "val[1] is 'a/../../x.jpg': ",
    ),
    "drive letter": (
        edit(lambda s: s["val"][1].__setitem__(0, "C:x.jpg")), "val[1] is 'C:x.jpg': expected a ",
    ),
    "backslash": (
        edit(lambda s: s["val"][1].__setitem__(0, "a\\x.jpg")), "val[1] is 'a\\\\x.jpg': expected",
    ),
    "zero byte": (
        edit(lambda s: s["val"][1].__setitem__(0, "a\0.jpg")), "val[1] is 'a\\x00.jpg': expected",
    ),
    "a gap": (
        edit(lambda s: [e.__setitem__(1, 5) for p in s.values() for e in p if e[1] == 1]),
        "labels must be 0 to C-1, but 1, 3, 4 of 0 to 5 are not used",
    ),
    "two names": (
        edit(lambda s: s["test"][8].__setitem__(2, "Class 2")),
        'label 2 has two names, "class 2" and "Class 2" (test, ',
    ),
    "no test images": (
        edit(lambda s: s.update(test=s["test"][:6])), "1 of 3 classes have no test image: class 2",
    ),
    "no val images": (
        edit(lambda s: s.update(val=[])), "3 of 3 classes have no val image: class 0, class 1, cl",
    ),
    "no train images": (
        edit(lambda s: s.update(train=s["train"][4:])), "1 of 3 classes have no train image: cl",
    ),
    "empty": (edit(lambda s: s.update(train=[], val=[], test=[])), "the lists are empty"),
    "twice": (
        edit(lambda s: s["train"].append(s["train"][0])), "is listed twice (train and train)",
    ),
    "leak": (
        edit(lambda s: s["test"].append(["./" + s["train"][0][0], 0, "class 0"])),
        "is listed twice (train and test)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_split_file(tree, mistake):
    change, expected = MISTAKES[mistake]
    change(tree)
    message = tree.refusal()
    assert expected in message
    assert str(tree.file) in message


def test_a_split_file_of_absurd_size_is_not_read(textures):
    with textures.file.open("wb") as file:
        file.truncate(200_000_000)
    assert "has 200,000,000 bytes, no split file is that large" in textures.refusal()


def test_a_byte_order_mark_and_line_ends_of_windows_do_not_matter(textures):
    before = textures.read()
    text = textures.file.read_text().replace("\n", "\r\n")
    textures.file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert textures.read() == before


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["train", "val", "test", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values, st.sampled_from(["train", "val", "test"]))
def test_no_content_of_a_split_file_ends_in_another_error(tmp_path_factory, value, part):
    path = tmp_path_factory.getbasetemp() / "any.json"
    for content in (value, {"train": [], "val": [], "test": [], part: value}):
        path.write_text(json.dumps(content))
        try:
            check_split(read_split(path, path.parent))
        except DatasetError:
            continue
        raise AssertionError(f"{content} is no split")


def test_a_label_of_many_digits_is_refused_quickly():
    items = [Listed("a.jpg", 10**12, "a")]
    with pytest.raises(DatasetError, match="labels must be 0 to C-1, but 0, 1, 2, 3, 4, ... of"):
        check_split(Split(Path("x"), items, [], []))


# ---- the official files, without a split file


def test_without_split_file_and_official_files(tree):
    tree.file.unlink()
    if tree.name in ("Caltech101", "Food101", "DescribableTextures", "EuroSAT"):
        assert tree.read().derived
        return
    message = tree.refusal()
    assert f"there is no {tree.file}, and the split cannot be derived: " in message
    assert "cannot read " in message or "there is no " in message.partition("derived")[2]


def derived(root: Path, name: str) -> str:
    with pytest.raises(DatasetError) as error:
        DATASET_REGISTRY.get(name).read(root)
    return str(error.value)


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
    assert f"{path} is not text in UTF-8" in derived(tmp_path, "OxfordPets")


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
