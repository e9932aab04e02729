"""Predictions of a run: those of its test, for any classes, with every trouble told."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import train
from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from inference import load_prompt, predict
from inference.classes import check_classes
from inference.classify import ranked
from runs.config import dataset_cfg
from tests.inference.conftest import ROOT, arguments, observed
from tests.trainers.test_every_method import METHODS
from tools import predict as command
from trainers.errors import MethodError


def told(capsys, words: list[str]) -> str:
    """The message with which the command refuses words."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    shown = capsys.readouterr()
    assert stop.value.code == 1 and "Traceback" not in shown.err and shown.out == ""
    return shown.err.removeprefix("error: ").strip()


@pytest.fixture
def some(images) -> list[str]:
    """Paths of three test images of three classes."""
    return [images[place].impath for place in (0, len(images) // 2, len(images) - 1)]


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_those_of_the_evaluation_of_every_method(method, runs, images):
    run = runs(method)
    found = predict(run.folder, [item.impath for item in images], batch=57)
    labels = [one["label"] for one in found["predictions"]]
    assert found["classes"] == run.results["classnames"]
    assert labels == [found["classes"][label] for label in run.predicted]
    right = sum(label == item.classname for label, item in zip(labels, images, strict=True))
    assert right == run.results["correct"] and len(labels) == run.results["total"]
    assert [one["image"] for one in found["predictions"]] == [item.impath for item in images]
    assert found["method"] == method and found["unreadable"] == []
    json.dumps(found, allow_nan=False)


def test_a_folder_of_a_test_means_its_classes(runs, data_root, images, tmp_path):
    folder = tmp_path / "seed1"
    shutil.copytree(runs("CoOp").folder, folder)
    test = ["--eval-only", "--model-dir", str(folder), "--load-epoch", "2"]
    pairs = ("DATASET.SUBSAMPLE_CLASSES", "new")
    results, predicted = observed([*test, *arguments("CoOp", data_root, folder, *pairs)])
    base, new = (load_prompt(folder / one) for one in ("base", "new"))
    assert base.classes == load_prompt(folder).classes == runs("CoOp").results["classnames"]
    assert new.classes == results["classnames"] and not set(new.classes) & set(base.classes)
    assert new.source.results.keys() == {"base", "new"}
    assert new.source.results["new"]["accuracy"] == results["accuracy"]
    assert torch.equal(base.learned["ctx"], new.learned["ctx"])
    assert len(predicted) == results["total"]


def test_a_folder_above_one_run_means_it_and_above_several_is_refused(runs, tmp_path, some, capsys):
    for seed in ("seed1", "seed2"):
        shutil.copytree(runs("CoOp").folder, tmp_path / "shots_2" / seed)
        if seed == "seed1":
            found = predict(tmp_path, some)
            assert found["run"] == str(tmp_path / "shots_2/seed1")
    message = told(capsys, ["--run", str(tmp_path), *some])
    names = [str(tmp_path / "shots_2" / seed) for seed in ("seed1", "seed2")]
    assert message == f"{tmp_path} has 2 runs, name one of them: {', '.join(names)}"


def test_a_test_on_another_dataset_is_predicted_with_the_model_of_the_training(
    runs, data_root, tmp_path
):
    folder = tmp_path / "seed1"
    shutil.copytree(runs("CoOp").folder, folder)
    words = arguments("CoOp", data_root, folder / "digits", "DATASET.SUBSAMPLE_CLASSES", "all")
    words[words.index(str(ROOT / "configs/datasets/shapes.yaml"))] = str(
        ROOT / "configs/datasets/digits.yaml"
    )
    test = ["--eval-only", "--model-dir", str(folder), "--load-epoch", "2"]
    results, predicted = observed([*test, *words])
    prompt = load_prompt(folder / "digits")
    assert prompt.classes == results["classnames"] and len(prompt.classes) == 10
    tested = build_dataset(dataset_cfg("Digits", "", data_root)).test
    found = predict(prompt, [item.impath for item in tested], top=1)["predictions"]
    assert [one["label"] for one in found] == [prompt.classes[label] for label in predicted]
    (folder / "prompt_learner").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a test of a model that was trained on Shapes"):
        load_prompt(folder / "digits")


@pytest.mark.parametrize("method", ["CoOp", "CoCoOp", "ZeroshotCLIP"])
def test_any_classes_can_be_given(method, runs, some):
    run = runs(method)
    own = run.results["classnames"]
    there, back = (predict(run.folder, some, names, top=99) for names in (own, own[::-1]))
    for one, other in zip(there["predictions"], back["predictions"], strict=True):
        assert [hit["class"] for hit in one["top"]] == [hit["class"] for hit in other["top"]]
        assert sum(hit["probability"] for hit in one["top"]) == pytest.approx(1)
    assert len(there["predictions"][0]["top"]) == len(own)
    unseen = predict(run.folder, some[0], ["a cat", "hot_air_balloon"])
    assert {hit["class"] for hit in unseen["predictions"][0]["top"]} == {"a cat", "hot_air_balloon"}


@given(st.lists(st.sampled_from([-2.0, 0.0, 1.0, 3.5]), min_size=1, max_size=6), st.integers(1, 8))
def test_the_likeliest_come_first_and_of_equal_ones_the_first(logits, top):
    names = [f"class {place}" for place in range(len(logits))]
    found = ranked(torch.tensor(logits), names, top)
    assert found["label"] == names[logits.index(max(logits))]
    expected = sorted(range(len(logits)), key=lambda c: (-logits[c], c))[:top]
    assert [hit["class"] for hit in found["top"]] == [names[c] for c in expected]
    odds = [hit["probability"] for hit in found["top"]]
    assert odds == sorted(odds, reverse=True) and sum(odds) < 1 + 1e-9


def test_the_command_prints_a_table_and_names_what_cannot_be_read(
    runs, images, some, tmp_path, capsys
):
    (tmp_path / "photos/inner").mkdir(parents=True)
    for place, path in enumerate(some):
        shutil.copy(path, tmp_path / f"photos/inner/{place}.png")
    shutil.copy(some[0], tmp_path / "picture")  # a file that is named needs no suffix
    (tmp_path / "photos/notes.txt").write_text("no image")
    (tmp_path / "photos/.hidden").mkdir()
    shutil.copy(some[0], tmp_path / "photos/.hidden/a.png")
    broken = tmp_path / "photos/inner/1.png"
    broken.write_bytes(broken.read_bytes()[:50])
    words = ["--run", str(runs("CoOp").folder), "--top", "2", "--batch", "2"]
    asked = [str(tmp_path / "picture"), str(tmp_path / "photos"), str(tmp_path / "*/*/0.png")]
    with pytest.raises(SystemExit) as stop:
        command.main([*words, *asked, str(tmp_path / "gone.png"), str(tmp_path / "*.jpg")])
    assert stop.value.code == 1
    shown = capsys.readouterr()
    rows = [line.split()[0] for line in shown.out.splitlines() if line.startswith(str(tmp_path))]
    assert rows == [str(tmp_path / name) for name in ("picture", "photos/inner/0.png",
                                                      "photos/inner/2.png")]  # fmt: skip
    assert "20 classes; probabilities: softmax of cosines times the logit scale" in shown.out
    errors = shown.err.splitlines()
    assert errors[0] == f"error: {tmp_path}/gone.png: there is no such file or folder"
    assert errors[1] == f"error: {tmp_path}/*.jpg: no image file fits"
    assert errors[2].startswith(f"error: {broken}: is not a readable image (")
    assert len(errors) == 3


def test_of_many_images_that_cannot_be_read_the_first_are_named(runs, some, tmp_path, capsys):
    for place in range(23):
        (tmp_path / f"{place:02}.png").write_text("no image")
    out = tmp_path / "found.json"
    words = ["--run", str(runs("CoOp").folder), some[0], str(tmp_path), "--out", str(out)]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command.main(words)
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 21 and f"{tmp_path}/19.png" in errors[19]
    assert errors[20] == "error: 3 more images (--out FILE.json has all) cannot be read"
    found = json.loads(out.read_text())
    assert len(found["unreadable"]) == 23 and len(found["predictions"]) == 1


def test_files_hold_what_python_returns(runs, some, tmp_path, capsys):
    folder = runs("CoOp").folder
    found = predict(folder, some, top=3)
    for suffix in ("csv", "json", "jsonl"):
        out = tmp_path / f"new/predictions.{suffix}"
        command.main(["--run", str(folder), *some, "--top", "3", "--out", str(out)])
        assert f"Written: {out} (3 images)" in capsys.readouterr().out
    assert json.loads((tmp_path / "new/predictions.json").read_text()) == found
    lines = (tmp_path / "new/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == found["predictions"]
    rows = list(csv.DictReader((tmp_path / "new/predictions.csv").open()))
    for row, one in zip(rows, found["predictions"], strict=True):
        assert row["image"] == one["image"] and row["label"] == one["label"]
        for rank, hit in enumerate(one["top"], start=1):
            end = f"_{rank}" if rank > 1 else ""
            assert row[f"label{end}"] == hit["class"]
            assert float(row[f"probability{end}"]) == pytest.approx(hit["probability"], abs=5.1e-7)


def test_pictures_in_memory_are_classified_like_files(runs, some):
    prompt = load_prompt(runs("CoOp").folder)
    pictures = [Image.open(path).convert("RGB") for path in some]
    files, memory = predict(prompt, some), predict(prompt, pictures)
    assert [one["top"] for one in files["predictions"]] == [
        one["top"] for one in memory["predictions"]
    ]
    assert [one["image"] for one in memory["predictions"]] == ["image 0", "image 1", "image 2"]


def test_an_epoch_can_be_named(runs, some):
    folder = runs("CoOp").folder
    first, last = (load_prompt(folder, epoch=epoch) for epoch in (1, 2))
    assert not torch.equal(first.learned["ctx"], last.learned["ctx"])
    assert first.source.results == {} and last.source.results.keys() == {"base"}
    with pytest.raises(MethodError, match=r"epochs that were saved \(--load-epoch\): 1, 2"):
        load_prompt(folder, epoch=9)


def test_a_run_that_does_not_tell_its_classes_reads_its_dataset(runs, data_root, tmp_path, some):
    folder = tmp_path / "run"
    shutil.copytree(runs("CoOp").folder, folder)
    path = folder / "base/results.json"
    results = json.loads(path.read_text())
    names = results.pop("classnames")
    path.write_text(json.dumps(results))
    assert load_prompt(folder, data=data_root).classes == names
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings |= {"DATASET.NAME": "OxfordPets"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match=r"does not tell the names of its base classes.*--classes"):
        load_prompt(folder, data=tmp_path)
    assert predict(folder, some, ["cat", "dog"])["classes"] == ["cat", "dog"]


def test_contexts_of_single_classes_are_refused_for_other_classes(runs, some, capsys):
    run = runs("CoOp", "TRAINER.COOP.CSC", "True")
    message = told(capsys, ["--run", str(run.folder), *some, "--classes", "cat,dog"])
    assert f"{run.folder} was trained with TRAINER.COOP.CSC True: each of its contexts" in message
    own = predict(run.folder, some, run.results["classnames"])
    assert own["predictions"] == predict(run.folder, some)["predictions"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", ""], "--classes is empty, expected at least one name"),
        (["--classes", "cat,,dog"], "--classes has '' in it, expected names of classes"),
        (["--classes", "cat,dog,cat"], "--classes has a class twice, as CLIP reads it: 'cat' and"),
        (["--classes", "sea_lion,sea lion"], "as CLIP reads it: 'sea_lion' and 'sea lion'"),
        (["--classes", "a", "--classes-file", "b"], "are the same list: give one of them"),
        (["--classes-file", "{tmp}/none.txt"], "cannot read {tmp}/none.txt (No such file"),
        (["--classes-file", "{tmp}/empty.txt"], "{tmp}/empty.txt is empty, expected at least one"),
        (["--out", "{tmp}/p.xlsx"], "expected a file that ends in .csv, .json, .jsonl"),
        (["--run", "{tmp}/none"], "there is no folder {tmp}/none"),
        (["--run", "{tmp}"], "{tmp} is no folder of a run, nor of an exported prompt"),
        (
            ["--backbone", "{tmp}/none.pt"],
            'MODEL.BACKBONE.NAME is "{tmp}/none.pt". It is neither a file nor',
        ),
    ],
)
def test_bad_words_are_refused_before_anything_is_computed(
    words, message, runs, some, tmp_path, capsys
):
    (tmp_path / "empty.txt").write_text("\n \n")
    words = [word.format(tmp=tmp_path) for word in words]
    found = told(capsys, ["--run", str(runs("CoOp").folder), *some, *words])
    assert message.format(tmp=tmp_path) in found


def test_no_image_at_all_is_refused(runs, tmp_path, capsys):
    message = told(capsys, ["--run", str(runs("CoOp").folder), str(tmp_path)])
    found = f"{tmp_path}: the folder has no images (told by their suffix)"
    assert message == f"no images to classify ({found})"


def test_classes_of_a_file_are_read_line_by_line(runs, some, tmp_path, capsys):
    (tmp_path / "names.txt").write_bytes("\ufeffcat\r\n\r\n  hot air, balloon \r\n".encode())
    words = ["--run", str(runs("CoOp").folder), some[0], "--out", str(tmp_path / "p.json")]
    command.main([*words, "--classes-file", str(tmp_path / "names.txt")])
    assert json.loads((tmp_path / "p.json").read_text())["classes"] == ["cat", "hot air, balloon"]
    with pytest.raises(UserError, match="expected names of classes"):
        check_classes(["cat", 3])  # type: ignore[list-item]


def changed_run(folder: Path, target: Path, **settings: object) -> Path:
    """A copy of a run with other settings in its config.yaml."""
    shutil.copytree(folder, target)
    path = target / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | settings))
    return target


