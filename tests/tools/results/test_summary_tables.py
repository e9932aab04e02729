"""Tables over seeds: means, spreads, averages, and what is missing."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import pytest

from tests.tools.results.calls import csv_rows, shown
from tests.tools.results.results_tree import transfer, world, write_base2new, write_result
from tools.results.summary import AVERAGE

SPREAD = "+-: sample standard deviation over the seeds; a figure without it is of one seed."
H_NOTE = "H: harmonic mean of base and new, both averaged over seeds; +-: over the H of each seed."
LEFT_OUT = (
    "a row that was not run on a dataset is left out there and of the average; --complete shows "
    "what is missing."
)
H_AVERAGE = "H of the average: of average base and average new, as in the papers."


def test_a_row_stands_only_where_it_was_run(tmp_path, capsys):
    world(tmp_path)
    assert shown(capsys, tmp_path).splitlines() == [
        "base2new, Digits",
        "",
        "method        config    shots    seeds    base           new            H",
        "------------  --------  -------  -------  -------------  -------------  -------------",
        "ZeroshotCLIP  embedded  16       1        58.00          44.00          50.04",
        "CoOp          embedded  16       2        72.00 +- 2.83  51.00 +- 1.41  59.71 +- 1.94",
        "",
        "base2new, Shapes",
        "",
        "method        config       shots    seeds    base           new            H",
        "------------  -----------  -------  -------  -------------  -------------  -------------",
        "ZeroshotCLIP  embedded     16       1        48.00          44.00          45.91",
        "CoOp          embedded     16       2        62.00 +- 2.83  51.00 +- 1.41  55.96 +- 2.00",
        "CoOp          embedded-lr  16       2        62.00 +- 1.41  49.00 +- 0.00  54.74 +- 0.55",
        "",
        "base2new, average over 2 datasets",
        "",
        "method        config    shots    seeds    base           new            H",
        "------------  --------  -------  -------  -------------  -------------  -------------",
        "ZeroshotCLIP  embedded  16       1        53.00          44.00          48.08",
        "CoOp          embedded  16       2        67.00 +- 2.83  51.00 +- 1.41  57.92 +- 1.97",
        "",
        SPREAD,
        H_NOTE,
        H_AVERAGE,
        *textwrap.wrap(LEFT_OUT, 110, subsequent_indent="  "),
    ]
    rows = csv_rows(shown(capsys, tmp_path, "--format", "csv"))
    there = {(row["dataset"], row["config"]) for row in rows}
    assert there == {
        *((name, "embedded") for name in ("Digits", "Shapes", AVERAGE)),
        ("Shapes", "embedded-lr"),
    }
    assert not any(row["problem"] for row in rows)
    assert shown(capsys, tmp_path / "base2new/shapes").count("--complete") == 0


def test_no_row_on_all_datasets_leaves_no_average(tmp_path, capsys):
    write_base2new(tmp_path, 60.0, 50.0)
    write_base2new(tmp_path, 60.0, 50.0, trainer="MoPD", dataset="Digits")
    text = shown(capsys, tmp_path)
    assert "average over" not in text and "missing" not in text.replace("what is missing", "")
    assert [line.split()[0] for line in text.splitlines() if " embedded " in line] == [
        "MoPD",
        "CoOp",
    ]
    assert "average over 2 datasets" in shown(capsys, tmp_path, "--complete")


def test_where_every_row_should_be_there_what_is_missing_is_marked(tmp_path, capsys):
    world(tmp_path)
    assert shown(capsys, tmp_path, "--complete").splitlines() == [
        "base2new, Digits",
        "",
        "method        config       shots    seeds    base           new            H",
        "------------  -----------  -------  -------  -------------  -------------  -------------",
        "ZeroshotCLIP  embedded     16       1        58.00          44.00          50.04",
        "CoOp          embedded     16       2        72.00 +- 2.83  51.00 +- 1.41  59.71 +- 1.94",
        "CoOp          embedded-lr  16       0/2      -              -              -",
        "",
        "base2new, Shapes",
        "",
        "method        config       shots    seeds    base           new            H",
        "------------  -----------  -------  -------  -------------  -------------  -------------",
        "ZeroshotCLIP  embedded     16       1        48.00          44.00          45.91",
        "CoOp          embedded     16       2        62.00 +- 2.83  51.00 +- 1.41  55.96 +- 2.00",
        "CoOp          embedded-lr  16       2        62.00 +- 1.41  49.00 +- 0.00  54.74 +- 0.55",
        "",
        "base2new, average over 2 datasets",
        "",
        "method        config       shots    seeds    base           new            H",
        "------------  -----------  -------  -------  -------------  -------------  -------------",
        "ZeroshotCLIP  embedded     16       1        53.00          44.00          48.08",
        "CoOp          embedded     16       2        67.00 +- 2.83  51.00 +- 1.41  57.92 +- 1.97",
        "CoOp          embedded-lr  16       0/2      -              -              -",
        "",
        SPREAD,
        H_NOTE,
        H_AVERAGE,
        "missing for CoOp embedded-lr, 16 shots: Digits",
    ]


def test_markdown_and_latex_escape_what_they_must(tmp_path, capsys):
    for seed in (1, 2):
        write_base2new(tmp_path, 60.0 + seed, 50.0, config="vit_b16-50%|a", seed=seed)
    markdown = shown(capsys, tmp_path, "--format", "markdown").splitlines()
    assert markdown[0] == "### base2new, Shapes"
    cells = "| CoOp     | vit_b16-50%\\|a | 16      | 2       | 61.50 ± 0.71 | 50.00 ± 0.00 | "
    assert markdown[4] == cells + "55.16 ± 0.28 |"
    assert markdown[6].startswith("- ±: sample standard deviation")
    latex = shown(capsys, tmp_path, "--format", "latex").splitlines()
    assert latex[:3] == ["% base2new, Shapes", r"\begin{tabular}{lllllll}", r"\toprule"]
    assert r" CoOp     & vit\_b16-50\%|a & 16" in latex[5]
    assert latex[5].endswith(r"& 61.50 $\pm$ 0.71 & 50.00 $\pm$ 0.00 & 55.16 $\pm$ 0.28 \\")
    assert [line for line in latex if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]


def test_csv_has_full_precision_and_empty_cells_for_what_is_missing(tmp_path, capsys):
    write_base2new(tmp_path, 100 / 3, 50.0, seed=1)
    write_base2new(tmp_path, 40.0, None, seed=2)
    rows = csv_rows(shown(capsys, tmp_path, "--format", "csv"))
    base, new, h = rows
    assert [row["measure"] for row in rows] == ["base", "new", "H"]
    assert float(base["mean"]) == (100 / 3 + 40) / 2
    assert float(base["spread"]) == pytest.approx((40 - 100 / 3) / math.sqrt(2))
    assert base["seeds"] == "2" and base["reference"] == base["difference"] == ""
    assert new["mean"] == new["spread"] == h["mean"] == h["spread"] == ""
    assert new["problem"] == "new of seed 2"


def test_a_missing_test_leaves_its_cell_and_every_average_of_it_empty(tmp_path, capsys):
    world(tmp_path)
    (tmp_path / "base2new/digits/CoOp/embedded/shots_16/seed2/new/results.json").unlink()
    text = shown(capsys, tmp_path)
    lines = [line for line in text.splitlines() if line.startswith("CoOp          embedded  ")]
    digits, shapes, average = (line.split() for line in lines)
    assert digits[3:] == ["2", "72.00", "+-", "2.83", "-", "-"]
    assert shapes[-1] == "2.00"
    assert average[3:] == ["2", "67.00", "+-", "2.83", "-", "-"]
    assert "missing for CoOp embedded, 16 shots: Digits new of seed 2" in text


def test_a_seed_that_only_others_have_is_named(tmp_path, capsys):
    for seed in (1, 2, 3):
        write_base2new(tmp_path, 60.0 + seed, 50.0, seed=seed)
    write_base2new(tmp_path, 60.0, 50.0, trainer="MoPD", seed=3)
    write_base2new(tmp_path, 48.0, 44.0, trainer="ZeroshotCLIP")
    text = shown(capsys, tmp_path)
    assert "MoPD          embedded  16       1/3      60.00" in text
    assert "ZeroshotCLIP  embedded  16       1        48.00" in text  # learns nothing: one is all
    notes = [line for line in text.splitlines() if line.startswith("missing")]
    assert notes == ["missing for MoPD embedded, 16 shots: Shapes seeds 1, 2"]


def test_numbers_in_labels_count_as_numbers(tmp_path, capsys):
    for tag in ("k12", "k1", "k6"):
        write_base2new(tmp_path, 60.0, 50.0, config=f"embedded-{tag}")
    rows = csv_rows(shown(capsys, tmp_path, "--format", "csv"))
    assert list(dict.fromkeys(r["config"] for r in rows)) == [
        "embedded-k1",
        "embedded-k6",
        "embedded-k12",
    ]


def test_a_digit_that_is_no_number_is_part_of_a_label(tmp_path, capsys):
    for tag in ("2", "\N{SUPERSCRIPT TWO}"):
        write_base2new(tmp_path, 60.0, 50.0, config=tag)
    rows = csv_rows(shown(capsys, tmp_path, "--format", "csv"))
    assert list(dict.fromkeys(r["config"] for r in rows)) == ["2", "\N{SUPERSCRIPT TWO}"]


def test_an_average_over_unequal_seeds_has_no_spread(tmp_path, capsys):
    world(tmp_path)
    write_base2new(tmp_path, 66.0, 50.0, dataset="Digits", seed=3)
    rows = csv_rows(shown(capsys, tmp_path, "--format", "csv"))
    found = {(r["dataset"], r["config"], r["measure"]): r for r in rows if r["method"] == "CoOp"}
    average = found[AVERAGE, "embedded", "base"]
    assert float(average["mean"]) == pytest.approx(((70 + 74 + 66) / 3 + 62) / 2)
    assert average["spread"] == "" and average["seeds"] == "2"


def test_seeds_with_other_settings_are_not_averaged(tmp_path, capsys):
    write_base2new(tmp_path, 60.0, 50.0, seed=1, config_hash="a", settings={"OPTIM.LR": 0.1})
    write_base2new(tmp_path, 70.0, 60.0, seed=2, config_hash="b", settings={"OPTIM.LR": 0.2})
    text = shown(capsys, tmp_path)
    assert "CoOp      embedded       16        2       -      -    -" in text
    assert (
        "missing for CoOp embedded, 16 shots: Shapes seed 1 / seed 2 with different settings "
        "(OPTIM.LR 0.1 / 0.2)" in " ".join(text.split())
    )


def write_data(output: Path, digests: dict[int, dict[str, str]]) -> None:
    """Runs of base2new by seed, with the digest of what each half was tested on."""
    for seed, halves in digests.items():
        for classes in ("base", "new"):
            more = {"data": halves[classes]} if classes in halves else {}
            write_result(output, 60.0 + seed, classes=classes, seed=seed, **more)


def test_seeds_that_were_tested_on_other_images_are_not_averaged(tmp_path, capsys):
    first = {"base": "a" * 12, "new": "b" * 12}
    write_data(tmp_path, {1: first, 2: first, 3: {"base": "a" * 12, "new": "c" * 12}})
    (row,) = {
        (r["mean"], r["spread"], r["problem"])
        for r in csv_rows(shown(capsys, tmp_path, "--format", "csv"))
    }
    problem = "new of seeds 1, 2 / seed 3 tested on different images or labels (data)"
    assert row == ("", "", problem)
    text = " ".join(shown(capsys, tmp_path).split())
    assert text.endswith(f"missing for CoOp embedded, 16 shots: Shapes {problem}")


def test_other_images_of_a_target_leave_it_and_the_average_empty(tmp_path, capsys):
    for seed in (1, 2):
        given = {"protocol": "xd", "seed": seed}
        write_result(tmp_path, 70.0, dataset="ImageNet", data="a" * 12, **given)
        for dataset, data in (("EuroSAT", f"{seed}" * 12), ("DescribableTextures", "d" * 12)):
            write_result(tmp_path, 40.0, dataset=dataset, source="ImageNet", data=data, **given)
    lines = shown(capsys, tmp_path).splitlines()
    assert lines[4].replace(" +- 0.00", "").split()[4:] == ["70.00", "40.00", "-", "-"]
    problem = "all of seed 1 / seed 2 tested on different images or labels (data)"
    notes = " ".join(" ".join(lines[5:]).split())
    assert notes.endswith(f"missing for CoOp embedded, 16 shots: EuroSAT {problem}")


def test_the_same_images_and_files_that_do_not_tell_theirs_are_averaged(tmp_path, capsys):
    same = {"base": "a" * 12, "new": "b" * 12}
    write_data(tmp_path, {1: same, 2: same, 3: {}})
    lines = shown(capsys, tmp_path).splitlines()
    assert lines[4].split()[4:7] == ["62.00", "+-", "1.00"] and "missing" not in "".join(lines)


def test_images_with_other_bytes_under_the_same_names_are_not_averaged(tmp_path, capsys):
    for seed, content in ((1, "c" * 12), (2, "d" * 12), (3, None)):
        more = {"content": {"train": None, "test": content}} if content else {}
        write_base2new(tmp_path, 60.0, 50.0, seed=seed, data="a" * 12, **more)
    text = " ".join(shown(capsys, tmp_path).split())
    assert "60.00" not in text
    problem = "tested on different images or labels (data)"
    assert f"Shapes base of seed 1 / seed 2 {problem}; Shapes new of seed 1 / seed 2" in text


def test_validation_images_are_those_of_a_seed(tmp_path, capsys):
    for trainer in ("CoOp", "MoPD"):
        for seed in (1, 2):
            more = {"data": f"{seed}" * 12, "settings": {"TEST.SPLIT": "val"}}
            write_base2new(tmp_path, 60.0, 50.0 + seed, trainer=trainer, seed=seed, **more)
    text = shown(capsys, tmp_path)
    assert text.count("51.50 +- 0.71") == 2
    assert "missing for" not in text and "compared" not in text


def test_validation_images_are_not_compared_with_test_images_or_others_of_the_seed(
    tmp_path, capsys
):
    more = {"settings": {"TEST.SPLIT": "val"}, "data": "a" * 12}
    write_base2new(tmp_path / "1", 60.0, 50.0, **more)
    for split, data in (("test", "a" * 12), ("val", "b" * 12)):
        more = {"settings": {"TEST.SPLIT": split}, "data": data}
        write_base2new(tmp_path / "2", 60.0, 50.0, trainer="MoPD", **more)
        text = " ".join(shown(capsys, tmp_path).split())
        rows = "CoOp embedded, 16 shots / MoPD embedded, 16 shots"
        assert f"not to be compared on Shapes (new), other images: {rows}" in text


def test_rows_that_were_tested_on_other_images_are_not_to_be_compared(tmp_path, capsys):
    for trainer, content in (("CoOp", "c" * 12), ("KgCoOp", "d" * 12), ("MoPD", "c" * 12)):
        more = {"content": {"train": None, "test": content}}
        write_base2new(tmp_path, 60.0, 50.0, trainer=trainer, data="a" * 12, **more)
    text = " ".join(shown(capsys, tmp_path).split())
    rows = "CoOp embedded, 16 shots, MoPD embedded, 16 shots / KgCoOp embedded, 16 shots"
    for classes in ("base", "new"):
        assert f"not to be compared on Shapes ({classes}), other images: {rows}" in text


def test_base_and_new_of_different_checkpoints_are_not_one_result(tmp_path, capsys):
    write_result(tmp_path, 60.0, classes="base", checkpoint="epoch-30")
    write_result(tmp_path, 50.0, classes="new", checkpoint="epoch-5")
    text = shown(capsys, tmp_path)
    assert (
        "Shapes base and new of seed 1 from different checkpoints" in text and "60.00" not in text
    )


def test_the_same_run_twice_is_named_and_one_file_given_twice_is_not(tmp_path, capsys):
    write_base2new(tmp_path / "a", 60.0, 50.0)
    once = shown(capsys, tmp_path / "a", tmp_path, tmp_path / "a/base2new")
    assert "60.00" in once and "missing" not in once
    write_base2new(tmp_path / "b", 70.0, 60.0)
    twice = " ".join(shown(capsys, tmp_path / "a", tmp_path / "b").split())
    first, second = (tmp_path / f"{x}/base2new/shapes/CoOp/embedded/shots_16/seed1" for x in "ab")
    assert f"Shapes base of seed 1 twice ({first} and {second}); Shapes new of seed 1" in twice
    assert "60.00" not in twice and "65.00" not in twice


def test_datasets_with_other_backbones_have_no_average(tmp_path, capsys):
    write_base2new(tmp_path, 60.0, 50.0, dataset="Shapes", backbone="RN50")
    write_base2new(tmp_path, 60.0, 50.0, dataset="Digits", backbone="ViT-B/16")
    text = shown(capsys, tmp_path)
    assert text.count("60.00") == 2
    assert "average: datasets with different backbones (RN50, ViT-B/16)" in text


def test_fewshot_is_a_table_of_methods_and_shots(tmp_path, capsys):
    for dataset, more in (("Shapes", 0.0), ("Digits", 20.0)):
        for seed in (1, 2):
            for shots in (1, 16):
                accuracy = 40.0 + shots + seed + more
                write_result(
                    tmp_path, accuracy, protocol="fewshot", dataset=dataset, shots=shots, seed=seed
                )
        write_result(
            tmp_path, 45.0 + more, protocol="fewshot", dataset=dataset, trainer="MoPD", seed=1
        )
    lines = shown(capsys, tmp_path).splitlines()
    at = lines.index("fewshot, average over 2 datasets")
    assert lines[at + 2 :] == [
        "method    config    seeds    1 shot         16 shots",
        "--------  --------  -------  -------------  -------------",
        "CoOp      embedded  2        52.50 +- 0.71  67.50 +- 0.71",
        "MoPD      embedded  1/2      -              55.00",
        "",
        SPREAD,
        "missing for MoPD embedded, 16 shots: Digits seed 2; Shapes seed 2",
        "missing for MoPD embedded: 1 shot",
    ]


@pytest.mark.parametrize("protocol", ["xd", "dg"])
def test_transfer_shows_the_source_each_target_and_the_average_of_targets(
    tmp_path, capsys, protocol
):
    transfer(tmp_path, protocol)
    lines = shown(capsys, tmp_path).splitlines()
    assert lines[0] == f"{protocol}, trained on ImageNet"
    header = "method config shots seeds ImageNet DescribableTextures EuroSAT average"
    assert lines[2].split() == header.split()
    assert [line.split("  ") and line.replace(" +- ", "±").split() for line in lines[4:6]] == [
        ["ZeroshotCLIP", "embedded", "16", "2", "66.50±0.71", "48.00±1.41", "38.00±1.41",
         "43.00±1.41"],
        ["CoOp", "embedded", "16", "2", "71.50±0.71", "53.00±1.41", "43.00±1.41", "48.00±1.41"],
    ]  # fmt: skip
    assert lines[-1] == "average: over the 2 targets, without the source ImageNet."


def test_a_missing_target_leaves_the_average_empty(tmp_path, capsys):
    transfer(tmp_path)
    run = tmp_path / "xd/imagenet/CoOp/embedded/shots_16"
    for seed in (1, 2):
        (run / f"seed{seed}/eurosat/all/results.json").unlink()
    text = shown(capsys, tmp_path)
    row = next(line for line in text.splitlines() if line.startswith("CoOp"))
    assert row.split()[-2:] == ["-", "-"] and "71.50" in row
    assert "missing for CoOp embedded, 16 shots: EuroSAT" in text


def test_protocols_have_tables_of_their_own(tmp_path, capsys):
    world(tmp_path)
    transfer(tmp_path)
    write_result(tmp_path, 60.0, protocol="fewshot")
    titles = [line for line in shown(capsys, tmp_path).splitlines() if ", " in line[:12]]
    assert [title.partition(",")[0] for title in titles] == ["base2new"] * 3 + ["fewshot", "xd"]
