"""The papers' figures: beside ours, and the file that holds them."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.tools.results import calls
from tests.tools.results.calls import csv_rows, shown
from tests.tools.results.results_tree import transfer, world, write_base2new, write_result
from tools import tables
from tools.results.published import PATH, published_file, published_rows
from tools.results.summary import AVERAGE, H, harmonic_mean

refused = partial(calls.refused, tables.main)


def paper_run(output: Path, **more: object) -> None:
    for seed, (base, new) in enumerate(((82.0, 68.0), (84.0, 66.0)), start=1):
        given = {"dataset": "EuroSAT", "config": "vit_b16", "seed": seed, **more}
        write_base2new(output, base, new, **given)


def test_published_rows_stand_beside_ours_with_the_difference(tmp_path, capsys):
    paper_run(tmp_path)
    lines = shown(capsys, tmp_path, "--published").splitlines()
    assert [" ".join(line.split()) for line in lines[4:8]] == [
        "CoOp paper [1] 16 91.54 54.44 68.27",
        "CoOp paper [2] 16 92.19 54.74 68.69",
        "CoOp vit_b16 16 2 83.00 +- 1.41 67.00 +- 1.41 74.15 +- 0.30",
        "CoOp vit_b16 minus [1] 16 -8.54 +12.56 +5.88",
    ]
    notes = " ".join(" ".join(lines[8:]).split())
    assert "[1] coop_kgcoop_paper_rerun: CoOp, run again in the KgCoOp paper; average read" in notes
    assert "[2] coop: CoOp, figures of the CoCoOp paper; read in the source; source: git" in notes
    assert "average of the papers' rows" not in notes  # one dataset has no average


def test_a_difference_that_rounds_to_zero_has_no_minus(tmp_path, capsys):
    write_base2new(tmp_path, 92.189, 54.741, dataset="EuroSAT", config="vit_b16")
    row = shown(capsys, tmp_path, "--published", "coop").splitlines()[6]
    assert row.split()[:4] == ["CoOp", "vit_b16", "minus", "[1]"]
    assert row.split()[5:7] == ["+0.00", "+0.00"]


@pytest.mark.parametrize("protocol", ["fewshot", "xd"])
def test_the_usual_row_of_coop_says_whether_its_configuration_is_ours(tmp_path, capsys, protocol):
    write_result(tmp_path, 69.0, protocol=protocol, dataset="ImageNet", config="vit_b16", shots=4)
    notes = " ".join(shown(capsys, tmp_path, "--published").split())
    ours = yaml.safe_load((PATH.parent / "trainers/CoOp/vit_b16.yaml").read_text())
    epochs, context = ours["OPTIM"]["MAX_EPOCH"], ours["TRAINER"]["COOP"]["CTX_INIT"]
    assert notes.count("[1] coop: CoOp;") == 1
    (known,) = re.findall(r"[Ee]pochs and context ([^;]+); ours, CoOp/vit_b16, (.+?)\.", notes)
    expected = {"fewshot": "of these runs could not be established", "xd": "were not read"}
    assert known == (expected[protocol], f"has {epochs} epochs from '{context}'")


def test_the_row_that_is_asked_for_is_the_one_that_is_compared(tmp_path, capsys):
    paper_run(tmp_path)
    given = (tmp_path, "--published", "coop", "maple", "--format", "csv")
    rows = csv_rows(shown(capsys, *given))
    base = rows[0]
    assert base["reference"] == "coop"
    assert float(base["difference"]) == pytest.approx(83.0 - 92.19)
    papers = [(r["method"], r["config"], r["mean"]) for r in rows if r["measure"] == "base"][1:]
    assert papers == [
        ("CoOp, figures of the CoCoOp paper", "paper:coop", "92.19"),
        ("MaPLe", "paper:maple", "94.07"),
    ]
    text = shown(capsys, tmp_path, "--published", "CoOp")
    assert "[1] coop:" in text and "coop_dept_rerun:" in text and "kgcoop:" not in text


def test_other_shots_and_backbones_than_the_papers_are_said(tmp_path, capsys):
    paper_run(tmp_path, shots=4, backbone="RN50")
    text = shown(capsys, tmp_path, "--published", "coop")
    assert "minus" not in text
    assert "CoOp vit_b16, 4 shots: backbone RN50, the papers' is ViT-B/16." in text
    assert "CoOp vit_b16, 4 shots: no difference is shown, the papers' rows have 16 shots." in text


def test_an_average_over_other_datasets_than_the_papers_is_made_from_their_cells(tmp_path, capsys):
    paper_run(tmp_path)
    paper_run(tmp_path, dataset="Food101")
    text = shown(capsys, tmp_path, "--published", "coop", "proda")
    average = text.partition("average over 2 datasets")[2]
    base, new = (92.19 + 88.33) / 2, (54.74 + 82.26) / 2
    assert f"{base:.2f}          {new:.2f}          {harmonic_mean(base, new):.2f}" in average
    assert "81.56" not in text  # ProDA: only an average over all datasets is known
    assert "made from their cells for the 2 datasets here" in " ".join(text.split())


def test_the_printed_average_is_shown_for_all_datasets_of_the_papers(tmp_path, capsys):
    for dataset in published_file()["datasets"][:11]:
        paper_run(tmp_path, dataset=dataset)
    text = shown(capsys, tmp_path, "--published", "coop")
    average = text.partition("average over 11 datasets")[2]
    assert "82.69          63.22          71.66" in average and "made from" not in text


def test_datasets_without_published_figures_are_said(tmp_path, capsys):
    write_base2new(tmp_path, 60.0, 50.0)
    text = shown(capsys, tmp_path, "--published")
    assert "no published figures for Shapes" in text and "[1]" not in text


def test_rows_of_transfer_are_for_the_papers_source_only(tmp_path, capsys):
    write_result(tmp_path, 60.0, protocol="xd", dataset="Shapes")
    write_result(tmp_path, 40.0, protocol="xd", dataset="EuroSAT", source="Shapes")
    assert "no published figures for Shapes, EuroSAT" in shown(capsys, tmp_path, "--published")
    transfer(tmp_path)
    text = shown(capsys, tmp_path / "xd/imagenet", "--published", "coop")
    row = next(line for line in text.splitlines() if "paper [1]" in line)
    assert row.split()[-4:] == ["71.51", "41.92", "46.39", f"{(41.92 + 46.39) / 2:.2f}"]


@pytest.mark.parametrize("protocol", ["xd", "dg"])
def test_the_source_alone_stands_beside_the_papers(tmp_path, capsys, protocol):
    write_result(tmp_path, 71.0, protocol=protocol, dataset="ImageNet", config="vit_b16")
    lines = shown(capsys, tmp_path, "--published", "coop").splitlines()
    assert [line.split() for line in (lines[2], *lines[4:7])] == [
        ["method", "config", "shots", "seeds", "ImageNet"],
        ["CoOp", "paper", "[1]", "16", "71.51"],
        ["CoOp", "vit_b16", "16", "1", "71.00"],
        ["CoOp", "vit_b16", "minus", "[1]", "16", "-0.51"],
    ]
    assert "average" not in "".join(lines[:8])


def test_an_unknown_published_row_is_refused_with_a_guess(tmp_path, capsys):
    world(tmp_path)
    message = refused(capsys, tmp_path, "--published", "kgcop")
    assert 'no published row "kgcop"' in message and 'do you mean "kgcoop"?' in message
    assert refused(capsys, tmp_path, "--runs", "--published").startswith("--published compares")


def test_every_published_row_has_its_source_and_how_sure_it_is():
    for protocol in ("base2new", "fewshot", "xd", "dg"):
        rows = published_rows(protocol)
        assert len(rows) > 10
        for row in rows:
            assert row.source and all(row.source) and row.figures and row.shots in (1, 2, 4, 8, 16)
            assert {row.confidence, row.average_confidence} <= {"read", "memory"}
            assert all(0 < v < 100 for cell in row.figures.values() for v in cell.values())
            assert set(row.figures) <= {*published_file()["datasets"], AVERAGE}


def recomputed() -> set[tuple[str, str, str, float, float]]:
    """Averages and H that are not those of the printed figures: where, printed, recomputed."""
    found = set()
    for protocol in ("base2new", "xd", "dg"):
        source = published_file()["protocols"][protocol].get("source")
        for row in published_rows(protocol):
            cells = {d: c for d, c in row.figures.items() if d not in (AVERAGE, source)}
            printed = row.figures.get(AVERAGE, {})
            for measure in printed if len(cells) > 1 else ():
                mean = sum(cell[measure] for cell in cells.values()) / len(cells)
                if measure != H and abs(mean - printed[measure]) > 0.005 + 1e-9:
                    where = "average" if measure == "all" else f"average {measure}"
                    found.add((protocol, row.key, where, printed[measure], round(mean, 2)))
            for dataset, cell in row.figures.items():
                if {"base", "new", H} <= cell.keys():
                    h = harmonic_mean(cell["base"], cell["new"])
                    if abs(h - cell[H]) > (0.010 if dataset == AVERAGE else 0.012):
                        found.add((protocol, row.key, f"{dataset} H", cell[H], round(h, 2)))
    return found


def test_published_averages_are_those_of_their_cells_but_for_the_listed_ones():
    listed = {
        (e["protocol"], e["row"], " ".join(e["where"]), e["printed"], e["from_cells"])
        for e in published_file()["as_printed"]
    }
    assert recomputed() == listed and len(listed) == 18


def test_the_papers_two_coop_rows_and_mopds_average_are_as_cited():
    rows = {row.key: row.figures[AVERAGE] for row in published_rows("base2new")}
    assert rows["coop"] == {"base": 82.69, "new": 63.22, H: 71.66}
    assert rows["coop_kgcoop_paper_rerun"] == {"base": 82.63, "new": 67.99, H: 74.60}
    assert rows["mopd"] == {H: 77.90}
    assert yaml.safe_load(PATH.read_text()) == published_file()
