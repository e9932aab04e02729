"""The four variants of ImageNet: their layouts, labels, and how a tree can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY
from datasets.errors import DatasetError
from tests.datasets.conftest import settings, touch

# 12 classes, so that 10 sorts before 2 as a text
WNIDS = [f"n{1440764 + 7 * i:08}" for i in range(12)]
NAMES = [*(f"name {i}" for i in range(10)), "missile", "missile"]
PLACES = {
    "ImageNetV2": ("imagenetv2", "imagenetv2-matched-frequency-format-val"),
    "ImageNetSketch": ("imagenet-sketch", "images"),
    "ImageNetA": ("imagenet-adversarial", "imagenet-a"),
    "ImageNetR": ("imagenet-rendition", "imagenet-r"),
}


def write(root: Path, name: str, folders: list[str], lines: list[str] | None = None) -> Path:
    """A variant with two images a folder."""
    folder, images = PLACES[name]
    for inner in folders:
        touch(root / folder / images / inner, ["b.JPEG", "a.JPEG"])
    if lines is None:
        lines = [f"{wnid} {label}" for wnid, label in zip(WNIDS, NAMES, strict=True)]
    (root / folder / "classnames.txt").write_text("\n".join(lines) + "\n")
    return root / folder / images


def load(root: Path, name: str, **more):
    return DATASET_REGISTRY.get(name)(settings(root, **more))


def refusal(root: Path, name: str) -> str:
    with pytest.raises(DatasetError) as error:
        load(root, name)
    message = str(error.value)
    assert message.startswith(f"{name}: ") and "python -m tools.doctor imagenet" in message
    return message


@pytest.mark.parametrize("name", PLACES)
def test_wnid_folders_are_numbered_in_order_whatever_the_shots_and_the_subset(tmp_path, name):
    place = write(tmp_path, name, WNIDS)
    (place / "README.txt").touch()
    for more in ({}, {"shots": 1, "subset": "new", "seed": 3}):
        data = load(tmp_path, name, **more)
        assert data.test_only and data.train_x is data.test and data.val is None
        assert data.classnames == NAMES and data.num_classes == 12
        assert [(i.label, i.classname) for i in data.test[::2]] == list(enumerate(NAMES))
        assert [str(Path(i.impath).relative_to(place)) for i in data.test[:3]] == [
            *(f"{WNIDS[0]}/{file}" for file in ("a.JPEG", "b.JPEG")),
            f"{WNIDS[1]}/a.JPEG",
        ]


@pytest.mark.parametrize("name", ["ImageNetA", "ImageNetR", "ImageNetSketch"])
def test_labels_count_the_folders_that_are_there(tmp_path, name):
    write(tmp_path, name, [WNIDS[7], WNIDS[2]])
    data = load(tmp_path, name)
    assert data.classnames == ["name 2", "name 7"]
    assert [i.label for i in data.test] == [0, 0, 1, 1]


def test_numbered_folders_of_v2_are_lines_of_classnames(tmp_path):
    write(tmp_path, "ImageNetV2", [str(i) for i in range(12)])
    data = load(tmp_path, "ImageNetV2")
    assert data.classnames == NAMES
    assert [Path(i.impath).parent.name for i in data.test[::2]] == [str(i) for i in range(12)]


def test_numbered_folders_need_sorted_classnames(tmp_path):
    lines = [f"{wnid} {wnid}" for wnid in reversed(WNIDS)]
    write(tmp_path, "ImageNetV2", [str(i) for i in range(12)], lines)
    assert "classnames.txt is not sorted by wnid" in refusal(tmp_path, "ImageNetV2")
    (tmp_path / "two").mkdir()
    write(tmp_path / "two", "ImageNetV2", WNIDS, lines)  # wnid folders do not
    assert load(tmp_path / "two", "ImageNetV2").classnames == WNIDS


def test_numbered_folders_must_be_all_there(tmp_path):
    place = write(tmp_path, "ImageNetV2", [str(i) for i in range(11)])
    assert "folders 0 to 11, one for each line" in refusal(tmp_path, "ImageNetV2")
    (place / "11").mkdir()
    assert f"{place / '11'} (missile) has no images" in refusal(tmp_path, "ImageNetV2")
    (place / "012").mkdir()
    assert "missing or too many: 012" in refusal(tmp_path, "ImageNetV2")


@pytest.mark.parametrize("name", PLACES)
def test_what_can_be_wrong(tmp_path, name):
    folder, images = PLACES[name]
    assert f"there is no {tmp_path / folder}" in refusal(tmp_path, name)
    (tmp_path / folder).mkdir()
    place = tmp_path / folder / images
    assert f"there is no {place}" in refusal(tmp_path, name)
    touch(place, ["a.JPEG"])
    assert "images lie side by side" in refusal(tmp_path, name) or "classnames" in refusal(
        tmp_path, name
    )
    write(tmp_path, name, [*WNIDS[:2], "n99999999"])
    assert f"{place} has 1 folders not in classnames.txt (n99999999)" in refusal(tmp_path, name)
    for file in (place / "n99999999").iterdir():
        file.unlink()
    (place / "n99999999").rmdir()
    touch(place / WNIDS[2], ["Thumbs.db"])
    assert f"{place / WNIDS[2]} (name 2) has no images" in refusal(tmp_path, name)


def test_classnames_of_imagenet_serve_its_variants(tmp_path):
    place = write(tmp_path, "ImageNetA", WNIDS[:3])
    own = place.parent / "classnames.txt"
    (tmp_path / "imagenet").mkdir()
    own.rename(tmp_path / "imagenet/classnames.txt")
    assert load(tmp_path, "ImageNetA").classnames == NAMES[:3]
    own.write_text("".join(f"{wnid} own {wnid}\n" for wnid in WNIDS))
    assert load(tmp_path, "ImageNetA").classnames == [f"own {wnid}" for wnid in WNIDS[:3]]


def test_names_that_two_classes_share_are_told(tmp_path, capsys):
    write(tmp_path, "ImageNetSketch", WNIDS)
    load(tmp_path, "ImageNetSketch")
    shown = capsys.readouterr().out
    assert "Note: two classes share a name, as in CoOp: missile\n" in shown
    assert "ImageNetSketch has 24 test images here, 50,889 as published" in shown
