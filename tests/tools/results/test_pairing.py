"""Rows against a baseline, seed by seed: differences, intervals, wins, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from scipy import stats

from runs.results import find_results
from tests.tools.results import calls
from tests.tools.results.calls import csv_rows, shown
from tests.tools.results.results_tree import transfer, write_base2new, write_result
from tools import study, tables
from tools.results.pairing import Paired
from tools.results.pairing_tables import ONE_PAIR
from tools.results.summary import harmonic_mean, summarise

refused = partial(calls.refused, tables.main)
COOP = {"Shapes": [(60, 50), (64, 52), (61, 55)], "Digits": [(80, 70), (82, 66), (81, 60)]}
MOPD = {"Shapes": [(62, 50), (63, 57), (65, 56)], "Digits": [(81, 70), (84, 69), (80, 71)]}
Accuracies = Sequence[tuple[float, float]]  # base and new, for each seed


def write(output: Path, accuracies: Accuracies, seeds: Sequence[int] = (1, 2, 3), **more) -> None:
    for seed, (base, new) in zip(seeds, accuracies, strict=True):
        write_base2new(output, base, new, seed=seed, **more)


def both(output: Path) -> None:
    """CoOp and MoPD on two datasets, three seeds each."""
    for dataset in COOP:
        write(output, COOP[dataset], dataset=dataset)
        write(output, MOPD[dataset], dataset=dataset, trainer="MoPD")


def paired(capsys, *arguments: object) -> dict[tuple[str, ...], dict[str, str]]:
    """Lines of the CSV, by dataset, method and measure."""
    rows = csv_rows(shown(capsys, *arguments, "--format", "csv"))
    return {(row["dataset"], row["method"], row["measure"]): row for row in rows}


def agrees(row: dict[str, str], ours: Sequence[float], theirs: Sequence[float]) -> None:
    """A line of the CSV is what SciPy's paired t-test says."""
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    mean = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    assert float(row["difference"]) == pytest.approx(mean)
    assert (float(row["low"]), float(row["high"])) == pytest.approx(tuple(expected))
    assert row["seeds"] == str(len(ours)) and row["problem"] == ""


def test_differences_and_intervals_are_those_of_the_paired_t_test(tmp_path, capsys):
    both(tmp_path)
    found = paired(capsys, tmp_path, "--paired", "CoOp")
    assert len(found) == 3 * 3
    measures = {"base": lambda b, n: b, "new": lambda b, n: n, "H": harmonic_mean}
    for measure, of in measures.items():
        for dataset in COOP:
            ours, theirs = ([of(*pair) for pair in rows[dataset]] for rows in (MOPD, COOP))
            agrees(found[dataset, "MoPD", measure], ours, theirs)
        ours, theirs = (
            [
                of((b + base) / 2, (n + new) / 2)
                for (b, n), (base, new) in zip(rows["Shapes"], rows["Digits"], strict=True)
            ]
            for rows in (MOPD, COOP)
        )
        agrees(found["average", "MoPD", measure], ours, theirs)
    counted = {key[0::2]: (row["wins"], row["ties"]) for key, row in found.items()}
    assert counted["Shapes", "base"] == ("2", "0") and counted["Shapes", "new"] == ("2", "1")
    assert counted["average", "base"] == ("3", "0")  # 71.5, 73.5, 72.5 against 70, 73, 71


def test_text_says_what_the_figures_are(tmp_path, capsys):
    both(tmp_path)
    lines = shown(capsys, tmp_path / "base2new/shapes", "--paired", "CoOp/embedded").splitlines()
    assert lines[0] == "base2new, Shapes: minus CoOp embedded"
    assert lines[2].split() == ["method", "config", "shots", "base", "new", "H"]
    low, high = stats.ttest_rel([62, 63, 65], [60, 64, 61]).confidence_interval(0.95)
    assert f"+1.67 [{low:.2f}, {high:.2f}] 2/3" in lines[4]
    assert " 2.5/3 " in lines[4]  # new: a tie on seed 1
    assert lines[4].split()[:3] == ["MoPD", "embedded", "16"] and len(lines) == 6 + 4
    notes = " ".join(" ".join(lines[6:]).split())
    assert "row minus baseline in percentage points, mean over the seeds that both have" in notes
    assert "95% confidence interval of this mean, paired t over the seeds" in notes
    assert "a tie counts as half" in notes and "average" not in notes


