"""Every reader on its layout: with a split file, and from the raw files where that is possible."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
import yaml
from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import read_image
from datasets.common import Listed, subsample_classes
from datasets.counts import COUNTS, DIGESTS, Counts, count, differences
from datasets.reader import Reader, SplitReader
from datasets.shots import few_shot_lists
from datasets.splits import Split, cut_generator, cut_trainval, read_split
from datasets.ucf101 import rename
from tests.datasets.conftest import entries, settings, touch, write_split

CONFIGS = Path(__file__).resolve().parents[2] / "configs/datasets"
# yaml stem, name, folder below DATA, image folder in it, an image of class 0 and its name
DATASETS = [
    ("caltech101", "Caltech101", "caltech-101", "101_ObjectCategories",
     "Faces/image_0001.jpg", "face"),
    ("oxford_pets", "OxfordPets", "oxford_pets", "images", "Abyssinian_100.jpg", "abyssinian"),
    ("stanford_cars", "StanfordCars", "stanford_cars", "",
     "cars_train/00001.jpg", "2000 AM General Hummer SUV"),
    ("oxford_flowers", "OxfordFlowers", "oxford_flowers", "jpg",
     "image_06734.jpg", "pink primrose"),
    ("food101", "Food101", "food-101", "images", "apple_pie/1005649.jpg", "apple_pie"),
    ("fgvc_aircraft", "FGVCAircraft", "fgvc_aircraft", "images", "0034309.jpg", "707-320"),
    ("sun397", "SUN397", "sun397", "SUN397", "a/apse/indoor/sun_aaa.jpg", "indoor apse"),
    ("dtd", "DescribableTextures", "dtd", "images", "banded/banded_0002.jpg", "banded"),
    ("eurosat", "EuroSAT", "eurosat", "2750",
     "AnnualCrop/AnnualCrop_1.jpg", "Annual Crop Land"),
    ("ucf101", "UCF101", "ucf101", "UCF-101-midframes",
     "Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg", "Apply_Eye_Makeup"),
]  # fmt: skip
WITH_FILE = [row for row in DATASETS if row[1] != "FGVCAircraft"]
VARIANTS = ["ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR"]


def name_of(row) -> str:
    return row[1] if isinstance(row, tuple) else str(row)


def other(path: str, text: str) -> str:
    """Another file beside a given one."""
    return str(Path(path).with_name(text))


@pytest.mark.parametrize("row", DATASETS, ids=name_of)
def test_names_and_folders(row):
    stem, name, folder, images, *_ = row
    content = yaml.safe_load((CONFIGS / f"{stem}.yaml").read_text())
    assert content == {"DATASET": {"NAME": name}}
    reader = DATASET_REGISTRY.get(name)
    assert issubclass(reader, SplitReader) and not reader.test_only
    assert (reader.dataset_dir, reader.image_dir, reader.stem()) == (folder, images, stem)
    assert reader.layout and f"DATA/{folder}/" in reader.help()


def test_every_reader_has_a_layout_counts_and_a_settings_file():
    names = DATASET_REGISTRY.registered_names()
    readers = {n for n in names if issubclass(DATASET_REGISTRY.get(n), Reader)}
    assert readers == set(COUNTS) == {row[1] for row in DATASETS} | {"ImageNet", *VARIANTS}
    for name in readers:
        reader = DATASET_REGISTRY.get(name)
        assert (CONFIGS / f"{reader.stem()}.yaml").is_file()
        assert reader.layout and reader.dataset_dir
        assert reader.test_only is (name in VARIANTS)
    assert set(DIGESTS) < set(COUNTS) and len(DIGESTS) == 7


@pytest.mark.parametrize("row", WITH_FILE, ids=name_of)
def test_a_split_file_is_all_that_is_needed_beside_the_images(row, load, tmp_path):
    _, name, folder, images, first, classname = row
    second = first.replace("cars_train", "cars_test")
    split = {
        "train": [[other(first, f"t{i}.jpg"), i % 2, [classname, "zebra (b/w)"][i % 2]]
                  for i in range(10)],
        "val": [[other(first, f"v{i}.jpg"), i, [classname, "zebra (b/w)"][i]] for i in range(2)],
        "test": [[other(second, f"e{i}.jpg"), i, [classname, "zebra (b/w)"][i]] for i in (1, 0)],
    }  # fmt: skip
    root = tmp_path / folder / images
    touch(root, [path for part in split.values() for path, *_ in part])
    write_split(tmp_path / folder / f"split_zhou_{name}.json", split)
    data = load(name)
    for part, items in (("train", data.train_x), ("val", data.val), ("test", data.test)):
        assert entries(items, root) == split[part]
    assert data.classnames == [classname, "zebra (b/w)"]
    new = load(name, subset="new", shots=4)
    assert new.classnames == ["zebra (b/w)"]
    assert [len(x) for x in (new.train_x, new.val, new.test)] == [4, 1, 1]


# ---- without a split file: class folders (the other ways are in test_golden_shots.py)


@pytest.mark.parametrize(
    ("name", "place", "folders", "expected"),
    [
        (
            "Caltech101",
            "caltech-101/101_ObjectCategories",
            ["accordion", "airplanes", "BACKGROUND_Google", "Faces", "Faces_easy", "Leopards",
             "Motorbikes", "car_side", "water_lilly", "yin_yang"],
            ["face", "leopard", "motorbike", "accordion", "airplane", "car_side", "water_lilly",
             "yin_yang"],
        ),
        ("Food101", "food-101/images", ["waffles", "apple_pie"], ["apple_pie", "waffles"]),
        ("DescribableTextures", "dtd/images", ["zigzagged", "polka-dotted"],
         ["polka-dotted", "zigzagged"]),
        (
            "EuroSAT",
            "eurosat/2750",
            ["SeaLake", "River", "Residential", "PermanentCrop", "Pasture", "Industrial",
             "Highway", "HerbaceousVegetation", "Forest", "AnnualCrop"],
            ["Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road",
             "Industrial Buildings", "Pasture Land", "Permanent Crop Land",
             "Residential Buildings", "River", "Sea or Lake"],
        ),
    ],
)  # fmt: skip
def test_class_folders_are_cut(load, tmp_path, capsys, name, place, folders, expected):
    for folder in folders:
        touch(tmp_path / place / folder, [f"{folder}_{i}.JPG" for i in range(10)])
        touch(tmp_path / place / folder, ["Thumbs.db", "._x.jpg", "desktop.ini"])
    touch(tmp_path / place / "__MACOSX", ["x.jpg"])
    data = load(name)
    assert data.classnames == expected
    assert [len(x) / len(expected) for x in (data.train_x, data.val, data.test)] == [5, 2, 3]
    paths = [i.impath for x in (data.train_x, data.val, data.test) for i in x]
    assert len(set(paths)) == 10 * len(expected)
    assert all(path.endswith(".JPG") and "._" not in path for path in paths)
    shown = capsys.readouterr().out
    differ = "may differ from" if name == "Food101" else "differ from the published ones"
    assert "the lists are derived here" in shown and differ in shown
    again = load(name, seed=3)
    assert entries(again.test, tmp_path) == entries(data.test, tmp_path), "whatever the seed"


def test_the_order_of_actions_is_not_that_of_their_folders(load, tmp_path):
    lists = tmp_path / "ucf101/ucfTrainTestlist"
    lists.mkdir(parents=True)
    actions = ["HammerThrow", "Hammering", "HandstandPushups", "JumpRope", "JumpingJack"]
    official = ["Hammering", "HammerThrow", "HandstandPushups", "JumpingJack", "JumpRope"]
    assert sorted(map(rename, actions)) != [rename(a) for a in official]
    (lists / "classInd.txt").write_text("".join(f"{i + 1} {a}\r\n" for i, a in enumerate(official)))
    for name, groups in (("trainlist01", range(8, 13)), ("testlist01", (1, 2))):
        # the videos of one action are spelled in another way than its folder
        videos = [
            f"{a}/v_{a.replace('stand', 'Stand')}_g{g:02}_c01" for a in official for g in groups
        ]
        end = " 1\r\n" if name == "trainlist01" else "\r\n"  # only training lines have a label
        (lists / f"{name}.txt").write_text("".join(f"{v}.avi{end}" for v in videos) + "\r\n")
        for video in videos:
            action, _, file = video.partition("/")
            touch(tmp_path / "ucf101/UCF-101-midframes" / rename(action), [f"{file}.jpg"])
    data = load("UCF101")
    assert data.classnames == [
        *("Hammering", "Hammer_Throw", "Handstand_Pushups", "Jumping_Jack", "Jump_Rope")
    ]
    assert [Path(i.impath).name for i in data.test if i.label == 2] == [
        "v_HandStandPushups_g01_c01.jpg",
        "v_HandStandPushups_g02_c01.jpg",
    ]


# ---- what is published


def test_counts_that_differ_are_told():
    items = [Listed(f"{i}.jpg", i % 47, f"c{i % 47}") for i in range(2820)]
    split = Split(Path("x"), items, items[:1128], items[:1000])
    assert count(split) == Counts(47, 2820, 1128, 1000)
    assert differences("DescribableTextures", split) == [
        "DescribableTextures has 1,000 test images here, 1,692 as published"
    ]
    assert differences("Shapes", split) == []
    assert COUNTS["ImageNetA"] == Counts(200, None, None, 7_500)
    assert COUNTS["ImageNetSketch"].test == 50_889 and COUNTS["Caltech101"].classes == 100


def test_a_split_file_with_other_lists_than_published_is_told(load, tmp_path, capsys):
    split = {part: [[f"{part}.jpg", 0, "ant"]] for part in ("train", "val", "test")}
    touch(tmp_path / "dtd/images", [path for part in split.values() for path, *_ in part])
    write_split(tmp_path / "dtd/split_zhou_DescribableTextures.json", split)
    load("DescribableTextures")
    assert (
        "Note: the lists in split_zhou_DescribableTextures.json differ from the published ones"
        in capsys.readouterr().out
    )


SPLITS = os.environ.get("SPLITS", "")


@pytest.mark.skipif(not SPLITS, reason="needs SPLITS=<folder of the published split files>")
@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_shots_of_the_published_split_files(golden, name):
    content = golden["real_split_digests"]["datasets"][name]
    split = read_split(Path(SPLITS) / f"split_zhou_{name}.json", Path("images"))
    assert tuple(content["content_digest"].values()) == DIGESTS[name]
    assert differences(name, split) == []
    for case, expected in content["fewshot"].items():
        shots, seed = (int(part.partition("=")[2]) for part in case.split(","))
        cfg = settings(Path("."), shots=shots, seed=seed)
        train, val = few_shot_lists(cfg, split.train, split.val)
        for subset, digests in expected.items():
            lists = subsample_classes(train, val, split.test, subset=subset)
            found = [
                hashlib.sha256(
                    "".join(f"{i.impath}\t{i.label}\n" for i in items).encode()
                ).hexdigest()
                for items in lists
            ]
            assert found[:2] == [digests["train"], digests["val"]], (case, subset)
            assert [len(items) for items in lists] == digests["n"], (case, subset)


# ---- images and folders


def test_images_of_another_kind_than_their_suffix_are_read(load, tmp_path):
    split = {part: [] for part in ("train", "val", "test")}
    kinds = [("PNG", "RGBA"), ("GIF", "P"), ("JPEG", "CMYK"), ("PNG", "I;16"), ("JPEG", "L")]
    for part in split:
        for i, (kind, mode) in enumerate(kinds):
            path = tmp_path / "oxford_pets/images" / f"{part}_{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (4, 4)).save(path, format=kind)
            split[part].append([path.name, i, f"c{i}"])
    write_split(tmp_path / "oxford_pets/split_zhou_OxfordPets.json", split)
    for item in load("OxfordPets").train_x:
        image = read_image(item.impath)
        assert (image.mode, image.size) == ("RGB", (4, 4))


def test_the_data_is_not_written_to(load, tmp_path):
    touch(tmp_path / "dtd/images/banded", [f"{i}.jpg" for i in range(10)])
    touch(tmp_path / "dtd/images/dotted", [f"{i}.jpg" for i in range(10)])
    folders = [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        before = [(p, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))]
        load("DescribableTextures", shots=2, subset="base")
        assert [(p, p.stat().st_mtime_ns) for p in sorted(tmp_path.rglob("*"))] == before
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)


def test_a_changed_split_file_counts_at_once_and_pickles_are_never_opened(load, tmp_path):
    folder = tmp_path / "dtd"
    split = {
        part: [[f"{part}{i}.jpg", i % 2, f"c{i % 2}"] for i in range(8)]
        for part in ("train", "val", "test")
    }
    touch(folder / "images", [path for part in split.values() for path, *_ in part])
    write_split(folder / "split_zhou_DescribableTextures.json", split)
    # the caches of the CoOp codebase: not even looked at
    for name in ("preprocessed.pkl", "split_fewshot/shot_2-seed_1.pkl"):
        touch(folder, [name])
    first = [Path(i.impath).name for i in load("DescribableTextures", shots=2).train_x]
    split["train"].reverse()
    write_split(folder / "split_zhou_DescribableTextures.json", split)
    second = [Path(i.impath).name for i in load("DescribableTextures", shots=2).train_x]
    assert first != second
    assert (folder / "split_fewshot/shot_2-seed_1.pkl").read_bytes() == b""


def test_the_cut_of_a_list_does_not_touch_the_list():
    items = [Listed(f"{i}.jpg", i % 3, f"c{i % 3}") for i in range(30)]
    before = list(items)
    first, again = (cut_trainval(items, cut_generator()) for _ in range(2))
    assert items == before and first == again
    assert sorted(first[0] + first[1]) == sorted(items)
