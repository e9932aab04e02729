"""predictions.npz: the same with the run and afterwards, bound to its results; what it shows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
from dassl.utils import UserError
from runs.metrics import METRICS
from runs.predictions import Predictions, read_predictions, write_predictions
from runs.results import identity
from tests.tools.results.results_tree import write_result
from tools import predictions, protocol

SHOWN = r"""  images    classes    accuracy    top-5    class mean    ECE     NLL
--------  ---------  ----------  -------  ------------  -----  ------
       4          2       50.00   100.00         50.00  36.25  0.5625

classes, the lowest accuracy first

class      images    right    accuracy
-------  --------  -------  ----------
cat             2        1       50.00
dog             2        1       50.00

classes that are taken for others

class    taken for      images    of
-------  -----------  --------  ----
cat      dog                 1     2
dog      cat                 1     2

calibration, in percent

confidence       images    mean confidence    accuracy
-------------  --------  -----------------  ----------
0.0 to 6.7            0                  -           -
6.7 to 13.3           0                  -           -
13.3 to 20.0          0                  -           -
20.0 to 26.7          0                  -           -
26.7 to 33.3          0                  -           -
33.3 to 40.0          0                  -           -
40.0 to 46.7          0                  -           -
46.7 to 53.3          0                  -           -
53.3 to 60.0          2              57.50        0.00
60.0 to 66.7          0                  -           -
66.7 to 73.3          0                  -           -
73.3 to 80.0          1              80.00      100.00
80.0 to 86.7          0                  -           -
86.7 to 93.3          1              90.00      100.00
93.3 to 100.0         0                  -           -

mistakes, the most confident first