@pytest.mark.parametrize("style", ["markdown", "latex"])
def test_other_formats_have_the_cells_of_the_text(tmp_path, capsys, style):
    write(tmp_path, [(60, 50), (62, 50)], (1, 2))
    write(tmp_path, [(61, 49), (63, 49)], (1, 2), trainer="MoPD")
    text = shown(capsys, tmp_path, "--paired", "CoOp", "--format", style)
    assert "+1.00 [1.00, 1.00] 2/2" in text and "-1.00 [-1.00, -1.00] 0/2" in text
    title = "base2new, Shapes: minus CoOp embedded"
    assert text.startswith({"markdown": f"### {title}", "latex": f"% {title}"}[style])
    assert ("95\\% confidence" if style == "latex" else "95% confidence") in text


def test_only_seeds_that_both_have_are_paired(tmp_path, capsys):
    write(tmp_path, COOP["Shapes"], (1, 2, 3))
    write(tmp_path, [(70, 50), (61, 51), (63, 54)], (4, 2, 3), trainer="MoPD")
    row = paired(capsys, tmp_path, "--paired", "CoOp")["Shapes", "MoPD", "base"]
    agrees(row, [61, 63], [64, 61])
    assert row["wins"] == "1"
    text = shown(capsys, tmp_path, "--paired", "CoOp")
    assert "missing for CoOp embedded, 16 shots: Shapes seed 4" in text
    assert "missing for MoPD embedded, 16 shots: Shapes seed 1" in text


def test_an_average_is_over_the_seeds_of_all_datasets(tmp_path, capsys):
    both(tmp_path)
    for classes in ("base", "new"):
        (tmp_path / f"base2new/digits/MoPD/embedded/shots_16/seed1/{classes}/results.json").unlink()
    found = paired(capsys, tmp_path, "--paired", "CoOp")
    agrees(found["Shapes", "MoPD", "base"], [62, 63, 65], [60, 64, 61])
    agrees(found["Digits", "MoPD", "base"], [84, 80], [82, 81])
    agrees(found["average", "MoPD", "base"], [73.5, 72.5], [73, 71])


def test_one_common_seed_has_no_interval_and_none_has_no_figure(tmp_path, capsys):
    write(tmp_path, COOP["Shapes"])
    write(tmp_path, [(62, 50)], (2,), trainer="MoPD")
    write(tmp_path, [(62, 50), (63, 51)], (4, 5), trainer="KgCoOp")
    found = paired(capsys, tmp_path, "--paired", "CoOp")
    one, none = found["Shapes", "MoPD", "base"], found["Shapes", "KgCoOp", "base"]
    assert float(one["difference"]) == -2 and one["low"] == one["high"] == ""
    assert (one["wins"], one["seeds"], one["problem"]) == ("0", "1", ONE_PAIR)
    assert none["difference"] == none["low"] == none["wins"] == ""
    assert (none["seeds"], none["problem"]) == ("0", "no seed in common")
    text = shown(capsys, tmp_path, "--paired", "CoOp")
    assert "-2.00 0/1" in text
    assert "MoPD embedded, 16 shots, a single pair, so no interval: Shapes" in text
    assert "KgCoOp embedded, 16 shots, no seed in common: Shapes" in text


def test_a_missing_test_leaves_its_difference_empty(tmp_path, capsys):
    both(tmp_path)
    (tmp_path / "base2new/digits/CoOp/embedded/shots_16/seed2/new/results.json").unlink()
    found = paired(capsys, tmp_path, "--paired", "CoOp")
    assert found["Digits", "MoPD", "base"]["problem"] == ""
    for measure in ("new", "H"):
        row = found["Digits", "MoPD", measure]
        assert row["difference"] == ""
        assert row["problem"] == "no figure of CoOp embedded, 16 shots"
    text = shown(capsys, tmp_path, "--paired", "CoOp")
    assert "missing for CoOp embedded, 16 shots: Digits new of seed 2" in text


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_what_learns_nothing_is_paired_with_every_seed_of_the_other(tmp_path, capsys, seeds):
    write(tmp_path, COOP["Shapes"])
    write(tmp_path, [(62, 51)] * len(seeds), seeds, trainer="ZeroshotCLIP")
    write(tmp_path, [(59, 51)] * len(seeds), seeds, trainer="ZeroshotCLIP2")
    found = paired(capsys, tmp_path, "--paired", "CoOp")
    agrees(found["Shapes", "ZeroshotCLIP", "base"], [62, 62, 62], [60, 64, 61])
    h = [harmonic_mean(*pair) for pair in COOP["Shapes"]]
    agrees(found["Shapes", "ZeroshotCLIP", "H"], [harmonic_mean(62, 51)] * 3, h)
    found = paired(capsys, tmp_path, "--paired", "ZeroshotCLIP")
    agrees(found["Shapes", "CoOp", "base"], [60, 64, 61], [62, 62, 62])
    two = found["Shapes", "ZeroshotCLIP2", "base"]  # both have one figure, whatever the seeds
    assert float(two["difference"]) == -3 and two["seeds"] == "1" and two["low"] == ""
    text = shown(capsys, tmp_path, "--paired", "ZeroshotCLIP")
    assert "a method that learns nothing has one figure, paired with each seed" in text


