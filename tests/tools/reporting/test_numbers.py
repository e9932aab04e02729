"""Numbers of the page are those of the tables, and the page stays small."""

from __future__ import annotations

import json
import re

import pytest

from tests.tools.reporting.pages import Page, keep_metrics, keep_predictions
from tests.tools.results.calls import csv_rows, shown
from tests.tools.results.results_tree import transfer, world, write_base2new, write_result
from tools import report
from tools.reporting import page as page_module


def number(text: str, signed: bool = False) -> str:
    return format(float(text), "+z.2f" if signed else ".2f") if text else "-"


def told(row: dict[str, str]) -> str:
    """A line of the CSV as a cell."""
    spread = f" ± {number(row['spread'])}" if row["spread"] else ""
    return f"{number(row['mean'])}{spread}"


def check_accuracies(found: Page, text: str, title: str) -> int:
    """Compare a table of the page with lines of the CSV of tools.tables; how many there are."""
    cells = {
        (row["method"], row["config"], measure): value
        for row in found.table(title)
        for measure, value in row.items()
    }
    dataset = "average" if "average" in title else title.rpartition(", ")[2]
    count = 0
    for row in csv_rows(text):
        config = row["config"]
        if row["dataset"] == dataset and row["mean"] and not config.startswith("paper:"):
            assert cells[row["method"], config, row["measure"]] == told(row)
            count += 1
    return count


def test_accuracies_and_differences_are_those_of_tools_tables(tmp_path, page, capsys):
    world(tmp_path / "tree")
    found, text = page(tmp_path / "tree"), shown(capsys, tmp_path / "tree", "--format", "csv")
    counts = [
        check_accuracies(found, text, f"base2new, {name}")
        for name in ("Shapes", "Digits", "average over 2 datasets")
    ]
    assert counts == [9, 6, 6]
    flags = ("--paired", "CoOp", "--format", "csv")
    lines = csv_rows(shown(capsys, tmp_path / "tree", *flags))
    rows = {
        (row["method"], row["config"]): row
        for row in found.table("base2new, Shapes: minus CoOp embedded")
    }
    compared = [line for line in lines if line["dataset"] == "Shapes"]
    assert len(compared) == 6
    for line in compared:
        cell = rows[line["method"], line["config"]][line["measure"]]
        assert cell.startswith(number(line["difference"], signed=True))
        assert f"[{number(line['low'])}, {number(line['high'])}]" in cell


def test_the_papers_rows_stand_beside_ours(tmp_path, page, capsys):
    for seed in (1, 2):
        given = {"dataset": "EuroSAT", "config": "vit_b16", "seed": seed}
        write_base2new(tmp_path / "tree", 90.0 + seed, 60.0, **given)
    found = page(tmp_path / "tree")
    text = shown(capsys, tmp_path / "tree", "--published", "--format", "csv")
    assert check_accuracies(found, text, "base2new, EuroSAT") == 3
    rows = found.table("base2new, EuroSAT")
    papers = [row for row in csv_rows(text) if row["config"].startswith("paper:")]
    bases = [number(row["mean"]) for row in papers if row["measure"] == "base"]
    papers_shown = [row["base"] for row in rows if row["config"].startswith("paper [")]
    assert bases and papers_shown == bases
    (minus,) = [row["base"] for row in rows if " minus [" in row["config"]]
    assert minus in {number(row["difference"], True) for row in csv_rows(text) if row["difference"]}


def test_rows_on_validation_images_are_shown_and_not_compared(tmp_path, page):
    write_base2new(tmp_path / "tree", 70.0, 60.0, data="a" * 12)
    settings = {"TEST.SPLIT": "val"}
    write_base2new(
        tmp_path / "tree", 80.0, 50.0, config="embedded-val", settings=settings, data="b" * 12
    )
    found = page(tmp_path / "tree")
    assert [row["base"] for row in found.table("base2new, Shapes")] == ["70.00", "80.00"]
    named = "CoOp embedded, 16 shots / CoOp embedded-val, 16 shots"
    for half in ("base", "new"):
        assert f"not to be compared on Shapes ({half}), other images: {named}" in found.text
    assert "accuracy 80.00, val images" in found.text


