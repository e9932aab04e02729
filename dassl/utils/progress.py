"""Progress bars: only on a terminal, never in a log file."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

__all__ = ["bar", "on_terminal", "show_figures", "write_beside_bars"]

LEAST_BAR = 12  # characters of a bar beside its figures


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


def show_figures(bar: tqdm, figures: Mapping[str, str]) -> None:
    """Show figures behind a bar from its next move on: the first ones, as far as there is room.

    Args:
        bar: on a terminal.
        figures: texts by name, the most important ones first.
    """
    shown: dict[str, str] = {}
    for name, text in figures.items():
        bar.set_postfix(shown | {name: text}, refresh=False)
        state = bar.format_dict
        # without columns there is no bar, only what stands beside it
        beside = len(bar.format_meter(**state | {"ncols": 0})) + 2
        if state["ncols"] and state["ncols"] - beside < LEAST_BAR:
            break
        shown[name] = text
    bar.set_postfix(shown, refresh=False)


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
    bars = getattr(tqdm, "_instances", ())
    return any(not getattr(bar, "disable", True) for bar in bars)  # one that is being made has none
