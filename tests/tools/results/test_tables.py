"""Tables over seeds, beside the papers' figures, and in every format."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runs.results import find_results
from tests.tools.results.results_tree import write_base2new, write_result
from tools import plots, tables
from tools.results.published import PATH, published_file, published_rows
from tools.results.summary import AVERAGE, H, harmonic_mean, summarise
from tools.tables import main, run_table

percent = st.floats(0.1, 100)
SPREAD = "+-: sample standard deviation over the seeds; a figure without it is of one seed."
H_NOTE = "H: harmonic mean of base and new, both averaged over seeds; +-: over the H of each seed."
H_AVERAGE = "H of the average: of average base and average new, as in the papers."


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the tool prints."""
    main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message of a call that the tool refuses."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and out == "" and err.startswith("error: ")
    return err.removeprefix("error: ").strip()


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def world(output: Path) -> None:
    """Two datasets: zero-shot with one seed, CoOp with two, a variant of it on one dataset."""
    for dataset, more in (("Shapes", 0.0), ("Digits", 10.0)):
        write_base2new(output, 48.0 + more, 44.0, dataset=dataset, trainer="ZeroshotCLIP")
        write_base2new(output, 60.0 + more, 50.0, dataset=dataset, seed=1)
        write_base2new(output, 64.0 + more, 52.0, dataset=dataset, seed=2)
    write_base2new(output, 61.0, 49.0, config="embedded-lr", seed=1)
    write_base2new(output, 63.0, 49.0, config="embedded-lr", seed=2)


def test_summary_over_seeds_and_datasets(tmp_path, capsys):
    world(tmp_path)
    assert shown(capsys, tmp_path).splitlines() == [
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


def transfer(output: Path, protocol: str = "xd") -> None:
    for seed in (1, 2):
        for trainer, more in (("CoOp", 0.0), ("ZeroshotCLIP", -5.0)):
            given = {"protocol": protocol, "trainer": trainer, "seed": seed}
            write_result(output, 70.0 + seed + more, dataset="ImageNet", **given)
            for dataset, accuracy in (("EuroSAT", 40.0), ("DescribableTextures", 50.0)):
                value = accuracy + 2 * seed + more
                write_result(output, value, dataset=dataset, source="ImageNet", **given)


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


def test_runs_of_several_protocols_have_a_row_for_each_test(tmp_path, capsys):
    write_base2new(tmp_path, 60.0, None)
    transfer(tmp_path)
    text = shown(capsys, tmp_path, "--runs")
    assert text == run_table(find_results(tmp_path)) + "\n"
    lines = text.splitlines()
    assert lines[0] == "base2new" and lines[6] == "xd"
    assert " ".join(lines[4].split()) == "Shapes CoOp embedded 16 1 60.00 - - 2 s"
    assert lines[8].startswith("trained on    tested on") and len(lines) == 10 + 12
    assert " ".join(lines[10].split()) == "ImageNet ImageNet CoOp embedded 16 1 71.00 2 s"
    assert " ".join(lines[11].split()[:3]) == "ImageNet DescribableTextures CoOp"
    rows = csv_rows(shown(capsys, tmp_path, "--runs", "--format", "csv"))
    assert len(rows) == 13 and rows[0]["accuracy"] == "60.0" and rows[0]["source"] == ""
    assert {row["source"] for row in rows[1:]} == {"ImageNet"}


def test_older_results_take_label_and_source_from_their_folders(tmp_path, capsys):
    old = {"config": ..., "source": ..., "settings": ...}
    given = {"protocol": "xd", "config": "embedded-tag"}
    for dataset, source in (("ImageNet", None), ("EuroSAT", "ImageNet")):
        path = write_result(tmp_path, 60.0, dataset=dataset, source=source, **given)
        found = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in found.items() if k not in old}))
    lines = shown(capsys, tmp_path).splitlines()
    assert lines[0] == "xd, trained on ImageNet"
    assert lines[4].split() == ["CoOp", "embedded-tag", "16", "1", "60.00", "60.00"]


