"""From a server to the layout that the readers expect, with what goes wrong on the way."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import os
import re
import shutil
import tarfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import yaml
from torchvision import datasets as tv

from dassl.data.datasets import DATASET_REGISTRY
from datasets import counts
from datasets.counts import COUNTS
from datasets.splits import PARTS
from runs.config import REPOSITORY
from runs.folder import lock_folder
from tests.tools.data.archives import make, make_tar, picture
from tests.tools.data.local_server import File, serving
from tools.data import checks, download, imagenet_archives, preparation
from tools.data.parts import is_split
from tools.data.place import DEVKIT, count_images
from tools.data.sizes import RESERVE, in_bytes
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


@pytest.fixture
def server(monkeypatch):
    """The real table of sources, but two images are complete, and this server has the files."""
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    with serving() as server:
        for stem, source in SOURCES.items():
            changed = []
            for part in source.parts:
                body = FILES.get(part.file, b"")
                path = f"/{stem}/{part.file}"
                server.files[path] = File(body)
                changed.append(
                    replace(
                        part,
                        urls=(server.url(path),) if part.urls else (),
                        digest=f"md5:{hashlib.md5(body).hexdigest()}" if part.digest else "",
                        images=part.images and replace(part.images, count=2),
                        size=len(body),
                    )
                )
            monkeypatch.setitem(SOURCES, stem, replace(source, parts=tuple(changed)))
        for name in counts.DIGESTS:
            monkeypatch.setitem(counts.DIGESTS, name, SPLIT_DIGESTS)
        yield server


def tree(folder: Path) -> dict[str, bytes]:
    """Content of each file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def run(capsys, *arguments: str, code: int = 0) -> str:
    """Run the tool; what it says on both channels."""
    try:
        main(list(arguments))
        stopped = 0
    except SystemExit as stop:
        stopped = stop.code
    shown = capsys.readouterr()
    assert stopped == code, shown.out + shown.err
    assert "Traceback" not in shown.err
    assert bool(shown.err) == bool(code)
    return shown.out + shown.err


def by_hand(data: Path, stem: str, *names: str) -> None:
    """Put files where a user puts them."""
    folder = data / "downloads" / stem
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(FILES[name])


AUTOMATIC = sorted(set(TREES) - {"stanford_cars", "sun397"})


@pytest.mark.parametrize("stem", AUTOMATIC)
def test_a_dataset_is_laid_out_as_its_reader_expects(server, capsys, tmp_path, stem):
    shown = run(capsys, stem, "--data", str(tmp_path))
    assert f"Complete. To check it: python -m tools.doctor {stem} --data {tmp_path}\n" in shown
    folder = tmp_path / SOURCES[stem].folder
    found = tree(folder)
    found.pop("cat_to_name.json", None)
    assert found == TREES[stem]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    requests = len(server.requests)
    again = run(capsys, stem, "--data", str(tmp_path))
    assert len(server.requests) == requests
    assert again.count(": is there\n") == len(SOURCES[stem].parts)


@pytest.mark.parametrize("stem", ["stanford_cars", "sun397"])
def test_what_only_a_person_can_get_is_named_and_taken_when_it_is_there(
    server, capsys, tmp_path, stem
):
    shown = run(capsys, stem, "--data", str(tmp_path), code=1)
    archives = [part.file for part in SOURCES[stem].parts if not part.urls]
    left = shown.partition("error: left undone:\n")[2].splitlines()
    assert len(left) == len(archives)
    for line, archive in zip(left, archives, strict=True):
        assert f"get {archive} from somebody who has it (" in line
        assert "https://github.com/" in line
        assert f"put it into {tmp_path}/downloads/{stem}, and run prepare_data again" in line
    by_hand(tmp_path, stem, *archives)
    run(capsys, stem, "--data", str(tmp_path))
    assert tree(tmp_path / SOURCES[stem].folder) == TREES[stem]
    kept = {f"{name}": FILES[name] for name in archives}
    assert tree(tmp_path / "downloads" / stem).items() >= kept.items()


