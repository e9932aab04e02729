"""Own data: class folders and tables, and every mistake that users make with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import train
from dassl.data.datasets import build_dataset
from datasets.errors import DatasetError
from datasets.files import images
from datasets.own import Csv, Folder, run_name, split_name
from tests.datasets.conftest import entries, settings, touch

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def build(name: str, path: Path, **more):
    cfg = settings(path.parent, **more)
    cfg.DATASET.NAME, cfg.DATASET.PATH = name, str(path)
    return build_dataset(cfg)


def lists(data, root: Path) -> list[list]:
    return [entries(items or [], root) for items in (data.train_x, data.val, data.test)]


def refusal(reader, path: Path | str) -> str:
    with pytest.raises(DatasetError) as error:
        reader.read(str(path))
    message = str(error.value)
    assert message.startswith(f"{reader.__name__}: ") and "\nExpected: " in message
    assert "docs/datasets.md" in message
    return message


# ---- names on the command line


def test_names_of_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_name("folder:birds") == ("Folder", str(tmp_path / "birds"))
    assert split_name("csv:/data/a b.csv") == ("Csv", "/data/a b.csv")
    assert split_name("folder:~/birds") == ("Folder", str(Path.home() / "birds"))
    assert split_name("folder:a:b") == ("Folder", str(tmp_path / "a:b"))
    assert split_name("oxford_pets") is None
    with pytest.raises(DatasetError, match='"foldr:x" is no dataset: expected folder:PATH, csv:P'):
        split_name("foldr:x")
    with pytest.raises(DatasetError, match='"csv:" has no path: expected csv:PATH'):
        split_name("csv:")


def test_folders_of_runs_are_readable_and_differ(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_name("oxford_pets") == "oxford_pets"
    first = run_name("folder:/data/my birds (2024)")
    assert (
        first.startswith("folder-my_birds_2024-") and len(first) == len("folder-my_birds_2024-") + 8
    )
    assert run_name("csv:/data/birds.csv").startswith("csv-birds-")
    names = ["folder:/a/birds", "folder:/b/birds", "csv:/a/birds", "folder:/a/Birds", "folder:/é"]
    assert len({run_name(name).lower() for name in names}) == len(names)
    assert run_name("folder:birds") == run_name(f"folder:{tmp_path}/birds")


@given(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text))
def test_any_path_gives_a_safe_folder_name(path):
    name = run_name(f"folder:/{path}")
    assert all(c.isascii() and (c.isalnum() or c in "-_") for c in name) and len(name) < 64


# ---- folders


@pytest.fixture
def birds(tmp_path) -> Path:
    """Two classes in train, val and test."""
    for part, count in (("train", 4), ("val", 1), ("test", 2)):
        for name in ("blue_jay", "Anna's-hummingbird"):
            touch(tmp_path / "birds" / part / name, [f"{i}.jpeg" for i in range(count)])
    return tmp_path / "birds"


def test_folders_with_train_val_and_test(birds):
    data = build("Folder", birds)
    assert data.classnames == ["Anna's-hummingbird", "blue_jay"], "by code point, as they are"
    train_x, val, test = lists(data, birds)
    assert train_x[:2] == [
        ["train/Anna's-hummingbird/0.jpeg", 0, "Anna's-hummingbird"],
        ["train/Anna's-hummingbird/1.jpeg", 0, "Anna's-hummingbird"],
    ]
    assert [path for path, *_ in val] == ["val/Anna's-hummingbird/0.jpeg", "val/blue_jay/0.jpeg"]
    assert [label for _, label, _ in test] == [0, 0, 1, 1]
    base = build("Folder", birds, subset="base", shots=2)
    assert [len(x) for x in (base.train_x, base.val, base.test)] == [2, 1, 2]


def test_other_words_for_val_and_no_val_at_all(birds):
    before = lists(build("Folder", birds), birds)
    (birds / "val").rename(birds / "validation")
    after = lists(build("Folder", birds), birds)
    assert [r[1:] for r in after[1]] == [r[1:] for r in before[1]] and after[0] == before[0]
    (birds / "validation").rename(birds / "other")
    message = refusal(Folder, birds)
    assert f"{birds} has test, train folders, and beside them other" in message
    (birds / "other").rename(birds.parent / "other")
    assert build("Folder", birds).val is None


@pytest.mark.parametrize("inside", ["", "train"])
def test_class_folders_alone_are_cut_the_same_way_every_time(tmp_path, capsys, inside):
    root = tmp_path / "mine"
    for name, count in (("ant", 10), ("bee", 5)):
        touch(root / inside / name, [f"{i}.PNG" for i in range(count)])
    touch(root / inside, ["notes.txt", ".hidden.png"])
    data = build("Folder", root)
    assert "Note: no test images are marked, so the images are cut into 7 train, 3 val, 5 test" in (
        capsys.readouterr().out
    )
    found = lists(data, root)
    assert sorted(row for part in found for row in part) == sorted(
        [f"{inside}/{name}/{i}.PNG".strip("/"), label, name]
        for label, (name, count) in enumerate((("ant", 10), ("bee", 5)))
        for i in range(count)
    )
    for seed in (2, 3):
        assert lists(build("Folder", root, seed=seed), root) == found


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus", "tram"):
        touch(tmp_path / "vehicles" / name, [f"{i}.png" for i in range(4)])
    assert build("Folder", tmp_path / "vehicles").classnames == ["bus", "train", "tram"]


def test_mistakes_with_folders(birds, tmp_path):
    assert "DATASET.PATH is empty" in refusal(Folder, "")
    assert f"there is no folder {tmp_path / 'no'}" in refusal(Folder, tmp_path / "no")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} has no class folders" in refusal(Folder, tmp_path / "empty")
    touch(birds / "test", ["loose.jpg"])
    assert f"1 images lie in {birds / 'test'} without a class folder (loose.jpg)" in refusal(
        Folder, birds
    )
    (birds / "test/loose.jpg").unlink()
    touch(birds / "test/owl", ["1.jpg"])
    assert "1 of 3 classes have no train image: owl" in refusal(Folder, birds)
    (birds / "test/owl").rename(birds / "train/owl")
    assert "1 of 3 classes have no val image: owl" in refusal(Folder, birds)
    (birds / "train/owl/1.jpg").unlink()
    assert f"the class folder {birds / 'train/owl'} has no images" in refusal(Folder, birds)
    touch(birds / "train/owl/young", ["1.jpg"])
    assert f"{birds / 'train/owl'} has folders in it (young)" in refusal(Folder, birds)


def test_parts_that_make_no_dataset(birds):
    (birds / "test").rename(birds.parent / "test")
    assert "there are train and val images only: give train and test" in refusal(Folder, birds)
    (birds / "train").rename(birds.parent / "train")
    (birds.parent / "test").rename(birds / "test")
    assert "there are val and test images only" in refusal(Folder, birds)
    (birds / "val").rename(birds / "train")
    (birds / "validation/x").mkdir(parents=True)
    (birds / "valid/x").mkdir(parents=True)
    assert "are the same part, keep one" in refusal(Folder, birds)


def test_one_class_and_small_classes(tmp_path):
    touch(tmp_path / "mine/ant", ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    assert "there is one class only (ant), at least 2 are needed" in refusal(
        Folder, tmp_path / "mine"
    )
    touch(tmp_path / "mine/bee", ["1.jpg", "2.jpg", "3.jpg"])
    assert 'class "bee" has 3 images, at least 4 are needed' in refusal(Folder, tmp_path / "mine")


# ---- tables


@pytest.fixture
def table(tmp_path):
    """Write a table beside images i0.jpg to i11.jpg."""
    touch(tmp_path, [f"i{i}.jpg" for i in range(12)])

    def write(*lines: str, encoding: str = "utf-8") -> Path:
        (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
        return tmp_path / "list.csv"

    return write


def test_a_table_with_labels_names_and_splits(table, tmp_path):
    path = table(
        "split,label,classname,path",
        "train,1,blue jay,i0.jpg",
        'train,0,"owl, barred",i1.jpg',
        "",
        f'valid,0,"owl, barred",{tmp_path / "i2.jpg"}',
        "val,1,blue jay,./i3.jpg",
        "test,1,blue jay,i4.jpg",
        'test,0,"owl, barred",i5.jpg',
    )
    data = build("Csv", path)
    assert data.classnames == ["owl, barred", "blue jay"], "labels are those of the file"
    assert lists(data, tmp_path) == [
        [["i0.jpg", 1, "blue jay"], ["i1.jpg", 0, "owl, barred"]],
        [["i2.jpg", 0, "owl, barred"], ["i3.jpg", 1, "blue jay"]],
        [["i4.jpg", 1, "blue jay"], ["i5.jpg", 0, "owl, barred"]],
    ]


@pytest.mark.parametrize("column", ["classname", "label"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_names_are_numbered_in_order_and_the_images_cut(table, column, separator):
    rows = [separator.join((f"i{i}.jpg", ("owl", "Blue_jay")[i % 2])) for i in range(12)]
    path = table(f"path{separator}{column}", *rows, encoding="utf-8-sig")
    data = build("Csv", path)
    assert data.classnames == ["Blue_jay", "owl"]
    assert [len(x) for x in (data.train_x, data.val, data.test)] == [6, 2, 4]
    assert lists(build("Csv", path, seed=5), path.parent) == lists(data, path.parent)


TABLES = {
    "empty file": ([""], "the header has the columns (none), expected path and classname"),
    "no header": (["i0.jpg,owl"], "the header has the columns i0.jpg, owl, expected each of path"),
    "no path": (["file,label"], "the header has the columns file, label, expected each of path, l"),
    "a column twice": (["path,label,label"], "expected each of path, label, classname, split once"),
    "no class": (["path,split"], "the header has the columns path, split, expected path and class"),
    "no rows": (["path,label"], "has no rows below its header"),
    "too few cells": (["path,label", "i0.jpg"], "line 2: 1 cells for 2 columns (path, label)"),
    "too many cells": (["path,label", "", "i0.jpg,a,b"], "line 3: 3 cells for 2 columns (path, la"),
    "empty path": (["path,label", ",owl"], "line 2: path is empty"),
    "empty label": (["path,label", "i0.jpg,"], "line 2: label is empty"),
    "unknown split": (
        ["path,label,split", "i0.jpg,owl,Train"],
        'line 2: split is "Train", expected train, val or test',
    ),
    "missing": (
        ["path,label", "i0.jpg,owl", "no.jpg,jay", "i1.jpg,jay", "me.jpg,jay"],
        "2 of 4 images are missing:\n  line 3: {0}/no.jpg\n  line 5: {0}/me.jpg\n",
    ),
    "twice": (["path,label", "i0.jpg,owl", "./i0.jpg,jay"], "line 3: ./i0.jpg is in line 2 alrea"),
    "numbers only": (
        ["path,label", "i0.jpg,0", "i1.jpg,1"],
        "label has numbers and there is no column classname",
    ),
    "no number": (
        ["path,label,classname", "i0.jpg,1.0,owl"],
        'line 2: label is "1.0", expected a whole number from 0',
    ),
    "two names": (
        ["path,label,classname", "i0.jpg,0,owl", "i1.jpg,0,jay"],
        'label 0 has two names, "owl" and "jay"',
    ),
    "two labels": (
        ["path,label,classname", "i0.jpg,0,owl", "i1.jpg,1,owl"],
        'line 3: "owl" has label 1, above it has 0',
    ),
    "a gap": (
        ["path,label,classname,split", "i0.jpg,0,a,train", "i1.jpg,2,b,train", "i2.jpg,0,a,test",
         "i3.jpg,2,b,test"],
        "labels must be 0 to C-1, but 1 of 0 to 2 are not used",
    ),
    "one class": (["path,label", "i0.jpg,owl", "i1.jpg,owl"], "there is one class only (owl)"),
    "a class only in test": (
        ["path,label,split", "i0.jpg,a,train", "i1.jpg,b,test", "i2.jpg,a,test"],
        "1 of 2 classes have no train image: b",
    ),
    "no test": (
        ["path,label,split", "i0.jpg,a,train", "i1.jpg,b,train", "i2.jpg,a,val", "i3.jpg,b,val"],
        "there are train and val images only",
    ),
    "open quotes": (["path,label", '"i0.jpg,owl', "i1.jpg,b"], "line 3: unexpected end of data"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", TABLES)
def test_mistakes_in_a_table(table, tmp_path, mistake):
    lines, expected = TABLES[mistake]
    path = table(*lines)
    message = refusal(Csv, path)
    assert expected.format(tmp_path) in message and f"Csv: {path}" in message


def test_files_that_are_no_tables(tmp_path):
    assert f"there is no file {tmp_path / 'no.csv'}" in refusal(Csv, tmp_path / "no.csv")
    assert f"there is no file {tmp_path}" in refusal(Csv, tmp_path)
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xff\xfe,a\n")
    told = "x.csv, line 2: not text in UTF-8. Convert the file, from "
    assert told in refusal(Csv, tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b"path,label\na\0b.jpg,a\nc.jpg,b\n")
    assert "x.csv" in refusal(Csv, tmp_path / "x.csv")


# ---- the page, and the command line


def test_the_table_of_the_page_is_read(tmp_path):
    page = (CONFIGS.parent / "docs/datasets.md").read_text()
    text = page.partition("### Tables\n\n```text\n")[2].partition("```")[0]
    (tmp_path / "list.csv").write_text(text)
    touch(tmp_path, ["jays/001.jpg", "jays/002.jpg", "owls/17.png", "owls/18.png"])
    data = build("Csv", tmp_path / "list.csv")
    assert data.classnames == ["blue jay", "owl, barred"]
    assert lists(data, tmp_path)[2] == [
        ["jays/002.jpg", 0, "blue jay"],
        ["owls/18.png", 1, "owl, barred"],
    ]


def test_a_folder_of_images_is_trained_on_and_tested(tmp_path):
    for label, colour in enumerate(("ruby", "gold", "jade")):
        for i in range(10):
            path = tmp_path / "mine" / f"{colour}_ring" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (80 * label, 20 * i, 100)).save(path)
    results = train.main(
        [
            *("--trainer", "CoOp", "--seed", "1", "--output-dir", str(tmp_path / "run")),
            *("--config-file", str(CONFIGS / "trainers/CoOp/embedded.yaml")),
            *("DATASET.NAME", "Folder", "DATASET.PATH", str(tmp_path / "mine")),
            *("DATASET.NUM_SHOTS", "2", "OPTIM.MAX_EPOCH", "1"),
        ]
    )
    assert results["dataset"].startswith("folder-mine-")
    assert (results["num_classes"], results["total"]) == (3, 9)


def test_a_mistake_in_own_data_is_one_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(
            [
                *("--trainer", "ZeroshotCLIP", "--output-dir", str(tmp_path / "run")),
                *("--config-file", str(CONFIGS / "trainers/ZeroshotCLIP/embedded.yaml")),
                *("DATASET.NAME", "Csv", "DATASET.PATH", str(tmp_path / "no.csv")),
            ]
        )
    shown = capsys.readouterr()
    assert stop.value.code == 1 and "Traceback" not in shown.err
    assert f"error: Csv: there is no file {tmp_path / 'no.csv'}" in shown.err


def test_a_link_to_nowhere_is_no_image(tmp_path):
    folder = tmp_path / "mine" / "red_ring"
    folder.mkdir(parents=True)
    for i in range(5):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    (folder / "good.png").symlink_to(folder / "0.png")
    assert len(images(folder)) == 6
    (folder / "zz.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DatasetError, match=f"1 images are links .* not there: {folder}/zz.png"):
        images(folder)
