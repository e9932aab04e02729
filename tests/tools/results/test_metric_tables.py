"""Tables of other figures than accuracy, from results.json and what stands beside it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from runs.openworld import FIGURES, bound_to
from runs.predictions import Predictions, write_predictions
from runs.results import identity
from tests.tools.results import calls
from tests.tools.results.calls import csv_rows, shown
from tests.tools.results.results_tree import write_base2new, write_result
from tools import tables

refused = partial(calls.refused, tables.main)
SHARES = {"top5_accuracy": 90.0, "mean_class_accuracy": 61.0, "ece": 5.25, "nll": 1.25}


def together(output: Path, config: str = "embedded", dataset: str = "shapes", **figures) -> Path:
    """Write openworld.json of the CoOp runs of a dataset."""
    for run in (output / "base2new" / dataset / "CoOp" / config).glob("shots_16/seed*"):
        halves = {h: json.loads((run / h / "results.json").read_text()) for h in ("base", "new")}
        found = {**dict.fromkeys(FIGURES, 50.0), **figures, "of": bound_to(**halves)}
        (run / "openworld.json").write_text(json.dumps(found))
    return output


def test_each_test_and_both_halves_have_a_table(tmp_path, capsys):
    for seed, more in ((1, 0.0), (2, 0.5)):
        figures = SHARES | {"nll": 1.25 + more, "top5_accuracy": 90.0 + more}
        write_base2new(tmp_path, 60.0 + more, 50.0, seed=seed, **figures)
    write_base2new(tmp_path, 48.0, 44.0, trainer="ZeroshotCLIP", **SHARES)
    together(tmp_path, base=40.0, auroc=75.125)
    lines = shown(capsys, tmp_path, "--metrics").splitlines()
    cells = [line.replace(" +- ", "±").split() for line in lines]
    assert lines[0] == "base2new, Shapes" and lines[9] == "base2new, Shapes: base and new together"
    assert cells[2] == [
        *("method", "config", "shots", "seeds", "tested", "accuracy", "macro", "F1"),
        *("top-5", "class", "mean", "ECE", "NLL"),
    ]
    assert cells[4:8] == [
        ["ZeroshotCLIP", "embedded", "16", "1", "base", "48.00", "47.00", "90.00", "61.00", "5.25",
         "1.2500"],
        ["ZeroshotCLIP", "embedded", "16", "1", "new", "44.00", "43.00", "90.00", "61.00", "5.25",
         "1.2500"],
        ["CoOp", "embedded", "16", "2", "base", "60.25±0.35", "59.25±0.35", "90.25±0.35",
         "61.00±0.00", "5.25±0.00", "1.5000±0.3536"],
        ["CoOp", "embedded", "16", "2", "new", "50.00±0.00", "49.00±0.00", "90.25±0.35",
         "61.00±0.00", "5.25±0.00", "1.5000±0.3536"],
    ]  # fmt: skip
    assert cells[11][4:] == ["base", "of", "all", "new", "of", "all", "AUROC", "OpenworldAUC"]
    assert cells[13:15] == [
        ["ZeroshotCLIP", "embedded", "16", "1", "-", "-", "-", "-"],
        ["CoOp", "embedded", "16", "2", "40.00±0.00", "50.00±0.00", "75.12±0.00", "50.00±0.00"],
    ]
    notes = " ".join(" ".join(lines[16:]).split())
    assert notes.endswith(
        "not told for ZeroshotCLIP embedded, 16 shots: Shapes (base of all, new of all, AUROC, "
        "OpenworldAUC); python -m tools.predictions make DIR computes them"
    )
    assert "15 bins" in notes and "H:" not in notes


def test_an_average_is_over_datasets_and_empty_where_one_does_not_tell(tmp_path, capsys):
    for dataset, more in (("Shapes", 0.0), ("Digits", 2.0)):
        figures = SHARES | {"ece": 5.0 + more, "nll": 1.0 if dataset == "Shapes" else ...}
        write_base2new(tmp_path, 60.0 + more, 50.0, dataset=dataset, **figures)
        together(tmp_path, dataset=dataset.lower(), auroc=70.0 + more)
    rows = csv_rows(shown(capsys, tmp_path, "--metrics", "--format", "csv"))
    found = {(r["dataset"], r["tested"], r["metric"]): r for r in rows}
    assert len(found) == len(rows) == 3 * (2 * 6 + 4)
    average = {k[1:]: r for k, r in found.items() if k[0] == "average"}
    assert average["base", "accuracy"]["mean"] == "61.0"
    assert average["new", "ece"]["mean"] == "6.0"
    assert average["base and new", "auroc"]["mean"] == "71.0"
    assert average["base", "nll"]["mean"] == ""
    assert found["Shapes", "base", "nll"]["mean"] == "1.0"
    told = found["Digits", "base", "nll"]
    assert (told["mean"], told["problem"]) == ("", "NLL is not told by all tests")
    text = " ".join(shown(capsys, tmp_path, "--metrics").split())
    assert "not told for CoOp embedded, 16 shots: Digits (NLL); python -m" in text


def test_a_seed_that_does_not_tell_a_figure_leaves_its_mean_empty(tmp_path, capsys):
    write_result(tmp_path, 60.0, protocol="fewshot", seed=1, **SHARES)
    write_result(tmp_path, 62.0, protocol="fewshot", seed=2, **SHARES | {"ece": None})
    lines = shown(capsys, tmp_path, "--metrics").splitlines()
    (row,) = (line for line in lines if line.startswith("CoOp"))
    assert row.replace(" +- ", "±").split()[3:] == [
        *("2", "61.00±1.41", "60.00±1.41", "90.00±0.00", "61.00±0.00", "-", "1.2500±0.0000"),
    ]


def test_older_results_take_their_figures_from_predictions_of_their_own(tmp_path, capsys):
    path = write_result(tmp_path, 50.0, protocol="fewshot")
    outputs = {
        "label": np.array([0, 1]),
        "top": np.array([[0, 1], [0, 1]]),
        "confidence": np.array([0.75, 0.5]),
        "nll": np.array([0.25, 0.75]),
    }
    of = identity(json.loads(path.read_text()))
    for own, expected in ((True, ["100.00", "50.00", "37.50", "0.5000"]), (False, ["-"] * 4)):
        bound = of if own else {**of, "correct": 7}
        found = Predictions(outputs, ["a.png", "b.png"], ["cat", "dog"], None, "", bound)
        write_predictions(path.parent, found)
        lines = shown(capsys, tmp_path, "--metrics").splitlines()
        (row,) = (line for line in lines if line.startswith("CoOp"))
        assert row.split()[4:] == ["50.00", "49.00", *expected]


def test_figures_of_both_halves_that_are_of_other_results_are_not_shown(tmp_path, capsys):
    write_base2new(tmp_path, 60.0, 50.0, **SHARES)
    assert "together" in shown(capsys, together(tmp_path), "--metrics")
    write_result(tmp_path, 60.0, classes="base", **SHARES, correct=401)
    assert "together" not in shown(capsys, tmp_path, "--metrics")


@pytest.mark.parametrize("other", ["--runs", "--published", "--paired=CoOp"])
def test_tables_of_another_kind_do_not_go_together_with_these(tmp_path, capsys, other):
    write_base2new(tmp_path, 60.0, 50.0)
    message = refused(capsys, tmp_path, "--metrics", other)
    assert message.startswith("--metrics makes tables of its own")


def test_values_that_no_run_writes_are_refused(tmp_path, capsys):
    for key, value, expected in (
        ("ece", 101.0, "a number from 0 to 100, or null"),
        ("nll", -0.5, "a number from 0, or null"),
        ("top5_accuracy", "90", "a number from 0 to 100, or null"),
    ):
        write_base2new(tmp_path, 60.0, None, **{key: value})
        message = refused(capsys, tmp_path, "--metrics")
        assert f"({key} is {value!r}, expected {expected})" in message