def test_one_dataset_that_fails_does_not_stop_the_others(server, capsys, tmp_path):
    server.files["/dtd/dtd-r1.0.1.tar.gz"].faults = [404]
    shown = run(capsys, "dtd", "eurosat", "--data", str(tmp_path), code=1)
    error = shown.partition("error: left undone:\n")[2]
    assert error == (
        f"  - dtd, images: {server.url('/dtd/dtd-r1.0.1.tar.gz')}: the server answers 404 (Not "
        "Found). By hand: get dtd-r1.0.1.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/dtd/, "
        f"put it into {tmp_path}/downloads/dtd, and run prepare_data again\n"
    )
    assert tree(tmp_path / "eurosat") == TREES["eurosat"]
    name = "split_zhou_DescribableTextures.json"
    assert tree(tmp_path / "dtd") == {name: SPLIT_JSON}  # the other part is done


def test_a_download_that_is_cut_off_continues_in_the_next_run(server, capsys, tmp_path):
    file = server.files["/eurosat/EuroSAT.zip"]
    half = len(file.body) // 2
    file.faults = [f"truncate {half}", *[500] * 5]
    run(capsys, "eurosat", "--data", str(tmp_path), code=1)
    server.requests.clear()
    run(capsys, "eurosat", "--data", str(tmp_path))
    assert server.requests == [("/eurosat/EuroSAT.zip", f"bytes={half}-")]
    assert tree(tmp_path / "eurosat") == TREES["eurosat"]


def test_a_quota_page_of_google_drive_is_no_split_file(server, capsys, tmp_path):
    server.files["/food101/split_zhou_Food101.json"].faults = ["page"]
    shown = run(capsys, "food101", "--data", str(tmp_path), code=1)
    assert 'a web page ("Google Drive - Quota exceeded") instead of the file' in shown
    page = "https://drive.google.com/file/d/1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl/view"
    assert f"By hand: get split_zhou_Food101.json from {page}, put it into" in shown
    assert not (tmp_path / "food-101" / "split_zhou_Food101.json").exists()


def test_a_half_tree_of_the_user_is_filled_and_nothing_of_it_changes(server, capsys, tmp_path):
    mine = {"images/banded/banded_0001.jpg": b"user's", "images/notes.txt": b"mine"}
    for name, content in mine.items():
        (tmp_path / "dtd" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dtd" / name).write_bytes(content)
    run(capsys, "dtd", "--data", str(tmp_path))
    assert tree(tmp_path / "dtd") == TREES["dtd"] | mine


def test_a_kill_while_files_move_in_is_mended_by_the_next_run(
    server, capsys, tmp_path, monkeypatch
):
    rename, calls = os.rename, []

    def dying(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            main(["fgvc_aircraft", "--data", str(tmp_path)])
    assert tree(tmp_path / "fgvc_aircraft") != TREES["fgvc_aircraft"]
    server.requests.clear()
    run(capsys, "fgvc_aircraft", "--data", str(tmp_path))
    assert tree(tmp_path / "fgvc_aircraft") == TREES["fgvc_aircraft"]
    assert server.requests == []  # the archive was there


def test_repair_adds_an_image_that_is_missing_though_there_are_enough(server, capsys, tmp_path):
    run(capsys, "imagenet_a", "--data", str(tmp_path))
    image = tmp_path / "imagenet-adversarial/imagenet-a/n00000000/0.jpg"
    image.unlink()
    (image.parent / "9.jpg").write_bytes(b"enough")
    run(capsys, "imagenet_a", "--data", str(tmp_path))
    assert not image.exists()
    run(capsys, "imagenet_a", "--data", str(tmp_path), "--repair")
    assert image.read_bytes() == b"1"
    assert (image.parent / "9.jpg").read_bytes() == b"enough"


def test_a_tree_of_torchvision_is_linked(server, capsys, tmp_path):
    for archive, top in (("images.tar.gz", "images"), ("annotations.tar.gz", "annotations")):
        for name, content in ARCHIVES[archive].items():
            path = tmp_path / "oxford-iiit-pet" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert (tmp_path / "oxford-iiit-pet" / top).is_dir()
    run(capsys, "oxford_pets", "--data", str(tmp_path))
    assert server.requests == []
    assert os.readlink(tmp_path / "oxford_pets" / "images") == "../oxford-iiit-pet/images"
    assert (tmp_path / "oxford_pets/annotations/test.txt").read_bytes() == b"pug_2 1 1 1\n"


def test_an_incomplete_tree_of_torchvision_is_not_linked(server, capsys, tmp_path):
    (tmp_path / "dtd/dtd/images/banded").mkdir(parents=True)
    (tmp_path / "dtd/dtd/images/banded/banded_0001.jpg").write_bytes(b"only one")
    run(capsys, "dtd", "--data", str(tmp_path))
    assert not (tmp_path / "dtd/images").is_symlink()
    assert tree(tmp_path / "dtd/images") == {"banded/banded_0001.jpg": b"1",
                                             "zigzagged/zigzagged_0001.jpg": b"2"}  # fmt: skip
    assert (tmp_path / "dtd/dtd/images/banded/banded_0001.jpg").read_bytes() == b"only one"


def test_a_tree_one_folder_too_deep_is_not_downloaded_again(server, capsys, tmp_path):
    for name, content in ARCHIVES["EuroSAT.zip"].items():
        path = tmp_path / "eurosat/2750" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "eurosat/split_zhou_EuroSAT.json").write_bytes(SPLIT_JSON)
    told = f"its images lie one folder too deep: mv {tmp_path}/eurosat/2750/2750/* "
    assert told in run(capsys, "eurosat", "--dry-run", "--data", str(tmp_path))
    assert told in run(capsys, "eurosat", "--data", str(tmp_path), code=1)
    assert server.requests == []


def test_a_variant_uses_the_names_of_imagenet(server, capsys, tmp_path):
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "classnames.txt").write_bytes(CLASSNAMES)
    planned = run(capsys, "imagenet_a", "--dry-run", "--data", str(tmp_path))
    assert "  classnames.txt: is there\n" in planned  # though its own folder is not
    run(capsys, "imagenet_a", "--data", str(tmp_path))
    assert tree(tmp_path / "imagenet-adversarial") == ARCHIVES["imagenet-a.tar"]
    assert [path for path, _ in server.requests] == ["/imagenet_a/imagenet-a.tar"]


