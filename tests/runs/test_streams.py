"""Programs whose stdout is closed, full, or has few characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train
from tests.datasets.conftest import touch

ROOT = Path(__file__).resolve().parents[2]
LIGHT = "tools.pools list"  # needs no torch


def program(words: str, redirect: str = "", **variables: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command of a shell."""
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m {words} {redirect}"],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, **variables},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    ("redirect", "told"),
    [
        ("> /dev/full", "cannot write to stdout: No space left on device"),
        (">&-", "cannot write to stdout: it is closed. To see nothing, use > /dev/null"),
        ("<&- >&-", "cannot write to stdout: it is closed. To see nothing, use > /dev/null"),
    ],
)
def test_a_stdout_that_cannot_be_written_is_one_line(redirect, told):
    if "/dev/full" in redirect and not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    assert program(LIGHT, redirect) == (1, "", f"error: {told}\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_page_longer_than_the_buffer_is_told_as_well():
    assert program("tools.settings", "> /dev/full") == (
        *(1, ""),
        "error: cannot write to stdout: No space left on device\n",
    )


def test_without_stdout_and_stderr_there_is_an_exit_code():
    assert program(LIGHT, ">&- 2>&-") == (1, "", "")
    assert program(LIGHT, "2>&-")[0] == 0


def test_names_that_the_console_has_not_are_shown_as_escapes(tmp_path):
    for name in ("caf\u00e9", "\u03b1 \u2603", "owl"):
        touch(tmp_path / "birds" / name, [f"{number}.png" for number in range(4)])
    code, out, err = program(
        f"tools.doctor 'folder:{tmp_path}/birds' --decode 1", PYTHONIOENCODING="ascii"
    )
    assert code == 1 and "the file is empty" in out and err == ""
    assert f"{tmp_path}/birds/./caf\\xe9/" in out
    code, out, err = program(
        f"tools.doctor 'folder:{tmp_path}/birds'",
        **{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert code == 1 and err == ""
    assert "class names with characters that are no text: 'caf\\udcc3\\udca9', " in out
    assert "Write them in UTF-8 (names are read as ascii here: PYTHONUTF8=1)" in out


def test_a_training_whose_reader_goes_away_ends_and_continues(job, tmp_path):
    words = job("CoOp")
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [sys.executable, "train.py", *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert run.stderr.decode() == "error: cannot write to stdout: Broken pipe\n"
    assert run.returncode == 1
    assert train.main(words)["epoch"] == 2
