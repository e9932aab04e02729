"""Progress bars: only on a terminal, never in a log file."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

__all__ = ["bar", "on_terminal", "write_beside_bars"]


def _console(stream: Any) -> Any:
    """Return the stream beneath a `Logger`, so that a bar does not reach the log."""
    return getattr(stream, "console", stream)


def on_terminal() -> bool:
    """Return whether stderr is a terminal, that is, whether bars are shown."""
    stream = _console(sys.stderr)
    return stream is not None and stream.isatty()


def bar(iterable: Iterable | None = None, **options: Any) -> tqdm:
    """Return a progress bar on the terminal; without a terminal it shows nothing."""
    console = _console(sys.stderr)
    return tqdm(
        iterable,
        file=console,
        disable=not on_terminal(),
        dynamic_ncols=_has_width(console),
        ncols=100,  # unless the width is known
        **options,
    )


def _has_width(console: Any) -> bool:
    """Return whether the terminal tells its width; that of some containers is 0."""
    try:
        return os.get_terminal_size(console.fileno()).columns > 0
    except (OSError, ValueError, AttributeError):
        return False


def write_beside_bars(stream: Any, text: str) -> None:
    """Write ``text`` to a terminal above the live bars."""
    with tqdm.external_write_mode(file=_console(sys.stderr)):
        stream.write(text)


def any_live() -> bool:
    """Return whether a bar is on the screen now."""
    return any(not instance.disable for instance in getattr(tqdm, "_instances", ()))
