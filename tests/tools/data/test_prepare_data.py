"""From a server to the layout that the readers expect, with what goes wrong on the way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import namedtuple
from dataclasses import replace

import pytest

from runs.folder import lock_folder
from tests.tools.data.archives import make, make_tar, picture
from tests.tools.data.local_server import File
from tests.tools.data.published import FILES, SPLIT_JSON, TREES, by_hand, run, tree
from tools.data import checks
from tools.data.sizes import RESERVE, in_bytes
from tools.data.sources import SOURCES
from tools.prepare_data import main

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


@pytest.mark.parametrize("stem", ["stanford_cars", "sun397", "oxford_pets"])
def test_a_mirror_has_what_no_host_has_any_more(server, capsys, tmp_path, stem):
    mirror = ["--mirror", server.url("/lab/"), "--data", str(tmp_path)]
    for part in SOURCES[stem].parts:
        server.files[f"/lab/{stem}/{part.file}"] = server.files.pop(f"/{stem}/{part.file}")
    first = f"download {server.url(f'/lab/{stem}/{SOURCES[stem].parts[0].file}')}"
    assert first in run(capsys, stem, "--dry-run", *mirror)
    assert server.requests == []
    run(capsys, stem, *mirror)
    assert {path for path, _ in server.requests} == {
        f"/lab/{stem}/{part.file}" for part in SOURCES[stem].parts
    }
    assert tree(tmp_path / SOURCES[stem].folder).items() >= TREES[stem].items()


def test_a_mirror_gives_the_published_files_or_is_not_believed(server, capsys, tmp_path):
    server.files["/lab/stanford_cars/cars_train.tgz"] = File(b"packed anew")
    shown = run(
        capsys, "stanford_cars", "--mirror", server.url("/lab"), "--data", str(tmp_path), code=1
    )
    left = shown.partition("error: left undone:\n")[2].splitlines()
    assert len(left) == 2 and "cars_train.tgz" in left[0] and "md5" in left[0]
    assert "404" in left[1] and "By hand: get cars_test.tgz from somebody" in left[1]
    assert (tmp_path / "stanford_cars/split_zhou_StanfordCars.json").is_file()  # as always
    assert not (tmp_path / "stanford_cars/cars_train").exists()


@pytest.mark.parametrize("mirror", ["/home/me", "ftp://host/x", "https://"])
def test_a_mirror_is_an_address(server, capsys, tmp_path, mirror):
    shown = run(capsys, "sun397", "--mirror", mirror, "--data", str(tmp_path / "new"), code=1)
    assert f"--mirror is {mirror}, expected an address as https://host/folder" in shown
    assert not (tmp_path / "new").exists()


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
