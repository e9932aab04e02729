"""How commands tell mistakes, and end."""

import subprocess
import sys
from pathlib import Path

import pytest

from dassl.utils import UserError
from datasets.errors import DatasetError
from runs import command
from trainers.errors import MethodError


@pytest.mark.parametrize(
    "error", [UserError("so"), DatasetError("so"), MethodError("so"), FloatingPointError("so")]
)
def test_a_mistake_is_one_line_and_code_1(capsys, error):
    @command.mistakes_told()
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1 and capsys.readouterr().err == "error: so\n"


def test_a_message_that_quotes_much_input_is_cut_short(capsys):
    @command.mistakes_told()
    def main():
        raise UserError("\n".join(["a " + "x" * 10_000 + " z", *(f"line {n}" for n in range(99))]))

    with pytest.raises(SystemExit):
        main()
    first, *lines, last = capsys.readouterr().err.splitlines()
    assert first.startswith("error: a xxx") and " ... x" in first and first.endswith("xx z")
    assert len(first) < 1000 and lines[0] == "line 0"
    assert len(lines) + 1 == command.LINES and last == f"... and {100 - command.LINES} more lines"
    with pytest.raises(SystemExit) as stop:
        command.parser("").parse_args(["x" * 10_000])
    assert stop.value.code == 2 and len(capsys.readouterr().err) < 1000


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), SystemExit(3)])
def test_all_else_goes_on(capsys, error):
    with pytest.raises(type(error)) as raised, command.mistakes_told():
        raise error
    assert raised.value is error and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("resumes", "line"),
    [(False, "interrupted"), (True, "interrupted: the same command continues where it was")],
)
def test_ctrl_c_is_one_line_and_code_130(capsys, monkeypatch, resumes, line):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")

    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        command.run(main, resumes)
    assert stop.value.code == 130 and capsys.readouterr().err == f"{line}\n"


def test_nothing_is_loaded_for_what_is_no_mistake():
    code = """
import sys
from runs import command
try:
    with command.mistakes_told():
        raise SystemExit(0)
finally:
    print([name for name in ("datasets", "trainers", "dassl") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("output/base2new", "output/base2new-plots"),
        ("output/base2new/", "output/base2new-plots"),
        (".", "{here}-plots"),
        ("output/..", "{here}-plots"),
        ("/", "/plots"),
    ],
)
def test_what_is_made_of_a_folder_goes_beside_it(folder, place):
    assert command.beside(Path(folder), "plots") == Path(place.format(here=Path.cwd()))


def test_a_wrong_choice_is_told_with_the_closest(capsys):
    parser = command.parser("", "tools.x")
    parser.add_argument("--kind", choices=["views", "images"])
    assert parser.parse_args(["--kind", "views"]).kind == "views"
    for word, end in (("view", ', do you mean "views"?\n'), ("zzz", ")\n")):
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(["--kind", word])
        shown = capsys.readouterr().err
        assert stop.value.code == 2 and "invalid choice" in shown and shown.endswith(end)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["a", "b"], (["a", "b"], [])),
        (["a", "--", "-b", "--", "c"], (["a"], ["-b", "--", "c"])),
        (["--"], ([], [])),
    ],
)
def test_words_are_parted_at_the_first_dashes(words, parts):
    assert command.parted(words) == parts
