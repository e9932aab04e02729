"""The doctor says what is wrong with a dataset and how to mend it, and changes nothing."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest

from dassl.data.datasets import build_dataset
from datasets.splits import PARTS
from runs.config import CONFIGS, default_cfg
from tests.tools.data.archives import picture
from tests.tools.data.command_line import call
from tests.tools.data.toy import command, problems
from tools.data import report
from tools.data.checks import check, spread
from tools.data.names import known_datasets
from tools.data.parts import Images
from tools.data.place import DEVKIT
from tools.data.sources import SOURCES
from tools.doctor import main


def run(capsys, *arguments: str, code: int = 0) -> str:
    """Run the tool; what it prints."""
    return "".join(call(main, capsys, arguments, code))


def test_a_whole_dataset_is_ok(toy, capsys):
    shown = run(capsys, "toy", "--data", str(toy.parent))
    assert [re.split(r"  +", line) for line in shown.splitlines()] == [
        ["dataset", "state", "classes", "train", "val", "test", "decoded"],
        ["-" * 9, "-" * 7, "-" * 9, "-" * 7, "-" * 5, "-" * 6, "-" * 9],
        ["toy", "ok", "3", "9", "3", "3", "15"],
        [""],
        ["toy:"],
        ["", "- note: it has notes"],
    ]


def test_the_doctor_changes_nothing(toy, capsys):
    before = {path: path.stat().st_mtime_ns for path in toy.parent.rglob("*")}
    run(capsys, "--data", str(toy.parent))
    assert {path: path.stat().st_mtime_ns for path in toy.parent.rglob("*")} == before


def test_an_absent_dataset_is_an_error_only_if_it_is_named(toy, capsys):
    shutil.rmtree(toy)
    shown = run(capsys, "--data", str(toy.parent))
    assert shown == f"not in {toy.parent}: toy, shapes\n"
    shown = run(capsys, "toy", "--data", str(toy.parent), code=1)
    assert shown == f"not in {toy.parent}: toy\n  fix: {command(toy)}\n"


def test_a_missing_image_is_told_with_the_command_that_brings_it(toy):
    (toy / "images/bee/4.jpg").unlink()
    assert problems(toy) == [
        ("images has 14 of 15 images", command(toy)),
        ("1 images are missing, images/bee/4.jpg first", ""),
    ]


def test_a_missing_image_among_enough_others_needs_repair(toy):
    (toy / "images/bee/4.jpg").rename(toy / "images/bee/other.jpg")
    assert problems(toy) == [
        ("1 images are missing, images/bee/4.jpg first", f"{command(toy)} --repair")
    ]


def test_what_only_a_person_can_get_is_named_with_its_address(toy):
    (toy / "split_zhou_Toy.json").unlink()
    (what, fix), _ = problems(toy)
    assert what == "split_zhou_Toy.json is not there"
    assert fix == (
        "get split_zhou_Toy.json from https://split.example, put it into "
        f"{toy.parent}/downloads/toy, and run prepare_data again"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"<html>", "cannot identify image file"),
        (picture()[:-10], "image file is truncated"),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named(toy, capsys, content, why):
    path = toy / "images/cat/2.jpg"
    path.write_bytes(content)
    shown = run(capsys, "toy", "--data", str(toy.parent), code=1)
    assert re.search(r"^toy +wrong +3 +9 +3 +3 +14$", shown, re.MULTILINE)
    assert f"\n  - {path} cannot be decoded: {why}" in shown
    assert f"\n    fix: rm {path} && {command(toy)} --repair\n" in shown


def test_of_many_broken_images_five_are_named(toy):
    for path in toy.glob("images/*/*.jpg"):
        path.write_bytes(b"")
    found = problems(toy)
    assert len(found) == 6
    assert found[-1] == ("10 more cannot be decoded", "")


def test_decode_is_spread_over_all_images_or_all_of_them(toy, capsys):
    (toy / "images/cat/4.jpg").write_bytes(b"")  # the last one
    arguments = ("toy", "--data", str(toy.parent), "--decode")
    run(capsys, *arguments, "0")
    run(capsys, *arguments, "14")
    run(capsys, *arguments, "all", code=1)
    run(capsys, *arguments, "15", code=1)
    run(capsys, *arguments, "some", code=2)
    assert spread([str(i) for i in range(10)], 4) == ["0", "2", "5", "7"]


def test_a_damaged_split_file_is_told_once_with_its_fix(tmp_path):
    path = tmp_path / "caltech-101/split_zhou_Caltech101.json"
    (path.parent / "101_ObjectCategories").mkdir(parents=True)
    path.write_text("{")
    images, split = check("caltech101", tmp_path).problems
    assert images.what == "101_ObjectCategories has 0 of 8,242 images"
    told = f"split_zhou_Caltech101.json is there but damaged ({path} is not valid JSON: "
    assert split.what.startswith(told)
    prepare = f"python -m tools.prepare_data caltech101 --data {tmp_path}"
    assert (images.fix, split.fix) == (prepare, f"mv {path} {path}.damaged && {prepare}")


def test_annotations_that_the_reader_refuses_get_a_fix(capsys, tmp_path, monkeypatch):
    source = SOURCES["fgvc_aircraft"]
    part = replace(source.parts[0], images=Images("images", 1, (0,)))
    monkeypatch.setitem(SOURCES, "fgvc_aircraft", replace(source, parts=(part,)))
    folder = tmp_path / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "images/0000001.jpg").write_bytes(picture())
    for name in part.files:
        (folder / name).write_bytes(b"\xff")
    report = check("fgvc_aircraft", tmp_path)
    path = folder / "variants.txt"
    assert [problem.fix for problem in report.problems] == [
        f"mv {path} {path}.damaged && python -m tools.prepare_data fgvc_aircraft --data {tmp_path}"
    ]


def test_a_damaged_file_of_flowers_has_its_fix(capsys, tmp_path):
    path = tmp_path / "oxford_flowers/imagelabels.mat"
    path.parent.mkdir()
    path.write_bytes(b"junk")
    shown = run(capsys, "oxford_flowers", "--data", str(tmp_path), code=1)
    told = "  - imagelabels.mat is there but damaged (imagelabels.mat is damaged, or another file: "
    fix = f"mv {path} {path}.damaged && python -m tools.prepare_data oxford_flowers "
    assert told in shown
    assert f"\n    fix: {fix}--data {tmp_path}\n" in shown


def test_a_dataset_at_the_place_of_another_tool_gets_the_link(capsys, tmp_path):
    found, wanted = tmp_path / "food101", tmp_path / "food-101"
    found.mkdir()
    shown = run(capsys, "food101", "--data", str(tmp_path), code=1)
    assert f"\n  - there is no {wanted}, but {found} is there\n" in shown
    assert shown.endswith(f"\n    fix: ln -s {found} {wanted}\n")


def test_a_link_that_leads_nowhere_is_told(capsys, tmp_path):
    path = tmp_path / "ucf101"
    path.symlink_to("/disk/gone")
    shown = run(capsys, "ucf101", "--data", str(tmp_path), code=1)
    assert f"\n  - {path} is a link to /disk/gone, which is not there\n    fix: let it " in shown
    fix = f"rm {path} && python -m tools.prepare_data ucf101 --data {tmp_path}\n"
    assert shown.endswith(f" or remove it: {fix}")


def test_a_file_where_a_folder_is_expected_is_told(capsys, tmp_path):
    path = tmp_path / "dtd"
    path.write_text("")
    shown = run(capsys, "dtd", "--data", str(tmp_path), code=1)
    fix = f"mv {path} {path}.damaged && python -m tools.prepare_data dtd --data {tmp_path}"
    assert shown.endswith(f"  - {path} is a file, expected a folder\n    fix: {fix}\n")
    shown = run(capsys, "dtd", "--data", str(path), code=1)
    assert shown == f"error: --data {path} is a file, expected the folder of the datasets\n"


def test_images_one_folder_too_deep_get_the_command_that_lifts_them(toy):
    (toy / "images").rename(toy / "moved")
    (toy / "images").mkdir()
    (toy / "moved").rename(toy / "images" / "images")
    assert problems(toy)[0] == (
        "images has 0 of 15 images",
        f"mv {toy}/images/images/* {toy}/images/",
    )


def test_flat_validation_images_of_imagenet(capsys, tmp_path):
    folder = tmp_path / "imagenet/images/val"
    folder.mkdir(parents=True)
    (folder / "ILSVRC2012_val_00000001.JPEG").write_bytes(picture())
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    flat = "images/val has 0 of 50,000 images in class folders: they lie side by side\n"
    assert f"  - {flat}    fix: get {DEVKIT} from https://image-net.org/" in shown
    kit = tmp_path / "downloads/imagenet" / DEVKIT
    kit.parent.mkdir(parents=True)
    kit.write_bytes(b"")
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    assert f"{flat}    fix: python -m tools.prepare_data imagenet --data {tmp_path}\n" in shown


def test_the_embedded_world_is_checked_with_its_reader(capsys, tmp_path):
    cfg = default_cfg()
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(tmp_path), "Digits"
    build_dataset(cfg)
    capsys.readouterr()
    shown = run(capsys, "digits", "--data", str(tmp_path), "--decode", "10")
    assert re.search(r"^digits +ok +10 +600 +100 +1,097 +10$", shown, re.MULTILINE)
    (tmp_path / "digits" / "split.json").unlink()
    shown = run(capsys, "digits", "--data", str(tmp_path), code=1)
    assert "split.json is missing or damaged: delete the folder" in shown


def test_a_name_that_does_not_exist(capsys, tmp_path):
    shown = run(capsys, "shape", "--data", str(tmp_path), code=1)
    assert shown.startswith('error: there is no dataset "shape", do you mean "shapes"?')


def test_all_datasets_of_the_configuration_are_known():
    found = {path.stem for path in (CONFIGS / "datasets").glob("*.yaml")}
    assert set(known_datasets()) == found
    assert {"shapes", "digits", "imagenet"} <= found


def test_a_long_message_is_cut_in_the_middle():
    text = report._shorten("\n".join(f"  line {i}" for i in range(30)))
    assert text == "\n    ".join([*(f"line {i}" for i in range(6)), "...", "line 29"])
    assert report._shorten("one\ntwo") == "one\n    two"


def test_own_data_is_checked_where_it_is(capsys, tmp_path):
    for name in ("ant", "bee"):
        for part in ("train", "test"):
            folder = tmp_path / "mine" / part / name
            folder.mkdir(parents=True)
            (folder / "1.jpg").write_bytes(picture())
    shown = run(capsys, f"folder:{tmp_path}/mine")
    assert re.search(r"^folder:\S+/mine +ok +2 +2 +- +2 +4$", shown, re.MULTILINE)
    path = tmp_path / "mine/train/bee/1.jpg"
    path.write_bytes(b"")
    shown = run(capsys, f"folder:{tmp_path}/mine", code=1)
    assert f"{path} cannot be decoded: the file is empty\n    fix: replace the file" in shown
    path.unlink()
    shown = run(capsys, f"folder:{tmp_path}/mine", code=1)
    assert "bee" in shown.partition("  - ")[2]
    run(capsys, f"csv:{tmp_path}/nowhere.csv", code=1)
    assert run(capsys, "floder:/x", code=1).startswith('error: "floder:/x" is no dataset')


def test_a_published_dataset_is_checked_with_its_reader(capsys, tmp_path):
    """A small FGVCAircraft in its real layout: everything is there but far too little of it."""
    folder = tmp_path / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("707-320\nF/A-18\n")
    for i, part in enumerate(PARTS):
        lines = [f"{2 * i:07} 707-320", f"{2 * i + 1:07} F/A-18"]
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            (folder / "images" / f"{line[:7]}.jpg").write_bytes(picture())
    shown = run(capsys, "fgvc_aircraft", "--data", str(tmp_path), code=1)
    assert re.search(r"^fgvc_aircraft +wrong +2 +2 +2 +2 +6$", shown, re.MULTILINE)
    fix = f"python -m tools.prepare_data fgvc_aircraft --data {tmp_path}"
    assert shown.partition("\nfgvc_aircraft:\n")[2] == (
        f"  - images has 6 of 10,000 images\n    fix: {fix}\n"
        "  - 2 classes, expected 100\n"
        "  - 2 train images, expected 3,334\n"
        "  - 2 val images, expected 3,333\n"
        "  - 2 test images, expected 3,333\n"
    )