@pytest.mark.parametrize(
    ("stem", "file", "content", "message"),
    [
        (
            "dtd",
            "split_zhou_DescribableTextures.json",
            b'{"train": []}',
            "expected the keys train, val and test",
        ),
        ("dtd", "split_zhou_DescribableTextures.json", b"[1, 2", "is not valid JSON"),
        (
            "dtd",
            "split_zhou_DescribableTextures.json",
            json.dumps(SPLIT | {"val": []}).encode(),
            "does not list the images of the published split",
        ),
        (
            "imagenet_a",
            "classnames.txt",
            b"n1 one\nn0 zero\n",
            "has 2 classes, expected 1000, sorted",
        ),
        (
            "imagenet_a",
            "classnames.txt",
            b"".join(reversed(CLASSNAMES.splitlines(keepends=True))),
            "has 1000 classes, expected 1000, sorted by wnid: delete it, and get it from",
        ),
        ("imagenet_a", "classnames.txt", b"n0\n", "line 1: expected `<wnid> <name>`, found 'n0'"),
    ],
)
def test_a_list_with_another_content_does_not_move_in(
    server, capsys, tmp_path, stem, file, content, message
):
    server.files[f"/{stem}/{file}"].body = content
    shown = run(capsys, stem, "--data", str(tmp_path), code=1)
    assert message in shown
    assert f"{tmp_path}/downloads/{stem}/{file}" in shown
    assert not (tmp_path / SOURCES[stem].folder / file).exists()


