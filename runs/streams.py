"""Where a program's words go: stdout and stderr, which take every character and may break."""

import os
import sys
from contextlib import suppress

NAMES = ("stdout", "stderr")


def escape() -> None:
    """Show what stdout and stderr cannot encode as escapes."""
    for name in NAMES:
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # whoever replaced it decides
            stream.reconfigure(errors="backslashreplace")


def fill_closed() -> str:
    """Let no file be opened in the place of a stream that is closed.

    Returns:
        What is wrong with stdout, "" if nothing is.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    closed = sys.stdout is None
    for number, name in enumerate(NAMES, start=1):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115
    return "cannot write to stdout: it is closed. To see nothing, use > /dev/null" if closed else ""


def trouble(probe: bool = False) -> str:
    """Why a stream cannot be written, "" if both can; from then on it takes all silently.

    Python itself would tell it at the end of the process, with a traceback.

    Args:
        probe: write an empty line first, since what failed before may have been dropped.
    """
    found = ""
    for name in NAMES:
        stream = getattr(sys, name)
        try:
            if probe and name == "stdout":
                stream.write("\n")
            stream.flush()
        except OSError as error:
            found = found or f"cannot write to {name}: {error.strerror}"
            with suppress(OSError, ValueError):  # no descriptor: nothing is written at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return found


def tell(text: str) -> None:
    """Write a line to stderr, as far as that can be written."""
    with suppress(OSError):
        print(text, file=sys.stderr)