def test_other_protocols_have_sections_of_their_own(tmp_path, page):
    transfer(tmp_path / "tree")
    for shots in (1, 2, 4):
        write_result(tmp_path / "tree", 50.0 + shots, protocol="fewshot", shots=shots)
    found = page(tmp_path / "tree")
    rows = [row for row in found.table("xd, trained on ImageNet") if row["config"] == "embedded"]
    assert [row["EuroSAT"] for row in rows] == ["38.00 ± 1.41", "43.00 ± 1.41"]
    assert found.table("fewshot, Shapes")[0]["4 shots"] == "54.00"
    captions = [svg["aria-label"] for svg in found.all("svg")]
    assert "fewshot, Shapes: accuracy over training images per class." in captions
    assert any(c.startswith("Gain of ZeroshotCLIP embedded, 16 shots over") for c in captions)
    assert "xd from ImageNet: 12 tests of 4 runs, 2 rows, 2 seeds, on ImageNet," in found.text
    assert found.text.count("average of the targets: accuracy") == 2


def test_settings_that_differ_stand_in_a_table_and_the_others_are_folded(tmp_path, page):
    same = {"OPTIM.LR": 0.002, "TRAINER.NAME": "x"}
    own = {"TRAINER.MOPD.K": 3, "TRAINER.MOPD.BETA": 0.5}
    write_base2new(tmp_path / "tree", 60.0, 50.0, settings=same | {"OPTIM.MAX_EPOCH": 5})
    for tag, k in (("", 3), ("-k1", 1)):
        given = same | own | {"OPTIM.MAX_EPOCH": 9, "TRAINER.MOPD.K": k}
        write_base2new(
            tmp_path / "tree", 60.0, 50.0, trainer="MoPD", config=f"embedded{tag}", settings=given
        )
    found = page(tmp_path / "tree")
    names = ["method", "config", "shots"]
    rows = [list(row.values()) for row in found.table("Different between all rows")]
    assert list(found.table("Different between all rows")[0]) == [*names, "OPTIM.MAX_EPOCH"]
    assert [row[-1] for row in rows] == ["5", "9", "9"]
    rows = found.table("Different between rows of MoPD")
    assert [(row["config"], row["TRAINER.MOPD.K"]) for row in rows] == [
        ("embedded", "3"),
        ("embedded-k1", "1"),
    ]
    assert {"setting": "OPTIM.LR", "value": "0.002"} in found.table("The same in all rows")
    assert found.table("The same in rows of MoPD") == [
        {"setting": "TRAINER.MOPD.BETA", "value": "0.5"}
    ]


def test_time_memory_and_versions_are_told(tmp_path, page):
    for seed, gib in ((1, 0.5), (2, 0.75)):
        write_base2new(
            tmp_path / "tree", 60.0, 50.0, seed=seed, device="NVIDIA X", precision="fp16",
            memory={"process_gib": gib, "device_gib": None}, versions={"torch": f"2.{seed}"},
            seconds={"train": 20.0 * seed, "total": 30.0 * seed},
        )  # fmt: skip
    found = page(tmp_path / "tree")
    (row,) = found.table("Time and memory")
    assert list(row.values())[3:] == [
        *("NVIDIA X", "fp16", "2", "20 to 40 s", "60 to 120 s", "0.75", "-"),
    ]
    assert found.table("Versions") == [
        {"torch": "2.1", "tests": "2"},
        {"torch": "2.2", "tests": "2"},
    ]


def test_the_gate_of_a_training_is_drawn_without_a_look_at_it(tmp_path, page):
    path = write_result(tmp_path / "tree", 60.0, classes="base", trainer="MoPD")
    run = path.parent.parent
    gate = {"gate_load": [1.0, 0.75, 0.25], "gate_weight": [0.5, 0.4, 0.1], "gate_entropy": 0.9}
    keep_metrics(run, **gate)
    found = page(tmp_path / "tree")
    picked = "'teacher 1' 100%, 'teacher 2' 75%, 'teacher 3' 25%."
    assert f"Picked most in the last epoch, as a share of the images: {picked}" in found.text
    assert f"Command: python -m tools.gate --run {run}" in found.text
    keep_metrics(run)
    assert "No curves of the gate: metrics.jsonl has no gate_load" in page(tmp_path / "tree").text
    (run.parent / "seed1-gate").mkdir()
    (run.parent / "seed1-gate/gate.json").write_text('{"teachers": 3}')
    assert f"{run.parent}/seed1-gate/gate.json is damaged." in page(tmp_path / "tree").text
    (run.parent / "seed1-gate/gate.json").write_text('{"checkpoint": "0123456789ab"}')
    told = f"{run.parent}/seed1-gate/gate.json is of another checkpoint."
    assert told in page(tmp_path / "tree").text


