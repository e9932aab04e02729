"""Training shots of a file: `DATASET.SPLIT_FILE`, and `tools.splits`, which writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

import train
from dassl.data.datasets import build_dataset
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.shots import read_shots, shots_lines
from runs.config import dataset_cfg
from tools import splits

TRAIN = [Listed(f"a/{i}.jpg", 0, "pug") for i in range(4)]
TRAIN += [Listed(f"b/{i}.jpg", 1, "St._Bernard") for i in range(3)]
ROWS = [("a/2.jpg", 0, "pug"), ("b/1.jpg", 1, "st.-bernard"), ("a/0.jpg", 0, "pug")]
ROWS += [("b/0.jpg", 1, "St._Bernard")]


def written(path: Path, rows=ROWS, names=("impath", "label", "classname")) -> Path:
    lines = (json.dumps(dict(zip(names, row, strict=False))) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def list_of(data: Path, seed: int, file: str = "", subset: str = "all"):
    cfg = dataset_cfg("Shapes", "", data, shots=2)
    cfg.defrost()
    cfg.SEED, cfg.DATASET.SPLIT_FILE, cfg.DATASET.SUBSAMPLE_CLASSES = seed, file, subset
    dataset = build_dataset(cfg)
    return [[(i.impath, i.label) for i in items] for items in (dataset.train_x, dataset.val)]


@pytest.mark.parametrize("names", [("path", "label", "class_name"), ("image", "label", "class")])
@pytest.mark.parametrize("before", ["", "/data/pets/images/", "images/", "C:\\\\pets\\\\"])
def test_images_are_found_wherever_the_folder_is(tmp_path, names, before):
    rows = [(before + path, label + 5, name) for path, label, name in ROWS]
    found = read_shots(written(tmp_path / "x.jsonl", rows, names), 2, TRAIN)
    assert found == [TRAIN[2], TRAIN[5], TRAIN[0], TRAIN[4]]
    absolute = [item._replace(impath=f"/elsewhere/{item.impath}") for item in TRAIN]
    assert len(read_shots(written(tmp_path / "x.jsonl", ROWS), 2, absolute)) == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS, ROWS[0]], "line 5: a/2.jpg is there twice"),
        ([("c/2.jpg", 0, "pug")], "line 1: c/2.jpg is not in the training list of the dataset"),
        ([("2.jpg", 0, "pug")], "line 1: 2.jpg may be a/2.jpg or b/2.jpg"),
        ([("", 0, "pug")], "line 1:  is not in the training list"),
        ([("a/2.jpg", 0, "cat")], 'line 1: a/2.jpg is of class "cat", but the dataset says "pug"'),
        ([ROWS[0], ("b/1.jpg", 0, "St. Bernard")], 'label 0 is "pug" and "St._Bernard"'),
        ([("a/2.jpg", "0", "pug")], "line 1: label is '0', expected one as in"),
        ([("a/2.jpg", True, "pug")], "line 1: label is True, expected one as in"),
        ([("a/2.jpg", 0)], "line 1: classname is no such field, expected one as in"),
        (ROWS[:3], "1 of 2 classes have other numbers of images than DATASET.NUM_SHOTS 2: St._B"),
        ([], "2 of 2 classes have other numbers"),
    ],
)
def test_what_is_no_few_shot_list_of_the_dataset_is_refused(tmp_path, rows, message):
    path = written(tmp_path / "x.jsonl", rows)
    with pytest.raises(DatasetError) as error:
        read_shots(path, 2, TRAIN)
    assert message in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("text", ["[1]", "no json", "{", "1"])
def test_lines_that_are_no_object_are_refused(tmp_path, text):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(DatasetError, match="line 1: expected an object, as .*found"):
        read_shots(path, 2, TRAIN)


def test_small_classes_are_whole(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(shots_lines(TRAIN))
    assert read_shots(path, 4, TRAIN) == TRAIN
    with pytest.raises(DatasetError, match="2 of 2 classes"):
        read_shots(path, 2, TRAIN)


def test_a_run_takes_the_shots_that_another_draw_has_written(data_root, tmp_path, job, capsys):
    list_of(data_root, 1)  # the data is made
    file = tmp_path / "shots_2_seed_3.jsonl"
    words = ["--shots", "2", "--seed", "3", "--data", str(data_root)]
    splits.main(["export", "shapes", *words, "--out", str(file)])
    assert capsys.readouterr().out.endswith(f"{file}: 80 train images of 40 classes\n")
    splits.main(["export", "shapes", *words])
    assert capsys.readouterr().out == file.read_text()
    (train_3, _), (train_1, val_1) = list_of(data_root, 3), list_of(data_root, 1)
    found = list_of(data_root, 1, str(tmp_path / "shots_{shots}_seed_3.jsonl"))
    assert found == [train_3, val_1] and train_3 != train_1
    base = list_of(data_root, 3, subset="base")[0]
    assert list_of(data_root, 1, str(file), "base")[0] == base
    train.main(job("CoOp", "DATASET.SPLIT_FILE", str(file)))
    said = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    train.main(job("CoOp", "--seed", "3", output=tmp_path / "other"))
    other = yaml.safe_load((tmp_path / "other/config.yaml").read_text())
    assert said["TRAINED_ON"] == other["TRAINED_ON"]
    assert said["DATASET.SPLIT_FILE"] == str(file) and "DATASET.SPLIT_FILE" not in other


def test_a_dataset_that_is_only_tested_on_has_no_such_file(data_root, tmp_path):
    cfg = dataset_cfg("Shapes", "", data_root, shots=2)
    cfg.defrost()
    cfg.DATASET.SPLIT_FILE, cfg.DATASET.SOURCE = str(tmp_path / "none"), "Digits"
    assert len(build_dataset(cfg).train_x) == 80


def test_mistakes_of_a_run_are_told(job, refused, tmp_path):
    missing = tmp_path / "no.jsonl"
    assert f"cannot read {missing}" in refused(job("CoOp", "DATASET.SPLIT_FILE", str(missing)))
    pairs = ("DATASET.SPLIT_FILE", str(missing), "DATASET.NUM_SHOTS", "-1")
    assert "DATASET.SPLIT_FILE is for few shots: set DATASET.NUM_SHOTS" in refused(
        job("CoOp", *pairs)
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shape"], 'there is no dataset "shape", do you mean "shapes"?'),
        (["shapes", "--seed", "-1"], "--seed is -1, expected a whole number from 0"),
        (["shapes", "--out", "there"], "there exists already: give another --out"),
    ],
)
def test_mistakes_of_the_tool_are_told(words, message, tmp_path, capsys, monkeypatch, data_root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        splits.main(["export", *words, "--shots", "2", "--data", str(data_root)])
    assert stop.value.code == 1 and message in capsys.readouterr().err
    assert (tmp_path / "there").read_text() == "mine"


def test_classes_of_one_name_are_counted_apart(tmp_path):
    train = [Listed(f"n0{label}/{i}.jpg", label, "missile") for label in (0, 1) for i in range(3)]
    path = tmp_path / "x.jsonl"
    path.write_text(shots_lines([train[0], train[3]]))
    assert read_shots(path, 1, train) == [train[0], train[3]]
    path.write_text(shots_lines(train[:2]))
    with pytest.raises(DatasetError, match=re.escape("missile (2), missile (0)")):
        read_shots(path, 1, train)


def test_images_to_test_on_are_no_shots(data_root, capsys):
    with pytest.raises(SystemExit):
        splits.main(["export", "shapes_blurred", "--shots", "2", "--data", str(data_root)])
    assert "error: shapes_blurred has no train images" in capsys.readouterr().err
