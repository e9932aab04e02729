"""ImageNet's reader on a small tree in the real layout, and each way in which a tree is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from datasets.errors import DatasetError
from datasets.imagenet import ImageNet
from runs.config import default_cfg

NAMES = {
    "n01440764": "tench",
    "n01443537": "goldfish",
    "n01484850": "great white shark",
    "n02123045": "tabby cat",
    "n04008634": "missile",
}


@pytest.fixture
def tree(tmp_path) -> Path:
    """Five classes, 6 training and 2 validation images each."""
    folder = tmp_path / "imagenet"
    for split, count in (("train", 6), ("val", 2)):
        for wnid in NAMES:
            (folder / "images" / split / wnid).mkdir(parents=True)
            for i in range(count):
                path = folder / "images" / split / wnid / f"{wnid}_{i}.JPEG"
                Image.new("RGB", (8, 8)).save(path, format="JPEG")
    lines = [f"{wnid} {name}" for wnid, name in reversed(NAMES.items())]
    (folder / "classnames.txt").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def load(root: Path, subset: str = "all", shots: int = -1, seed: int = 1) -> ImageNet:
    cfg = default_cfg()
    cfg.DATASET.ROOT, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), subset
    cfg.DATASET.NUM_SHOTS, cfg.SEED = shots, seed
    return ImageNet(cfg)


def test_classes_are_sorted_wnids_and_val_is_the_test_list(tree):
    data = load(tree)
    assert data.classnames == list(NAMES.values())
    assert (len(data.train_x), len(data.test), data.val) == (30, 10, None)
    assert [i.label for i in data.test] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert all("/val/" in i.impath for i in data.test)


def test_only_train_is_drawn_and_halves_are_cut_after_the_draw(tree):
    base, new = (load(tree, subset, shots=2) for subset in ("base", "new"))
    assert base.classnames == ["tench", "goldfish", "great white shark"]
    assert new.classnames == ["tabby cat", "missile"]
    assert (len(base.train_x), len(base.test)) == (6, 6)
    assert (len(new.train_x), len(new.test)) == (4, 4)
    everything = load(tree, shots=2)
    drawn = [i.impath for i in base.train_x + new.train_x]
    assert drawn == [i.impath for i in everything.train_x]


def test_files_are_listed_in_order_and_strangers_are_left_out(tree):
    folder = tree / "imagenet/images/train/n01440764"
    for name in ("._n01440764_0.JPEG", "Thumbs.db", ".DS_Store"):
        (folder / name).write_bytes(b"")
    tench = [Path(i.impath).name for i in load(tree).train_x if i.label == 0]
    assert tench == [f"n01440764_{i}.JPEG" for i in range(6)]


def test_nothing_is_written_below_the_data(tree):
    before = sorted(tree.rglob("*"))
    load(tree, "base", shots=2)
    assert sorted(tree.rglob("*")) == before


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as error:
        load(root)
    return str(error.value)


def test_no_folder(tmp_path):
    message = refusal(tmp_path)
    assert str(tmp_path / "imagenet") in message and "DATA/imagenet/images/{train,val}" in message


def test_a_flat_validation_folder_is_explained(tree):
    val = tree / "imagenet/images/val"
    for image in list(val.glob("*/*")):
        image.rename(val / image.name)
    for folder in [p for p in val.iterdir() if p.is_dir()]:
        folder.rmdir()
    assert "images lie side by side, without class folders" in refusal(tree)


def test_folders_that_would_shift_labels_are_refused(tree):
    images = tree / "imagenet/images"
    (images / "val/n99999999").mkdir()
    assert "1 not in classnames.txt (n99999999)" in refusal(tree)
    (images / "val/n99999999").rmdir()
    for image in (images / "train/n01443537").iterdir():
        image.unlink()
    assert "n01443537 (goldfish) has no images" in refusal(tree)
    (images / "train/n01443537").rmdir()
    assert "1 without a folder (n01443537)" in refusal(tree)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n01440764\n", "line 1: expected `<wnid> <name>`, found 'n01440764'"),
        ("n01440764 tench\nn01440764 tench\n", "line 2: n01440764 is there twice"),
        ("\n", "is empty"),
        (None, "it names the classes"),
    ],
)
def test_mistakes_in_classnames(tree, text, message):
    path = tree / "imagenet/classnames.txt"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    found = refusal(tree)
    assert message in found and str(path) in found