@pytest.mark.parametrize(
    ("stem", "file", "content", "why"),
    [
        ("dtd", "split_zhou_DescribableTextures.json", b"{", "{} is not valid JSON: "),
        (
            "dtd",
            "split_zhou_DescribableTextures.json",
            json.dumps(SPLIT | {"val": []}).encode(),
            "{} does not list the images of the published split)",
        ),
        ("oxford_flowers", "imagelabels.mat", b"junk", "imagelabels.mat is damaged, or another"),
        ("oxford_flowers", "cat_to_name.json", b"\xff", "{} is not valid JSON: "),
        ("imagenet_a", "classnames.txt", b"junk\n", "{}, line 1: expected `<wnid> <name>`, "),
    ],
)
def test_a_small_file_that_is_damaged_is_told_and_kept_until_it_is_moved_away(
    server, capsys, tmp_path, stem, file, content, why
):
    run(capsys, stem, "--data", str(tmp_path))
    path = tmp_path / SOURCES[stem].folder / file
    good = path.read_bytes()
    path.write_bytes(content)
    before = tree(tmp_path)
    command = f"python -m tools.prepare_data {stem} --data {tmp_path}"
    for flag in ((), ("--dry-run",), ("--repair",)):
        shown = run(capsys, stem, "--data", str(tmp_path), *flag, code=1)
        told = shown.partition("error: left undone:\n")[2]
        assert told.startswith(
            f"  - {stem}, {file}: {file} is there but damaged ({why.format(path)}"
        )
        assert told.endswith(f"): move it away: mv {path} {path}.damaged && {command}\n")
        assert f"  {file}: is there\n" not in shown
        assert tree(tmp_path) == before
    path.rename(f"{path}.damaged")
    run(capsys, stem, "--data", str(tmp_path))
    assert path.read_bytes() == good
    path.write_bytes(content)  # once more: what was moved away stays
    shown = run(capsys, stem, "--data", str(tmp_path), code=1)
    assert f"mv {path} {path}.damaged1 && " in shown


def test_a_damaged_file_that_stands_for_another_is_told(server, capsys, tmp_path):
    (tmp_path / "imagenet").mkdir()
    names = tmp_path / "imagenet/classnames.txt"
    names.write_text("junk\n")
    shown = run(capsys, "imagenet_a", "--data", str(tmp_path), code=1)
    assert f": move it away: mv {names} {names}.damaged && python -m tools.prepare_data" in shown
    (tmp_path / "imagenet-adversarial/classnames.txt").write_bytes(CLASSNAMES)  # goes first
    run(capsys, "imagenet_a", "--data", str(tmp_path))
    split = tmp_path / "oxford_flowers/split_zhou_OxfordFlowers.json"
    split.parent.mkdir()
    split.write_bytes(SPLIT_JSON)
    (split.parent / "imagelabels.mat").write_bytes(b"nobody reads it beside a split file")
    run(capsys, "oxford_flowers", "--data", str(tmp_path))


def test_a_damaged_file_of_another_tool_is_not_linked(server, capsys, tmp_path):
    (tmp_path / "food101").mkdir()
    (tmp_path / "food101/split_zhou_Food101.json").write_text("{")
    run(capsys, "food101", "--data", str(tmp_path))
    path = tmp_path / "food-101/split_zhou_Food101.json"
    assert (path.is_symlink(), path.read_bytes()) == (False, SPLIT_JSON)


def test_an_archive_with_too_few_images_is_not_called_complete(server, capsys, tmp_path):
    server.files["/imagenet_r/imagenet-r.tar"].body = make_tar({"imagenet-r/n00000000/0.jpg": b"1"})
    shown = run(capsys, "imagenet_r", "--data", str(tmp_path), code=1)
    assert "imagenet-r has 1 of 2 images, after all of imagenet-r.tar is in place" in shown


def test_a_damaged_archive_of_the_user_is_refused_and_kept(server, capsys, tmp_path):
    by_hand(tmp_path, "sun397", "SUN397.tar.gz")
    path = tmp_path / "downloads/sun397/SUN397.tar.gz"
    path.write_bytes(b"damaged")
    shown = run(capsys, "sun397", "--data", str(tmp_path), code=1)
    assert f"its md5 is {hashlib.md5(b'damaged').hexdigest()}, expected " in shown
    assert path.read_bytes() == b"damaged"


def test_no_download_begins_where_the_disk_is_too_small(server, capsys, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, RESERVE + 10))
    shown = run(capsys, "oxford_pets", "--data", str(tmp_path), code=1)
    size = 2 * (len(FILES["images.tar.gz"]) + len(FILES["annotations.tar.gz"]))
    assert f"oxford_pets needs {in_bytes(size)} of disk" in shown
    assert server.requests == []
    assert not (tmp_path / "oxford_pets").exists()