def test_out_writes_the_file_and_prints_nothing(tmp_path, capsys):
    world(tmp_path)
    text = shown(capsys, tmp_path)
    assert shown(capsys, tmp_path, "--out", tmp_path / "tables/all.txt") == ""
    assert (tmp_path / "tables/all.txt").read_text() == text
    (tmp_path / "file").touch()
    for out, reason in (("tables", "Is a directory"), ("file/all.txt", "File exists")):
        message = refused(capsys, tmp_path, "--out", tmp_path / out)
        advice = "choose another file for --out"
        assert message == f"cannot write {tmp_path / out}: {reason}; {advice}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accuracy": "60"}, "accuracy is '60', expected a number from 0 to 100"),
        ({"accuracy": 160.0}, "accuracy is 160.0, expected a number from 0 to 100"),
        ({"accuracy": math.nan}, "accuracy is nan, expected a number from 0 to 100"),
        ({"seed": None}, "seed is None, expected a whole number"),
        ({"shots": True}, "shots is True, expected a whole number"),
        ({"dataset": 3}, "dataset is 3, expected a text"),
        ({"config": 5}, "config is 5, expected a text or null"),
        ({"protocol": [1]}, "protocol is [1], expected a text or null"),
        ({"config_hash": [1]}, "config_hash is [1], expected a text or null"),
        ({"checkpoint": {}}, "checkpoint is {}, expected a text or null"),
        ({"protocol": "xd", "source": 3}, "source is 3, expected a text or null"),
        ({"data": [1]}, "data is [1], expected a text or null"),
        ({"seconds": None}, "seconds is None, expected a table of numbers"),
        ({"seconds": {"total": "x"}}, "seconds is {'total': 'x'}, expected a table of numbers"),
        ({"settings": "x"}, "settings is 'x', expected a table or null"),
    ],
)
@pytest.mark.parametrize("style", [(), ("--runs",)])
def test_values_that_no_run_writes_are_refused(tmp_path, capsys, change, message, style):
    path = write_result(tmp_path, 60.0)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    expected = f"{path} is not the results of a run ({message}): move it away"
    assert refused(capsys, tmp_path, *style).startswith(expected)


def test_a_file_without_the_keys_that_came_later_is_shown(tmp_path, capsys):
    later = ("protocol", "source", "config", "config_hash", "data", "seconds", "settings")
    for classes in ("base", "new"):
        path = write_result(tmp_path, 60.0, classes=classes)
        found = json.loads(path.read_text())
        path.write_text(json.dumps({key: found[key] for key in found if key not in later}))
    names = ["Shapes", "CoOp", "embedded", "16", "1"]
    row = shown(capsys, tmp_path, "--runs").splitlines()[2]
    assert row.split() == [*names, "60.00", "60.00", "60.00", "-"]


def test_bytes_that_are_no_text_are_refused(tmp_path, capsys):
    write_result(tmp_path, 60.0)
    path = write_result(tmp_path, 60.0, seed=2)
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(capsys, tmp_path).startswith(f"{path} cannot be read")


# ---- beside the papers


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


# ---- the file of published figures


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


# ---- figures


@given(percent, percent)
def test_harmonic_mean_lies_between_and_near_the_smaller(base, new):
    h = harmonic_mean(base, new)
    assert min(base, new) <= h + 1e-9 and h <= (base + new) / 2 + 1e-9
    assert h <= 2 * min(base, new) + 1e-9
    assert h == harmonic_mean(new, base)
    assert 1 / h == pytest.approx((1 / base + 1 / new) / 2)


@given(st.lists(st.tuples(percent, percent), min_size=2, max_size=5))
def test_summary_of_any_seeds(pairs):
    results = [
        {
            "dataset": dataset, "trainer": "CoOp", "shots": 16, "seed": seed, "accuracy": value,
            "classes": classes, "config": "a", "run": Path(f"{dataset}/CoOp/a/shots_16/seed{seed}"),
        }
        for dataset in ("A", "B")
        for seed, pair in enumerate(pairs)
        for classes, value in zip(("base", "new"), pair, strict=True)
    ]  # fmt: skip
    (summary,) = summarise(results)
    (row,) = summary.rows
    figures, average = summary.cells[row, "A"].figures, summary.cells[row, AVERAGE].figures
    assert figures["base"].mean == pytest.approx(sum(b for b, _ in pairs) / len(pairs))
    assert figures[H].mean == harmonic_mean(figures["base"].mean, figures["new"].mean)
    variance = sum((b - figures["base"].mean) ** 2 for b, _ in pairs) / (len(pairs) - 1)
    assert figures["base"].spread == pytest.approx(math.sqrt(variance), abs=1e-6)
    for measure in ("base", "new", H):  # two equal datasets: their average is each of them
        assert average[measure].mean == pytest.approx(figures[measure].mean)
        assert average[measure].spread == pytest.approx(figures[measure].spread, abs=1e-6)


# ---- the page


def test_every_command_of_the_page_is_one_that_the_tools_take():
    page = (PATH.parents[1] / "docs/tables.md").read_text()
    commands = re.findall(r"^python -m tools\.(tables|plots) (.+)$", page, flags=re.MULTILINE)
    assert len(commands) == 6
    for tool, words in commands:
        parser = tables.build_parser() if tool == "tables" else plots.build_parser()
        folders = parser.parse_args(words.split()).folders
        assert [str(folder) for folder in folders][0].startswith("output")