image            class    taken for      confidence
---------------  -------  -----------  ------------
b.png            cat      dog                 60.00
c/caf\udce9.png  dog      cat                 55.00
"""


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture
def run(kept_run, tmp_path):
    """A copy of a run that may be changed."""
    return shutil.copytree(kept_run, tmp_path / "copy")


@pytest.fixture
def make(data_root, capsys):
    """`make(folder)`: what the command prints; `make(folder, fails=True)`: its message."""

    def call(folder, fails=False):
        words = ["make", str(folder), "--data", str(data_root)]
        capsys.readouterr()
        if not fails:
            predictions.main(words)
            return capsys.readouterr().out.splitlines()
        with pytest.raises(SystemExit) as stop:
            predictions.main(words)
        assert stop.value.code == 1
        return capsys.readouterr().err.partition("error: ")[2]

    return call


def test_the_file_holds_what_was_said_of_each_image(kept_run, data_root):
    for half in ("base", "new"):
        told = results(kept_run / half)
        with np.load(kept_run / half / "predictions.npz") as file:
            members = {name: file[name] for name in file.files}
        about = json.loads(str(members.pop("about")))
        N, C = told["total"], told["num_classes"]
        assert {name: array.shape for name, array in members.items()} == {
            **dict.fromkeys(("path", "label", "confidence", "nll"), (N,)),
            **{"top": (N, 5), "logits": (N, C), "classnames": (C,)},
        }
        assert members["logits"].dtype == np.float16
        assert int((members["top"][:, 0] == members["label"]).sum()) == told["correct"]
        assert all((data_root / path).is_file() for path in members["path"].tolist())
        assert len(set(members["path"].tolist())) == N
        # float16 has eleven bits
        shifted = members["logits"] - members["logits"].max(1, keepdims=True)
        near = 1 / np.exp(shifted.astype(float)).sum(1)
        assert members["confidence"] == pytest.approx(near, rel=0.05)
        assert about["of"]["checkpoint"] == told["checkpoint"] and about["logit_scale"] > 1
        assert about["features"].startswith("images/")


def test_figures_of_the_file_are_those_of_the_results(kept_run):
    for half in ("base", "new"):
        told = results(kept_run / half)
        found = read_predictions(kept_run / half, told)
        assert found.metrics() == {key: told[key] for key in METRICS}


def test_made_afterwards_it_is_the_same(run, kept_run, make):
    made = [run / "base/predictions.npz", run / "new/predictions.npz", run / "openworld.json"]
    for path in made:
        path.unlink()
    assert make(run) == [str(path) for path in made]
    for path in made[:2]:
        with np.load(path) as mine, np.load(kept_run / path.relative_to(run)) as theirs:
            assert mine.files == theirs.files
            assert all(np.array_equal(mine[name], theirs[name]) for name in mine.files)
    assert made[2].read_bytes() == (kept_run / "openworld.json").read_bytes()
    assert make(run) == [f"{run / half}: is there already" for half in ("base", "new")]


def test_a_file_of_other_results_is_refused_and_made_anew(run, make):
    folder = run / "base"
    shutil.copy(run / "new/predictions.npz", folder)
    with pytest.raises(UserError, match="is of other results than .*base/results.json"):
        read_predictions(folder, results(folder))
    assert make(folder) == [str(folder / "predictions.npz")]
    assert read_predictions(folder, results(folder)).of["classes"] == "base"


def test_a_damaged_file_is_told_and_made_anew(run, make):
    path = run / "new/predictions.npz"
    whole = path.read_bytes()
    for content in (b"", b"no archive", whole[:-100], whole.replace(b"nll", b"mll")):
        path.write_bytes(content)
        with pytest.raises(UserError, match="predictions.npz is damaged"):
            read_predictions(run / "new", results(run / "new"))
    path.write_bytes(whole)
    with np.load(path) as file:
        members = {name: file[name] for name in file.files}
    for name in ("label", "top", "confidence", "nll", "logits"):
        np.savez(path, **{**members, name: members[name].astype(str)})
        with pytest.raises(UserError, match="predictions.npz is damaged .*a member of a wrong"):
            read_predictions(run / "new", results(run / "new"))
    assert make(run / "new") == [str(path)]


def test_results_that_are_not_reached_again_get_no_predictions(run, make):
    path = run / "new/results.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "correct": told["correct"] - 1}))
    (run / "new/predictions.npz").unlink()
    message = make(run / "new", fails=True)
    now = f"{told['correct']} of {told['total']} are now"
    assert "1 of 1 were not made" in message and now in message
    assert not (run / "new/predictions.npz").exists()


def test_a_checkpoint_that_is_gone_is_told_and_the_others_are_made(run, make, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    shutil.rmtree(run / "prompt_learner")
    for folder in (run, tmp_path / "other"):
        (folder / "base/predictions.npz").unlink()
    message = make(tmp_path, fails=True)
    assert "1 of 4 were not made" in message and f"{run / 'base'}: " in message
    assert "that is in neither" in message
    assert (tmp_path / "other/base/predictions.npz").is_file()


def test_results_without_these_figures_are_valid_and_get_them_from_the_file(run, make):
    """Those of a version before them."""
    path = run / "base/results.json"
    told = json.loads(path.read_text())
    older = {key: told[key] for key in told if key not in (*METRICS, "test_batch_size")}
    path.write_text(json.dumps(older))
    (run / "base/predictions.npz").unlink()
    make(run / "base")
    found = read_predictions(run / "base", older)
    assert found.metrics() == {key: told[key] for key in METRICS}


def test_asked_for_with_results_that_exist_the_way_to_it_is_told(job, tmp_path, capsys):
    train.main(job("ZeroshotCLIP", "--eval-only"))
    capsys.readouterr()
    train.main(job("ZeroshotCLIP", "--eval-only", "TEST.PREDICTIONS", "True"))
    folder = tmp_path / "run/base"
    note = f"python -m tools.predictions make {folder} makes them from the checkpoint"
    assert note in capsys.readouterr().out and not (folder / "predictions.npz").exists()


def test_images_in_another_order_than_their_list_are_refused_before_the_training(
    job, refused, tmp_path
):
    random = ("DATALOADER.TEST.SAMPLER", "RandomSampler", "TEST.PREDICTIONS", "True")
    message = refused(job("CoOp", *random))
    assert "SAMPLER is RandomSampler: set it to SequentialSampler" in message
    assert not list((tmp_path / "run").rglob("model.pth*"))


def test_a_test_on_another_dataset_is_done_again_with_the_model_of_the_run(
    data_root, tmp_path, make
):
    words = ["xd", "--trainer", "CoOp", "--dataset", "shapes", "--seed", "1", "--shots", "2"]
    words += ["--data", str(data_root), "--output", str(tmp_path), "OPTIM.MAX_EPOCH", "1"]
    protocol.main(words)
    run = tmp_path / "xd/shapes/CoOp/embedded/shots_2/seed1"
    made = [run / "all/predictions.npz", run / "digits/all/predictions.npz"]
    assert make(tmp_path) == [str(path) for path in made]
    digits = read_predictions(made[1].parent, results(made[1].parent))
    assert digits.of["dataset"] == "Digits" and len(digits.classnames) == 10


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_paths_of_own_data_are_below_its_folder(job, tmp_path, make, kind):
    photos, lines = tmp_path / "photos", ["path,label,split"]
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "cow", "dog", "owl")):
            (photos / part / name).mkdir(parents=True)
            path = f"{part}/{name}/1.png"
            Image.new("RGB", (32, 32), (50 * number, 9, len(part))).save(photos / path)
            lines.append(f"{path},{name},{part}")
    (photos / "list.csv").write_text("\n".join(lines))
    name = f"folder:{photos}" if kind == "folder" else f"csv:{photos / 'list.csv'}"
    words = job("ZeroshotCLIP", "--eval-only", "DATASET.NAME", name)
    train.main([*words, "DATASET.SUBSAMPLE_CLASSES", "all"])
    folder = tmp_path / "run/all"
    assert make(folder) == [str(folder / "predictions.npz")]
    found = read_predictions(folder, results(folder))
    assert found.paths == [f"test/{name}/1.png" for name in ("cat", "cow", "dog", "owl")]
    assert found.classnames == ["cat", "cow", "dog", "owl"]


def test_the_tables_of_a_test(tmp_path, capsys):
    path = write_result(tmp_path, 50.0)
    outputs = {
        "label": np.array([0, 0, 1, 1]),
        "top": np.array([[0, 1], [1, 0], [1, 0], [0, 1]]),
        "confidence": np.array([0.8, 0.6, 0.9, 0.55]),
        "nll": np.array([0.25, 1.0, 0.125, 0.875]),
    }
    paths = ["a.png", "b.png", "c/c.png", "c/caf\udce9.png"]
    of = identity(json.loads(path.read_text()))
    found = Predictions(outputs, paths, ["cat", "dog"], None, "", of)
    write_predictions(path.parent, found)
    assert read_predictions(path.parent, json.loads(path.read_text())).paths == paths
    predictions.main(["show", str(path.parent), "--most", "3"])
    assert capsys.readouterr().out == SHOWN
    predictions.main(["show", str(path.parent), "mistakes", "--most", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[-1].split() == ["b.png", "cat", "dog", "60.00"]


def test_every_command_of_the_page_is_one_that_the_tool_takes():
    page = (Path(__file__).parents[2] / "docs/predictions.md").read_text()
    commands = re.findall(r"^python -m tools\.predictions (.+)$", page, flags=re.MULTILINE)
    assert [predictions.build_parser().parse_args(c.split()).command for c in commands] == [
        *("show", "make", "show"),
    ]


def test_what_cannot_be_shown_is_told(run, tmp_path, capsys):
    def message(*words):
        with pytest.raises(SystemExit) as stop:
            predictions.main(["show", *map(str, words)])
        assert stop.value.code == 1
        return capsys.readouterr().err

    assert 'no section "classses"; there are: summary, classes' in message(run / "new", "classses")
    assert "--most is -1" in message(run / "new", "--most", "-1")
    assert "give the folder of one test" in message(run)
    (run / "new/predictions.npz").unlink()
    assert f"python -m tools.predictions make {run / 'new'} makes it" in message(run / "new")
    with pytest.raises(SystemExit):
        predictions.main(["make", str(tmp_path / "empty")])
    assert "no results.json below" in capsys.readouterr().err