def test_a_folder_that_cannot_be_written_is_told(server, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    shown = run(capsys, "dtd", "--data", str(tmp_path / "file"), code=1)
    assert f"dtd: cannot write {tmp_path}/file/downloads/dtd: Not a directory; choose" in shown


def test_two_processes_do_not_prepare_the_same_dataset(server, capsys, tmp_path):
    with lock_folder(tmp_path / "downloads" / "dtd", "another folder"):
        shown = run(capsys, "dtd", "--data", str(tmp_path), code=1)
    told = (
        f"dtd: another process works in {tmp_path}/downloads/dtd: wait for it, or choose another "
    )
    assert f"{told}folder with --data\n" in shown
    run(capsys, "dtd", "--data", str(tmp_path))


def test_dry_run_says_everything_and_does_nothing(server, capsys, tmp_path):
    by_hand(tmp_path, "stanford_cars", "cars_test.tgz")
    before = tree(tmp_path)
    shown = run(capsys, "stanford_cars", "oxford_flowers", "--dry-run", "--data", str(tmp_path))
    lines = [line.strip() for line in shown.splitlines()]
    assert lines[0] == f"stanford_cars -> {tmp_path}/stanford_cars"
    assert lines[1].startswith("cars_train: BY HAND: get cars_train.tgz from somebody")
    assert lines[2] == f"cars_test: unpack {tmp_path}/downloads/stanford_cars/cars_test.tgz"
    assert lines[5].startswith(f"jpg: download {server.url('/oxford_flowers/102flowers.tgz')} (")
    assert lines[7] == "cat_to_name.json: write it (the names are part of torchvision)"
    assert server.requests == []
    assert tree(tmp_path) == before


def test_list_shows_what_is_there(server, capsys, tmp_path):
    run(capsys, "dtd", "oxford_pets", "--data", str(tmp_path))
    shutil.rmtree(tmp_path / "oxford_pets" / "annotations")
    rows = [
        re.split(r"  +", line)
        for line in run(capsys, "--list", "--data", str(tmp_path)).splitlines()
    ]
    table = {row[0]: row[1:] for row in rows[2:]}
    assert list(table) == list(SOURCES)
    assert table["dtd"][0] == "yes"
    assert table["dtd"][-1] == "complete"
    assert table["oxford_pets"][-1] == "1 of 2 parts"
    assert table["stanford_cars"][:2] == ["partly", "cars_train.tgz, cars_test.tgz"]


def test_a_name_that_does_not_exist(capsys, tmp_path):
    shown = run(capsys, "oxford_pet", "--data", str(tmp_path), code=1)
    assert shown.startswith('error: there is no dataset "oxford_pet", do you mean "oxford_pets"?')
    assert list(tmp_path.iterdir()) == []


def test_no_name_at_all_shows_the_usage(capsys):
    assert "give names of datasets, or --list" in run(capsys, code=2)


def test_the_embedded_world_needs_nothing(capsys, tmp_path):
    shown = run(capsys, "shapes", "--data", str(tmp_path))
    assert shown == "shapes needs no preparation: it is made on first use\n"


def test_the_names_of_flowers_are_those_of_the_published_file(server, capsys, tmp_path):
    run(capsys, "oxford_flowers", "--data", str(tmp_path))
    names = json.loads((tmp_path / "oxford_flowers/cat_to_name.json").read_text())
    assert list(names) == [str(i) for i in range(1, 103)]
    assert (names["1"], names["60"], names["12"]) == (
        "pink primrose", "pink-yellow dahlia", "colt's foot"
    )  # fmt: skip
    assert "?" not in "".join(names.values())


# ImageNet: archives of archives


def devkit(labels: list[int], wnids: list[str]) -> bytes:
    """A development kit: synsets in another order than their wnids, and a class for each image."""
    synsets = np.array(
        [(i, wnid, f"name {i}", "", 0, 0, 0, 1) for i, wnid in enumerate(wnids, start=1)],
        dtype=[(name, object) for name in "ILSVRC2012_ID WNID words gloss num_children "
               "wordnet_height children num_train_images".replace("  ", " ").split()],
    )  # fmt: skip
    # a synset above the leaves is no class
    synsets = np.append(
        synsets, np.array([(99, "n99999999", "top", "", 3, 0, 0, 0)], synsets.dtype)
    )
    file = io.BytesIO()
    scipy.io.savemat(file, {"synsets": synsets})
    top = "ILSVRC2012_devkit_t12/data"
    truth = "".join(f"{label}\n" for label in labels).encode()
    return make_tar(
        {
            f"{top}/meta.mat": file.getvalue(),
            f"{top}/ILSVRC2012_validation_ground_truth.txt": truth,
        },
        compressed=True,
    )


@pytest.fixture
def imagenet(server, monkeypatch):
    """Archives of ImageNet with three classes: name -> bytes."""
    wnids = ["n00000007", "n00000003", "n00000005"]
    classes = {
        f"{wnid}.tar": make_tar({f"{wnid}_{i}.JPEG": f"{wnid} {i}".encode() for i in range(2)})
        for wnid in wnids
    }
    val = {f"ILSVRC2012_val_{i:08}.JPEG": f"val {i}".encode() for i in (1, 2, 3, 4)}
    files = {
        "ILSVRC2012_img_train.tar": make_tar(classes),
        "ILSVRC2012_img_val.tar": make_tar(val),
        DEVKIT: devkit([3, 1, 2, 1], wnids),
    }
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in files.items()}
    monkeypatch.setitem(tv.imagenet.ARCHIVE_META, "devkit", (DEVKIT, md5[DEVKIT]))
    source = SOURCES["imagenet"]
    counts = {"ILSVRC2012_img_train.tar": 6, "ILSVRC2012_img_val.tar": 4}
    changed = tuple(
        replace(
            part,
            digest=f"md5:{md5[part.file]}",
            images=replace(part.images, count=counts[part.file]),
        )
        if part.file in counts
        else part
        for part in source.parts
    )
    monkeypatch.setitem(SOURCES, "imagenet", replace(source, parts=changed))
    for name, body in files.items():
        monkeypatch.setitem(FILES, name, body)
    return files


