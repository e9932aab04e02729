"""The command line around prompt pools."""

import subprocess
import sys

import pytest

from tools.pools import main
from trainers.backbones.paths import REPOSITORY


def test_show_numbers_the_templates_by_gate_column(capsys):
    assert main(["show", "paper", "--dataset", "sun397"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  0  a photo of a {}."
    assert lines[11] == " 11  an image, labeled as {}."
    assert len(lines) == 12


def test_show_fills_in_a_class_name(capsys):
    assert main(["show", "single", "--dataset", "dtd", "--classname", "poly_{}_dots"]) == 0
    assert capsys.readouterr().out == "  0  poly {} dots texture.\n"


def test_list_shows_each_shipped_pool_with_its_description(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        *("embedded", "ensemble", "kgcoop", "mixed", "noisy", "paper", "prograd", "single"),
    ]
    paper = "The 12 prompts per dataset of the MoPD paper, 3 direct and 9 indirect ones."
    assert lines[5].split(maxsplit=1)[1] == paper


def test_check_reads_every_section_and_goes_on_after_a_mistake(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text('default: "a {}."\ndatasets: {Pets: ["a {}", "A {}"]}\n')
    (tmp_path / "good.yaml").write_text('default: "a {}."\ndatasets: {Pets: ["a {}", "b {}"]}\n')
    assert main(["check", "bad.yaml", "good.yaml"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "good.yaml: ok (Pets 2, default 1)\n"
    assert captured.err == (
        "error: bad.yaml, line 2, datasets.Pets[1]: duplicate template 'A {}', the same prompt "
        "as 'a {}' in bad.yaml, line 2, datasets.Pets[0]. Remove one of the two.\n"
    )


@pytest.mark.parametrize("name", ["x" * 100_000, "x/" * 5000, "\n" * 5000])
def test_a_name_that_no_file_can_have_is_refused_in_few_words(name, capsys):
    assert main(["check", name, "paper"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("paper: ok") and err.startswith("error: ") and len(err) < 2000


@pytest.mark.parametrize("argv", [[], ["show", "paper"], ["check"], ["nothing"]])
def test_incomplete_command_shows_the_usage(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "usage: python -m tools.pools" in capsys.readouterr().err


def test_mistake_on_the_command_line_ends_with_code_1_and_no_traceback():
    command = [sys.executable, "-m", "tools.pools", "show", "nowhere", "--dataset", "Shapes"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no pool 'nowhere' in ")
    assert done.stderr.count("\n") == 1
