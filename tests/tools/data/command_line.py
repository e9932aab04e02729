"""Calling a tool's main as its command line does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest


def call(
    main: Callable[[Sequence[str]], object],
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    code: int,
) -> tuple[str, str]:
    """Run a tool that must end with an exit code; what it prints and what it says on stderr."""
    try:
        main(list(arguments))
        stopped: object = 0
    except SystemExit as stop:
        stopped = stop.code
    shown = capsys.readouterr()
    assert stopped == code, shown.out + shown.err
    return shown.out, shown.err