VAL = {
    "images/val/n00000005/ILSVRC2012_val_00000001.JPEG": b"val 1",
    "images/val/n00000007/ILSVRC2012_val_00000002.JPEG": b"val 2",
    "images/val/n00000003/ILSVRC2012_val_00000003.JPEG": b"val 3",
    "images/val/n00000007/ILSVRC2012_val_00000004.JPEG": b"val 4",
}
TRAIN = {
    f"images/train/{wnid}/{wnid}_{i}.JPEG": f"{wnid} {i}".encode()
    for wnid in ("n00000003", "n00000005", "n00000007")
    for i in range(2)
}


def test_imagenet_is_unpacked_from_the_archives_of_the_user(imagenet, capsys, tmp_path):
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    page = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (with a login)"
    assert f"get ILSVRC2012_img_train.tar from {page}, put it into" in shown
    assert f"get ILSVRC2012_img_val.tar and {DEVKIT} from {page}, put them into" in shown
    by_hand(tmp_path, "imagenet", *imagenet)
    run(capsys, "imagenet", "--data", str(tmp_path))
    assert tree(tmp_path / "imagenet") == TRAIN | VAL | {"classnames.txt": CLASSNAMES}
    assert set(imagenet) <= {path.name for path in (tmp_path / "downloads/imagenet").iterdir()}


