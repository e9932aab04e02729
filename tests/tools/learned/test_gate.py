"""What `tools.gate` says of runs, whole: its words, its numbers, its pictures, its refusals."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.shapes import BASE_STYLES, NEW_STYLES
from datasets.world.render import STYLES
from runs.folder import checkpoint_digest
from tests.tools.results import calls
from tools.gate import main
from tools.learned import gate_figures
from tools.results import style
from trainers.backbones.clip_model import FrozenCLIP

refused = partial(calls.refused, main)


@pytest.fixture(autouse=True)
def drawn(monkeypatch) -> list[str]:
    """Pictures take long: only their names, unless a test lets them be drawn."""
    names: list[str] = []

    def note(figure, out, name):
        names.append(name)
        return []

    monkeypatch.setattr(gate_figures, "save", note)
    return names


@pytest.fixture
def look(data_root, tmp_path):
    """`look(run, *flags)`: gate.json of a run."""

    def call(run: Path, *flags: str, out: str = "gate") -> dict:
        place = tmp_path / out
        main(["--run", str(run), "--data", str(data_root), "--out", str(place), *flags])
        return json.loads((place / "gate.json").read_text())

    return call


def accuracy(run: Path, classes: str) -> float:
    return json.loads((run / classes / "results.json").read_text())["accuracy"]


@pytest.mark.parametrize("pairs", [(), ("TEST.FINAL_MODEL", "best_val")], ids=["last", "best"])
def test_the_checkpoint_is_named_as_by_its_results(trained, look, drawn, pairs):
    run = trained("base2new", "MoPD", *pairs)
    told = json.loads((run / "base/results.json").read_text())
    assert look(run)["checkpoint"] == told["checkpoint"]
    assert look(run, "--load-epoch", "1")["checkpoint"] == checkpoint_digest(str(run), 1)


def test_the_numbers_fit_the_run_and_each_other(trained, look, drawn, capsys):
    run = trained("base2new", "MoPD")
    found = look(run)
    H = len(found["teachers"])
    assert (found["gate"], found["num_teachers"], found["epoch"]) == ("learned", 3, 2)
    assert found["note"] == "" and found["datasets"] == {}
    parts = {(part["split"], part["classes"]): part for part in found["images"]}
    assert list(parts) == [("train", "base"), ("test", "base"), ("test", "new")]
    for part in parts.values():
        assert sum(part["weight"]) == pytest.approx(1, abs=1e-4)
        assert sum(part["load"]) == pytest.approx(3, abs=1e-4)
        assert sum(part["oracle"]["load"]) == pytest.approx(3, abs=1e-4)
        assert len(part["accuracy"]["teachers"]) == len(part["attracted"]) == H
        classes = part["by"]["class"].values()
        assert sum(one["images"] for one in classes) == part["images"]
        for key in ("weight", "load"):
            for h in range(H):
                mean = sum(one["images"] * one[key][h] for one in classes) / part["images"]
                assert part[key][h] == pytest.approx(mean, abs=1e-4)
        for h, images in enumerate(part["attracted"]):
            weights = [one["weight"] for one in images]
            assert weights == sorted(weights, reverse=True) and all(weights)
            assert bool(images) == (part["load"][h] > 0)
    for classes in ("base", "new"):
        assert parts["test", classes]["accuracy"]["student"] == pytest.approx(
            accuracy(run, classes), abs=1e-4
        )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    told = [line["gate_load"] for line in lines if line["split"] == "train"]
    assert [epoch["gate_load"] for epoch in found["epochs"]] == told
    shown = " ".join(capsys.readouterr().out.split())
    assert f"gate learned, K 3 of H {H}" in shown and "about the class (by chance" in shown
    assert shown.count("about the style (by chance") == len(parts)
    for part in parts.values():
        groups = part["by"]["style"]
        styles = BASE_STYLES if part["classes"] == "base" else NEW_STYLES
        assert groups.keys() <= {name for name, share in zip(STYLES, styles, strict=True) if share}
        assert sum(group["images"] for group in groups.values()) == part["images"]
    lists = ("train_Shapes_base", "test_Shapes_base", "test_Shapes_new")
    assert drawn == ["epochs", *(f"{x}_{what}" for x in lists for what in ("classes", "images"))]


def test_the_same_run_gives_the_same_bytes_and_no_image_is_encoded_twice(
    trained, look, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(gate_figures, "save", style.save)
    monkeypatch.setattr(gate_figures, "MOST_ROWS", 2)
    run, encode, seen = trained("base2new", "MoPD"), FrozenCLIP.encode_image, []

    def count(self, images):
        seen.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(FrozenCLIP, "encode_image", count)
    first = look(run, out="first")
    # those of the tests were kept by the run; at most the training images are new
    assert sum(seen) in (0, first["images"][0]["images"])
    seen.clear()
    look(run, out="second")
    assert seen == []
    shown = capsys.readouterr().out
    made = sorted((tmp_path / "first").iterdir())
    assert len(made) == 1 + 2 * 7
    for path in made:
        assert str(path) in shown
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_other_datasets_are_looked_at_and_told_apart(trained, look, capsys):
    run = trained("dg", "MoPD")
    found = look(run)
    names = [(part["split"], part["dataset"]) for part in found["images"]]
    assert names == [("train", "Shapes"), ("test", "Shapes"), ("test", "ShapesBlurred")]
    blurred = found["images"][2]["accuracy"]["student"]
    assert blurred == pytest.approx(accuracy(run / "shapes_blurred", "all"), abs=1e-4)
    information = found["datasets"]["information"]
    assert 0 <= information["bits"] <= 1  # two datasets of the same size
    assert found["images"][2]["by"]["style"].keys() == found["images"][1]["by"]["style"].keys()
    shown = capsys.readouterr().out
    assert "about the dataset (by chance" in shown
    table = shown.partition("Mean weights by dataset\n\n")[2].splitlines()
    assert table[0].split() == ["teacher", "Shapes", "ShapesBlurred"]
    for h, teacher in enumerate(found["teachers"]):
        (row,) = [line for line in table if line.startswith(f"{teacher}  ")][:1]
        weights = [part["weight"][h] for part in found["images"][1:]]
        assert row.split()[-2:] == [f"{weight:.3f}" for weight in weights]
    for part in found["images"]:
        share = [w for w in part["weight"] if w]
        assert part["entropy"]["mean"] == pytest.approx(
            -sum(w * math.log2(w) for w in share), abs=1e-3
        )
        assert 0 < part["entropy"]["image"] <= math.log2(found["num_teachers"]) + 1e-6


@pytest.mark.parametrize("kind", ["style", "domain"])
def test_groups_that_a_dataset_tells_are_grouped_by(trained, look, monkeypatch, kind):
    shapes, halves = DATASET_REGISTRY.get("Shapes"), ("even", "odd")
    if kind == "style":
        told = lambda self, items: ("style", [halves[item.label % 2] for item in items])  # noqa: E731
        monkeypatch.setattr(shapes, "groups", told)
    else:
        monkeypatch.delattr(shapes, "groups")
        monkeypatch.setattr(Datum, "domain", property(lambda self: self.label % 2))
        monkeypatch.setattr(shapes, "domains", list(halves))
    part = look(trained("base2new", "MoPD"))["images"][1]
    assert list(part["by"]) == list(part["information"]) == ["class", kind]
    groups = part["by"][kind]
    assert sorted(groups) == ["even", "odd"]
    assert sum(group["images"] for group in groups.values()) == part["images"]
    # what is known of the class is known of the group
    assert part["information"][kind]["bits"] <= part["information"]["class"]["bits"] + 1e-6


def test_a_gate_that_is_the_same_for_all_images_is_said_to_be(trained, look, drawn, capsys):
    found = look(trained("base2new", "MoPD", "TRAINER.MOPD.GATE", "dataset"))
    note = "Note: GATE dataset learns one vector: all images have the same teachers and weights"
    assert note in " ".join(capsys.readouterr().out.split())
    for part in found["images"]:
        assert sorted(set(part["load"])) == [0, 1]
        assert part["information"]["class"]["bits"] == 0 and part["information"]["class"]["p"] == 1
    assert drawn == ["epochs"]  # a map of constant columns shows nothing


@pytest.mark.parametrize("gate", ["uniform", "oracle"])
def test_a_gate_that_learns_nothing_is_said_to(trained, look, capsys, gate):
    found = look(trained("base2new", "MoPD", "TRAINER.MOPD.GATE", gate))
    assert f"Note: GATE {gate} learns nothing: " in capsys.readouterr().out
    for part in found["images"]:
        if gate == "uniform":
            assert set(part["load"]) == {1}
        else:
            assert part["oracle"]["same_first"] == part["oracle"]["same_picked"] == 1
            assert part["oracle"]["student_where_other"] is None
            assert part["oracle"]["load"] == part["load"]


def test_an_epoch_can_be_chosen_and_older_runs_have_no_curves(trained, look, copied, capsys):
    run = copied(trained("base2new", "MoPD"))
    found = look(run, "--load-epoch", "1")
    assert found["epoch"] == 1 and [epoch["epoch"] for epoch in found["epochs"]] == [1]
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    old = [{k: v for k, v in line.items() if not k.startswith("gate_")} for line in lines]
    path.write_text("\n".join(map(json.dumps, old)) + '\n{"torn')
    capsys.readouterr()
    assert look(run, out="old")["epochs"] == []
    assert "Note: metrics.jsonl has no gate_load" in capsys.readouterr().out


def test_pictures_go_beside_the_run_by_default(trained, copied, data_root):
    run = copied(trained("base2new", "MoPD", "TRAINER.MOPD.GATE", "dataset"))
    main(["--run", str(run), "--data", str(data_root)])
    assert (run.parent / "copy-gate/gate.json").is_file()


def test_what_has_no_gate_is_refused(trained, tmp_path, capsys):
    run = trained("base2new", "CoOp")
    message = refused(capsys, "--run", str(run), "--out", str(tmp_path / "gate"))
    assert f"{run} is a run of CoOp, which has no gate: give a run of MoPD" in message
    message = refused(capsys, "--run", str(run / "new"))
    assert f"{run / 'new'} is not the folder of a trained run" in message
    assert not (tmp_path / "gate").exists()


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("POOL_DIGEST", "TRAINER.MOPD.POOL 'embedded' is another file now"),
        ("BACKBONE_DIGEST", "MODEL.BACKBONE.NAME 'assets/shapes_clip.pt' is another file now"),
        ("TRAINED_CONTENT", "was trained on other images or labels than Shapes has now"),
    ],
)
def test_a_run_of_other_files_is_refused(trained, copied, data_root, tmp_path, capsys, key, told):
    run = copied(trained("base2new", "MoPD"))
    path = run / "config.yaml"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(f"{key}: abc" if line.startswith(f"{key}:") else line for line in lines)
    )
    flags = ("--run", str(run), "--data", str(data_root), "--out", str(tmp_path / "gate"))
    assert told in refused(capsys, *flags)
    assert not (tmp_path / "gate").exists()


def test_a_test_on_other_images_is_refused(trained, copied, data_root, capsys):
    run = copied(trained("base2new", "MoPD"))
    path = run / "new/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "abc"}))
    message = refused(capsys, "--run", str(run), "--data", str(data_root))
    assert "was measured on other images or labels than Shapes has now" in message
    assert "give the folder of its data with --data" in message


def test_a_missing_epoch_and_a_place_that_cannot_be_written_are_told(
    trained, data_root, tmp_path, capsys
):
    run = ("--run", str(trained("base2new", "MoPD")), "--data", str(data_root))
    message = refused(capsys, *run, "--load-epoch", "7")
    assert "epochs that were saved (--load-epoch): 1, 2" in message
    (tmp_path / "file").write_text("")
    message = refused(capsys, *run, "--out", str(tmp_path / "file/gate"))
    assert "cannot write" in message and "choose another --out" in message


def test_new_classes_without_texts_of_their_own_are_left_out(trained, look, tmp_path, capsys):
    """They may have none: only the teachers of the training need texts."""
    names = json.loads((trained("base2new", "MoPD") / "base/results.json").read_text())[
        "classnames"
    ]
    texts = {name: [f"a photo of a {name}.", f"a sketch of a {name}."] for name in names}
    (tmp_path / "base.json").write_text(json.dumps(texts))
    (tmp_path / "pool.yaml").write_text(f"descriptions: {tmp_path / 'base.json'}\n")
    pairs = ("TRAINER.MOPD.POOL", str(tmp_path / "pool.yaml"), "TRAINER.MOPD.NUM_TEACHERS", "1")
    told = look(trained("base2new", "MoPD", *pairs))
    shown = capsys.readouterr()
    assert "Left out, Shapes: base, text 1: no text for 20 of 20 classes" in shown.err
    assert told["images"] and len(told["teachers"]) == 2