def test_damaged_and_missing_material_is_told_and_the_rest_is_shown(tmp_path, page):
    path = write_result(tmp_path / "tree", 60.0, classes="base")
    (path.parent / "predictions.npz").write_bytes(b"no archive")
    (path.parent.parent / "metrics.jsonl").write_text('{"epoch": 1, "spl')
    found = page(tmp_path / "tree")
    assert f"Not told: {path.parent}/predictions.npz is damaged" in found.text
    assert f"Command: python -m tools.predictions make {path.parent}" in found.text
    run = path.parent.parent
    assert f"No training curves: {run}/metrics.jsonl tells no epochs." in found.text
    keep_predictions(path, tmp_path / "data", ["cat", "dog"])
    found = page(tmp_path / "tree", "--data", tmp_path / "elsewhere")
    assert found.all("img") == [] and "No example images: they are not below" in found.text
    assert len(page(tmp_path / "tree", "--data", tmp_path / "data").all("img")) == 3


def test_numbers_that_are_none_are_left_out_of_the_curves(tmp_path, page):
    path = write_result(tmp_path / "tree", 60.0, classes="base")
    lines = [
        {"epoch": 1, "split": "train", "loss": 1.0, "ce": "much"},
        {"epoch": 2, "split": "train", "loss": float("nan"), "acc": None},
    ]
    (path.parent.parent / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = page(tmp_path / "tree")
    assert "loss and accuracy by epoch" in found.text and " ce " not in found.text


@pytest.fixture
def large(tmp_path):
    """16 rows on ten seeds; the first seed of each has predictions of one half."""
    for row in range(16):
        config = f"embedded-v{row}" if row else "embedded"
        for seed in range(1, 11):
            given = {"config": config, "seed": seed, "trainer": "MoPD"}
            write_base2new(tmp_path / "tree", 60.0 + row / 10, 50.0 + seed / 10, **given)
    for path in sorted((tmp_path / "tree").rglob("seed1/base/results.json")):
        keep_predictions(path, tmp_path / "data", [f"class {c}" for c in range(12)])
        keep_metrics(path.parent.parent)
    return tmp_path / "tree"


def test_a_large_study_is_folded_and_bounded(large, tmp_path, capsys, monkeypatch):
    out, data, drawn = tmp_path / "page.html", tmp_path / "data", []
    details = page_module._details
    # drawn once for both pages
    once = lambda *given: drawn or drawn.extend(details(*given)) or drawn  # noqa: E731
    monkeypatch.setattr(page_module, "_details", once)
    monkeypatch.setattr(page_module, "ALL_IMAGES", 64)
    words = [str(large), "--out", str(out), "--data", str(data)]
    report.main(words)
    found = Page(out.read_text())
    assert len(found.table("base2new, Shapes")) == 16
    folded = found.all("details")
    assert len(folded) > 48 and all("open" not in one for one in folded)
    titles = re.findall(r"MoPD embedded(?:-v\d+)?, 16 shots base", found.text)
    assert len(titles) == 16
    assert len(found.all("img")) == 32  # two of each of 16 tests
    assert found.text.count("Seed 1, one of 10:") == 16
    size = out.stat().st_size
    assert size < 5e6

    assert "15 rows that are variants of these are in the tables and curves only." in found.text

    # what does not fit is named, with the command that shows it
    bound = size * 2 // 3
    monkeypatch.setattr(page_module, "MOST_BYTES", bound)
    report.main(words)
    small = Page(out.read_text())
    assert out.stat().st_size <= bound
    assert len(small.table("base2new, Shapes")) == 16
    left = small.text.count("Left out, so that the file stays small.")
    assert 0 < left < 16 and small.text.count("Seed 1, one of 10:") == 16 - left
    run = large / "base2new/shapes/MoPD/embedded-v15/shots_16/seed1"
    assert f"Command: python -m tools.report {run} --data {data}" in small.text