def test_averages_of_equal_figures_tie_whatever_the_rounding(tmp_path, capsys):
    for dataset, ours, theirs in (("A", 0.1, 0.3), ("B", 0.2, 0.2), ("C", 0.3, 0.1)):
        write(tmp_path, [(ours, 50)] * 2, (1, 2), dataset=dataset, trainer="MoPD")
        write(tmp_path, [(theirs, 50)] * 2, (1, 2), dataset=dataset)
    row = paired(capsys, tmp_path, "--paired", "CoOp")["average", "MoPD", "base"]
    assert (row["wins"], row["ties"]) == ("0", "2")
    assert Paired((1e-12, -1e-12, 0.0)).ties == 3


def test_every_column_of_the_csv(tmp_path, capsys):
    transfer(tmp_path)
    rows = csv_rows(shown(capsys, tmp_path, "--paired", "ZeroshotCLIP", "--format", "csv"))
    assert [row["dataset"] for row in rows] == [
        "ImageNet", "DescribableTextures", "EuroSAT", "average",
    ]  # fmt: skip
    assert list(rows[0].items())[:8] == [
        ("protocol", "xd"), ("source", "ImageNet"), ("dataset", "ImageNet"), ("method", "CoOp"),
        ("config", "embedded"), ("shots", "16"), ("baseline", "ZeroshotCLIP/embedded"),
        ("measure", "accuracy"),
    ]  # fmt: skip
    later = ["difference", "low", "high", "wins", "ties", "seeds", "problem"]
    assert list(rows[0])[8:] == later
    assert float(rows[0]["difference"]) == 5.0


def test_rows_are_compared_with_the_baseline_of_their_label_and_shots(tmp_path, capsys):
    for config in ("vit", "rn"):
        write_base2new(tmp_path, 60, 50, config=config)
    for config in ("vit", "vit-k2", "rn", "other"):
        write_base2new(tmp_path, 61, 50, config=config, trainer="MoPD")
    write_base2new(tmp_path, 61, 50, config="vit", trainer="MoPD", shots=4)
    write_base2new(tmp_path, 58, 50, config="vit-lr")
    text = shown(capsys, tmp_path, "--paired", "CoOp")
    parts = text.split("base2new, Shapes: minus CoOp ")[1:]
    names = [
        [line.split()[:2] for line in part.splitlines()[4:] if line.endswith("/1")]
        for part in parts
    ]
    assert [part.splitlines()[0] for part in parts] == ["vit", "rn"]
    assert names == [
        [["CoOp", "vit-lr"], ["MoPD", "vit"], ["MoPD", "vit-k2"]],
        [["MoPD", "rn"]],
    ]
    flat = " ".join(text.split())
    several = "name one of CoOp/rn, CoOp/vit, CoOp/vit-lr"
    assert f"not compared: MoPD other, 16 shots; {several}" in flat
    assert "not compared: MoPD vit, 4 shots; no CoOp with these shots" in flat
    rows = csv_rows(shown(capsys, tmp_path, "--paired", "CoOp/vit-lr", "--format", "csv"))
    assert {row["baseline"] for row in rows} == {"CoOp/vit-lr"}
    assert {row["config"] for row in rows} == {"vit", "vit-k2", "rn", "other"}


def test_a_protocol_without_the_baseline_says_so(tmp_path, capsys):
    write(tmp_path, COOP["Shapes"])
    write(tmp_path, MOPD["Shapes"], trainer="MoPD")
    write_result(tmp_path, 50.0, protocol="fewshot", trainer="MoPD")
    text = shown(capsys, tmp_path, "--paired", "CoOp")
    assert "fewshot: minus CoOp" in text
    assert "not compared: MoPD embedded, 16 shots; no CoOp with these shots" in text


