"""What is asked of `tools.tables`: rows of single runs, a file, and files that are refused."""

from __future__ import annotations

import json
import math
import re
from functools import partial
from pathlib import Path

import pytest

from dassl.utils import UserError
from runs.results import find_results, write_atomically
from tests.tools.results import calls
from tests.tools.results.calls import csv_rows, shown
from tests.tools.results.results_tree import transfer, world, write_base2new, write_result
from tools import plots, tables
from tools.results.published import PATH
from tools.results.run_tables import run_table
from tools.tables import main

refused = partial(calls.refused, main)


def result(classes: str, accuracy: float, run: str) -> dict:
    return {
        "dataset": "Shapes", "trainer": "CoOp", "shots": 16, "seed": int(run[-1]), "run": Path(run),
        "classes": classes, "accuracy": accuracy, "seconds": {"total": 1.6},
    }  # fmt: skip


def test_table_of_given_results_has_a_row_for_each_run():
    one, two, other = "CoOp/a/shots_16/seed1", "CoOp/a/shots_16/seed2", "CoOp/b/shots_16/seed1"
    table = run_table(
        [result("base", 80.0, one), result("new", 60.0, one), result("base", 70.0, two),
         result("new", 50.0, other)]
    )  # fmt: skip
    assert table.splitlines() == [
        "dataset    method    config      shots    seed    base    new      H    time",
        "---------  --------  --------  -------  ------  ------  -----  -----  ------",
        "Shapes     CoOp      a              16       1   80.00  60.00  68.57     3 s",
        "Shapes     CoOp      a              16       2   70.00      -      -     2 s",
        "Shapes     CoOp      b              16       1       -  50.00      -     2 s",
    ]


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


def test_nothing_is_written_beside_a_folder_that_is_named_as_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("runs.results.atomic_open", lambda *_: pytest.fail("writes"))
    with pytest.raises(UserError, match="Is a directory"):
        write_atomically(tmp_path, "text")


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


def test_tables_tool_refuses_a_folder_without_results(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path)])
    assert stop.value.code == 1
    assert f"error: no results.json below {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"accuracy": 8', "is damaged"),
        ('{"accuracy": 8}', "is not the results of a run"),
        ('{"seed": ' + "9" * 5000, "is damaged (Exceeds the limit"),
        ("[" * 200_000, "is damaged (maximum recursion depth exceeded"),
        (r'{"trainer": "\ud800"}', "is damaged ('utf-8' codec can't encode"),
    ],
    ids=["cut off", "one key", "a number too long", "deep lists", "half a character"],
)
def test_damaged_and_strange_results_are_named(tmp_path, capsys, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert f"{tmp_path / 'results.json'} {message}" in capsys.readouterr().err


def test_every_command_of_the_page_is_one_that_the_tools_take():
    page = (PATH.parents[1] / "docs/tables.md").read_text()
    commands = re.findall(r"^python -m tools\.(tables|plots) (.+)$", page, flags=re.MULTILINE)
    assert len(commands) == 8
    for tool, words in commands:
        parser = tables.build_parser() if tool == "tables" else plots.build_parser()
        folders = parser.parse_args(words.split()).folders
        assert [str(folder) for folder in folders][0].startswith("output")
