"""Calls of the tools that show results, for their tests."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from tools import tables


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What `tools.tables` prints."""
    tables.main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(
    main: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    """The message of a call that a tool refuses."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and out == "" and err.startswith("error: ")
    return err.removeprefix("error: ").strip()


def csv_rows(text: str) -> list[dict[str, str]]:
    """Rows of a CSV, by column."""
    return list(csv.DictReader(io.StringIO(text)))
