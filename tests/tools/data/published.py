"""The archives of published datasets, small, and the trees that they become."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from datasets.splits import PARTS
from tests.tools.data.archives import make
from tests.tools.data.command_line import call
from tools.data.sources import SOURCES
from tools.prepare_data import main

WNIDS = [f"n{i:08}" for i in range(1000)]
CLASSNAMES = "".join(f"{wnid} name {i}\n" for i, wnid in enumerate(WNIDS)).encode()
SPLIT = {
    "train": [["a/1.jpg", 0, "a"]],
    "val": [["a/2.jpg", 0, "a"]],
    "test": [["b/3.jpg", 1, "b"]],
}
SPLIT_JSON = json.dumps(SPLIT).encode()
SPLIT_DIGESTS = tuple(
    hashlib.sha256(line).hexdigest() for line in (b"a/1.jpg\t0\n", b"a/2.jpg\t0\n", b"b/3.jpg\t1\n")
)
PARTITION = {f"images_variant_{split}.txt": b"0000001 x\n" for split in PARTS}

# what is in the real archives: path -> content
ARCHIVES = {
    "101_ObjectCategories.tar.gz": {
        "101_ObjectCategories/Faces/image_0001.jpg": b"1",
        "101_ObjectCategories/ant/image_0001.jpg": b"2",
    },
    "images.tar.gz": {
        "images/pug_1.jpg": b"1",
        "images/pug_2.jpg": b"2",
        "images/._pug_2.jpg": b"junk",
        "images/pug_2.mat": b"3",
    },
    "annotations.tar.gz": {
        "annotations/trainval.txt": b"pug_1 1 1 1\n",
        "annotations/test.txt": b"pug_2 1 1 1\n",
    },
    "102flowers.tgz": {"jpg/image_00001.jpg": b"1", "jpg/image_00002.jpg": b"2"},
    "food-101.tar.gz": {
        "food-101/images/apple_pie/1.jpg": b"1",
        "food-101/images/waffles/2.jpg": b"2",
        "food-101/meta/classes.txt": b"apple_pie\nwaffles\n",
    },
    "fgvc-aircraft-2013b.tar.gz": {
        "fgvc-aircraft-2013b/data/images/0000001.jpg": b"1",
        "fgvc-aircraft-2013b/data/images/0000002.jpg": b"2",
        "fgvc-aircraft-2013b/data/variants.txt": b"F/A-18\n",
        **{f"fgvc-aircraft-2013b/data/{name}": text for name, text in PARTITION.items()},
        "fgvc-aircraft-2013b/README.html": b"?",
    },
    "dtd-r1.0.1.tar.gz": {
        "dtd/images/banded/banded_0001.jpg": b"1",
        "dtd/images/zigzagged/zigzagged_0001.jpg": b"2",
        "dtd/labels/test1.txt": b"?",
    },
    "EuroSAT.zip": {"2750/River/River_1.jpg": b"1", "2750/Forest/Forest_1.jpg": b"2"},
    "UCF-101-midframes.zip": {
        "UCF-101-midframes/Yo_Yo/v_YoYo_g01_c01.jpg": b"1",
        "UCF-101-midframes/Biking/v_Biking_g01_c01.jpg": b"2",
        "__MACOSX/UCF-101-midframes/._x": b"junk",
    },
    "imagenetv2-matched-frequency.tar.gz": {
        "imagenetv2-matched-frequency-format-val/0/a.jpeg": b"1",
        "imagenetv2-matched-frequency-format-val/10/b.jpeg": b"2",
    },
    "ImageNet-Sketch.zip": {
        "sketch/n00000000/sketch_0.JPEG": b"1",
        "sketch/n00000001/sketch_1.JPEG": b"2",
    },
    "imagenet-a.tar": {
        "imagenet-a/n00000000/0.jpg": b"1",
        "imagenet-a/n00000001/1.jpg": b"2",
        "imagenet-a/README.txt": b"?",
    },
    "imagenet-r.tar": {"imagenet-r/n00000000/0.jpg": b"1", "imagenet-r/n00000001/1.jpg": b"2"},
    "cars_train.tgz": {"cars_train/00001.jpg": b"1", "cars_train/00002.jpg": b"2"},
    "cars_test.tgz": {"cars_test/00001.jpg": b"3", "cars_test/00002.jpg": b"4"},
    "SUN397.tar.gz": {
        "SUN397/a/abbey/sun_1.jpg": b"1",
        "SUN397/a/apse/indoor/sun_2.jpg": b"2",
        "SUN397/README.txt": b"?",
    },
}
FILES = {name: make(name, members) for name, members in ARCHIVES.items()}
FILES["caltech-101.zip"] = make(
    "caltech-101.zip",
    {
        "caltech-101/101_ObjectCategories.tar.gz": FILES["101_ObjectCategories.tar.gz"],
        "caltech-101/Annotations.tar": b"?",
        "__MACOSX/caltech-101/._x": b"?",
    },
)
FILES["imagelabels.mat"] = b"matlab"
FILES["classnames.txt"] = CLASSNAMES
for stem in SOURCES:
    for part in SOURCES[stem].parts:
        if part.file.startswith("split_zhou_"):
            FILES[part.file] = SPLIT_JSON

# the tree that each dataset must become, as it is in the archives
TREES = {
    "caltech101": ARCHIVES["101_ObjectCategories.tar.gz"],
    "oxford_pets": {
        name: content
        for archive in ("images.tar.gz", "annotations.tar.gz")
        for name, content in ARCHIVES[archive].items()
        if "._" not in name
    },
    "oxford_flowers": ARCHIVES["102flowers.tgz"] | {"imagelabels.mat": b"matlab"},
    "food101": {
        name.removeprefix("food-101/"): content
        for name, content in ARCHIVES["food-101.tar.gz"].items()
    },
    "fgvc_aircraft": {
        name.removeprefix("fgvc-aircraft-2013b/data/"): content
        for name, content in ARCHIVES["fgvc-aircraft-2013b.tar.gz"].items()
        if "/data/" in name
    },
    "dtd": {
        name.removeprefix("dtd/"): content
        for name, content in ARCHIVES["dtd-r1.0.1.tar.gz"].items()
    },
    "eurosat": ARCHIVES["EuroSAT.zip"],
    "ucf101": {
        name: content
        for name, content in ARCHIVES["UCF-101-midframes.zip"].items()
        if "MACOSX" not in name
    },
    "imagenetv2": ARCHIVES["imagenetv2-matched-frequency.tar.gz"],
    "imagenet_sketch": {
        name.replace("sketch/", "images/", 1): content
        for name, content in ARCHIVES["ImageNet-Sketch.zip"].items()
    },
    "imagenet_a": ARCHIVES["imagenet-a.tar"],
    "imagenet_r": ARCHIVES["imagenet-r.tar"],
    "stanford_cars": ARCHIVES["cars_train.tgz"] | ARCHIVES["cars_test.tgz"],
    "sun397": ARCHIVES["SUN397.tar.gz"],
}
for stem, extra in TREES.items():
    for part in SOURCES[stem].parts:
        if part.file.startswith("split_zhou_"):
            TREES[stem] = extra | {part.file: SPLIT_JSON}
        elif part.file == "classnames.txt":
            TREES[stem] = extra | {part.file: CLASSNAMES}


def tree(folder: Path) -> dict[str, bytes]:
    """Content of each file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def by_hand(data: Path, stem: str, *names: str) -> None:
    """Put files where a user puts them."""
    folder = data / "downloads" / stem
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(FILES[name])


def run(capsys, *arguments: str, code: int = 0) -> str:
    """Run the tool; what it says on both channels."""
    out, err = call(main, capsys, arguments, code)
    assert "Traceback" not in err
    assert bool(err) == bool(code)
    return out + err