def test_mistakes_are_refused_with_what_there_is(tmp_path, capsys):
    write(tmp_path, COOP["Shapes"])
    message = refused(capsys, tmp_path, "--paired", "KgCoOp")
    assert message == 'no results of "KgCoOp"; there are: CoOp, CoOp/embedded'
    for wanted in ("", "CoOp/", "CoOp/embedded-x", "coop"):
        assert f'no results of "{wanted}"; ' in refused(capsys, tmp_path, "--paired", wanted)
    message = refused(capsys, tmp_path, "--paired", "CoOp")
    assert message == 'nothing to compare with "CoOp": there is no other row'
    write_base2new(tmp_path, 60, 50, trainer="MoPD", shots=4)
    message = refused(capsys, tmp_path, "--paired", "CoOp", "--format", "csv")
    assert message.endswith("not compared: MoPD embedded, 4 shots; no CoOp with these shots")
    for other in ("--runs", "--published"):
        message = refused(capsys, tmp_path, "--paired", "CoOp", other)
        assert message == f"--paired makes tables of its own: leave {other} out"


def test_rows_on_other_images_are_named(tmp_path, capsys):
    write(tmp_path, COOP["Shapes"], data="one")
    write(tmp_path, MOPD["Shapes"], trainer="MoPD", data="two")
    text = shown(capsys, tmp_path, "--paired", "CoOp")
    assert "not to be compared on Shapes (base), other images: CoOp" in text


def test_the_table_of_a_study_takes_a_baseline(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(
        "protocols: base2new\ndatasets: shapes\nmethods: [CoOp, MoPD]\nseeds: [1, 2, 3]\n"
    )
    both(tmp_path / "out")
    given = ["table", str(file), "--output", str(tmp_path / "out"), "--"]
    study.main([*given, "--paired", "CoOp/embedded"])
    out, err = capsys.readouterr()
    assert out.startswith("base2new, Shapes: minus CoOp embedded\n")
    with pytest.raises(SystemExit) as stop:
        study.main([*given, "--paired", "SiPD"])
    assert stop.value.code == 1
    assert 'no results of "SiPD"; there are: CoOp, CoOp/embedded, MoPD' in capsys.readouterr().err


def test_a_row_is_compared_only_where_it_and_the_baseline_were_run(tmp_path, capsys):
    both(tmp_path)
    write(tmp_path, COOP["Shapes"], config="embedded-lr")
    given = (tmp_path, "--paired", "MoPD")
    assert ("Digits", "CoOp", "base") in paired(capsys, *given)
    labels = [row["config"] for row in csv_rows(shown(capsys, *given, "--format", "csv"))]
    assert labels.count("embedded-lr") == 3 and labels.count("embedded") == 9
    assert "missing for" not in shown(capsys, *given)
    whole = csv_rows(shown(capsys, *given, "--complete", "--format", "csv"))
    assert [row["config"] for row in whole].count("embedded-lr") == 9
    assert "missing for CoOp embedded-lr" in shown(capsys, *given, "--complete")


def test_the_table_of_a_study_marks_what_is_missing(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(
        "protocols: base2new\ndatasets: [shapes, digits]\nmethods: [CoOp, MoPD]\n"
        "config: embedded\nseeds: [1, 2, 3]\n"
    )
    write(tmp_path / "out", COOP["Shapes"])
    write(tmp_path / "out", COOP["Digits"], dataset="Digits")
    write(tmp_path / "out", MOPD["Digits"], dataset="Digits", trainer="MoPD")
    study.main(["table", str(file), "--output", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[3] for line in lines if line.startswith("MoPD")] == ["3", "0/3", "0/3"]
    assert lines[-1] == "missing for MoPD embedded, 16 shots: Shapes"


def test_an_average_over_unequal_seeds_still_has_no_spread(tmp_path):
    write(tmp_path, COOP["Shapes"])
    write(tmp_path, COOP["Digits"][:2], (1, 2), dataset="Digits")
    (summary,) = summarise(find_results(tmp_path))
    figures = summary.cells[summary.rows[0], "average"].figures
    assert {f.spread for f in figures.values()} == {None}
    assert set(figures["H"].by_seed) == {1, 2} and not math.isnan(figures["H"].mean)