def test_training_images_continue_after_a_kill_and_keep_what_the_user_has(
    imagenet, capsys, tmp_path, monkeypatch
):
    by_hand(tmp_path, "imagenet", *imagenet)
    half = tmp_path / "imagenet/images/train/n00000003"
    half.mkdir(parents=True)
    (half / "n00000003_0.JPEG").write_bytes(b"user's")
    merge = imagenet_archives.merge

    def dying(source, target):
        merge(source, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(imagenet_archives, "merge", dying)
        with pytest.raises(KeyboardInterrupt):
            main(["imagenet", "--data", str(tmp_path)])
    assert len(tree(tmp_path / "imagenet/images/train")) == 3
    run(capsys, "imagenet", "--data", str(tmp_path))
    kept = {"images/train/n00000003/n00000003_0.JPEG": b"user's"}
    assert tree(tmp_path / "imagenet") == TRAIN | VAL | kept | {"classnames.txt": CLASSNAMES}


def test_classes_that_are_complete_are_not_unpacked_again(imagenet, capsys, tmp_path, monkeypatch):
    by_hand(tmp_path, "imagenet", *imagenet)
    run(capsys, "imagenet", "--data", str(tmp_path))
    shutil.rmtree(tmp_path / "imagenet/images/train/n00000005")
    unpacked = []
    extract = tarfile.TarFile.extract

    def recording(self, member, *args, **kwargs):
        unpacked.append(member.name)
        return extract(self, member, *args, **kwargs)

    monkeypatch.setattr(tarfile.TarFile, "extract", recording)
    run(capsys, "imagenet", "--data", str(tmp_path))
    assert unpacked == ["n00000005_0.JPEG", "n00000005_1.JPEG"]
    assert tree(tmp_path / "imagenet") == TRAIN | VAL | {"classnames.txt": CLASSNAMES}


def test_validation_images_side_by_side_are_sorted_by_links(imagenet, capsys, tmp_path):
    folder = tmp_path / "imagenet/images/val"
    folder.mkdir(parents=True)
    flat = {f"ILSVRC2012_val_{i:08}.JPEG": f"val {i}".encode() for i in (1, 2, 3, 4)}
    for name, content in flat.items():
        (folder / name).write_bytes(content)
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    assert f"get {DEVKIT} from https://image-net.org" in shown
    assert "get ILSVRC2012_img_val.tar" not in shown
    by_hand(tmp_path, "imagenet", "ILSVRC2012_img_train.tar", DEVKIT)
    run(capsys, "imagenet", "--data", str(tmp_path))
    sorted_ones = {name.removeprefix("images/val/"): content for name, content in VAL.items()}
    assert tree(folder) == flat | sorted_ones
    first = folder / "ILSVRC2012_val_00000001.JPEG"
    assert first.samefile(folder / "n00000005" / first.name)


def test_a_damaged_development_kit_is_refused(imagenet, capsys, tmp_path):
    by_hand(tmp_path, "imagenet", *imagenet)
    (tmp_path / "downloads/imagenet" / DEVKIT).write_bytes(b"?")
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    assert f"{DEVKIT} is damaged, its md5 is not that of ILSVRC2012" in shown
    assert tree(tmp_path / "imagenet/images/train")
    assert not (tmp_path / "imagenet/images/val").exists()


# the table itself


def test_addresses_and_digests_are_those_of_torchvision():
    known = {part.file: part for source in SOURCES.values() for part in source.parts}

    def given(name):
        return known[name].urls, known[name].digest

    for url, md5 in tv.OxfordIIITPet._RESOURCES:
        assert given(url.rpartition("/")[2]) == ((url,), f"md5:{md5}")
    for kind in ("image", "label"):
        name, md5 = tv.Flowers102._file_dict[kind]
        assert given(name) == ((tv.Flowers102._download_url_prefix + name,), f"md5:{md5}")
    for reader in (tv.Food101, tv.DTD):
        name = reader._URL.rpartition("/")[2]
        assert given(name) == ((reader._URL,), f"md5:{reader._MD5}")
    assert known["fgvc-aircraft-2013b.tar.gz"].urls == (tv.FGVCAircraft._URL,)
    assert known["SUN397.tar.gz"].digest == f"md5:{tv.SUN397._DATASET_MD5}"
    for name, reader in (("caltech-101.zip", tv.Caltech101), ("EuroSAT.zip", tv.EuroSAT)):
        (url,), digest = given(name)
        source = inspect.getsource(reader.download)
        assert f'"{url}"' in source
        assert f'"{digest.removeprefix("md5:")}"' in source
    for kind, part in (("train", "ILSVRC2012_img_train.tar"), ("val", "ILSVRC2012_img_val.tar")):
        assert tv.imagenet.ARCHIVE_META[kind] == (part, known[part].digest.removeprefix("md5:"))
    assert tv.imagenet.ARCHIVE_META["devkit"][0] == DEVKIT


def test_every_part_says_where_a_person_gets_it_and_names_are_unique():
    for stem, source in SOURCES.items():
        files = [part.file for part in source.parts]
        assert len(set(files)) == len(files), stem
        for part in source.parts:
            assert "https://" in part.by_hand, part.file
            assert part.images or part.files, part.file
            assert part.how != "archive" or part.content, part.file
            if part.how == "file":
                assert part.files == (part.file,)


@pytest.mark.parametrize("stem", SOURCES)
def test_a_source_fits_its_reader(stem):
    config = REPOSITORY / "configs" / "datasets" / f"{stem}.yaml"
    source = SOURCES[stem]
    assert yaml.safe_load(config.read_text())["DATASET"]["NAME"] == source.reader
    _, *published = COUNTS[source.reader]
    images = sum(part.images.count for part in source.parts if part.images)
    assert images == sum(number or 0 for number in published)
    splits = [part.file for part in source.parts if is_split(part.file)]
    assert splits in ([], [f"split_zhou_{source.reader}.json"])
    reader = DATASET_REGISTRY.get(source.reader)
    places = {f"images/{part}" for part in ("train", "val")}
    if stem != "imagenet":
        places = {
            f"{reader.image_dir}/{root}".strip("/") for root in getattr(reader, "roots", [""])
        }
    assert {part.images.folder for part in source.parts if part.images} == places


def test_a_prepared_dataset_is_read_by_its_reader(server, capsys, tmp_path):
    images, lists = {}, {"trainval": "", "test": ""}
    for label, breed in enumerate(("Abyssinian", "pug"), start=1):
        for i in range(7):
            images[f"images/{breed}_{i}.jpg"] = picture()
            lists["test" if i > 4 else "trainval"] += f"{breed}_{i} {label} 1 1\n"
    annotations = {f"annotations/{name}.txt": text.encode() for name, text in lists.items()}
    for name, members in (("images.tar.gz", images), ("annotations.tar.gz", annotations)):
        server.files[f"/oxford_pets/{name}"].body = make(name, members)
    parts = [replace(part, digest="") for part in SOURCES["oxford_pets"].parts]
    SOURCES["oxford_pets"] = replace(SOURCES["oxford_pets"], parts=tuple(parts))
    run(capsys, "oxford_pets", "--data", str(tmp_path))
    report = checks.check("oxford_pets", tmp_path)
    assert report.numbers == {"classes": 2, "train": 8, "val": 2, "test": 4}
    assert report.decoded == 14
    assert [problem.what for problem in report.problems] == [
        "2 classes, expected 37",
        "8 train images, expected 2,944",
        "2 val images, expected 736",
        "4 test images, expected 3,669",
    ]


def test_the_page_says_what_the_table_of_sources_says():
    text = (REPOSITORY / "docs" / "prepare_data.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `([\w-]+)` \| (yes|partly) \| (.*?) \|", text, re.MULTILINE)
    assert [row[:3] for row in rows] == [
        (stem, source.folder, preparation.automatic(source)) for stem, source in SOURCES.items()
    ]
    for stem, _, _, by_hand in rows:
        files = {part.file for part in SOURCES[stem].parts if part.only_by_hand}
        named = set(re.findall(r"`([\w.]+)`", by_hand))
        assert named == files | ({DEVKIT} if stem == "imagenet" else set())


def test_images_are_counted_at_their_depth(tmp_path):
    for name in (
        "1.jpg",
        "a/2.JPEG",
        "a/b/3.png",
        "a/b/c/4.jpg",
        "a/.5.jpg",
        ".h/6.jpg",
        "a/7.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [count_images(tmp_path, depths) for depths in ((0,), (1,), (2, 3), (0, 2))] == [
        1,
        1,
        2,
        2,
    ]
    assert count_images(tmp_path / "nowhere", (0,)) == 0
    assert count_images(tmp_path / "1.jpg", (0,)) == 0