@pytest.mark.parametrize("method", ["CoOp", "ZeroshotCLIP"])
def test_a_backbone_of_other_bytes_is_refused(method, runs, some, tmp_path, capsys):
    weights = torch.load(ROOT / "assets/shapes_clip.pt", weights_only=True)
    weights["logit_scale"] += 1
    torch.save(weights, tmp_path / "other.pt")
    words = ["--run", str(runs(method).folder), *some, "--backbone", str(tmp_path / "other.pt")]
    message = told(capsys, words)
    file = f"MODEL.BACKBONE.NAME '{tmp_path}/other.pt'"
    told_of = f"{runs(method).folder}: {file} is another file now than the run was made with (dig"
    assert message.startswith(told_of)
    assert message.endswith(": get the old one back, and name it with --backbone")
    shutil.copy(ROOT / "assets/shapes_clip.pt", tmp_path / "same.pt")
    command.main([*words[:-1], str(tmp_path / "same.pt")])


def test_another_pool_than_at_the_training_is_refused(runs, some, tmp_path):
    run = changed_run(runs("ZeroshotCLIP").folder, tmp_path / "run", POOL_DIGEST="0123456789ab")
    with pytest.raises(UserError, match="POOL .* is another file now .*: get the old one back$"):
        predict(run, some)


def test_a_run_of_half_precision_is_used_on_a_cpu(runs, some, tmp_path):
    settings = {"TRAINER.COOP.PREC": "fp16", "PRECISION": "fp16"}
    run = changed_run(runs("CoOp").folder, tmp_path / "run", **settings)
    assert predict(run, some)["predictions"] == predict(runs("CoOp").folder, some)["predictions"]


def test_a_checkpoint_that_was_not_tested_is_refused(runs, some, tmp_path):
    run = changed_run(runs("CoOp").folder, tmp_path / "run")
    shutil.copy(run / "prompt_learner/model.pth.tar-1", run / "prompt_learner/model.pth.tar-2")
    with pytest.raises(UserError, match="is not the one that .*results.json was measured with"):
        predict(run, some)
    shutil.rmtree(run / "prompt_learner")
    shutil.rmtree(run / "base")
    with pytest.raises(UserError, match="has no checkpoint"):
        predict(run, some)


def test_a_context_that_is_not_finite_predicts_nothing(runs, some, tmp_path):
    run = changed_run(runs("CoOp").folder, tmp_path / "run")
    shutil.rmtree(run / "base")
    path = run / "prompt_learner/model.pth.tar-2"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["ctx"][0, 0] = float("nan")
    torch.save(checkpoint, path)
    with pytest.raises(FloatingPointError, match="logits of 3 images are NaN or infinite"):
        predict(run, some, ["cat", "dog"])


def test_the_best_epoch_on_validation_images_is_taken(data_root, some, tmp_path):
    words = arguments("CoOp", data_root, tmp_path / "run", "TEST.FINAL_MODEL", "best_val")
    results = train.main(words)
    prompt = load_prompt(tmp_path / "run")
    assert prompt.source.epoch is None and prompt.source.checkpoint == results["checkpoint"]
    best = torch.load(tmp_path / "run/prompt_learner/model-best.pth.tar", weights_only=True)
    assert torch.equal(prompt.learned["ctx"], best["state_dict"]["ctx"])
