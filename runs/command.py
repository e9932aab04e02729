"""What all command lines share: their head, how mistakes are told, and an end by Ctrl-C."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from runs import streams

LINE, LINES = 800, 60  # most characters of a line and lines of a message


class _Parser(argparse.ArgumentParser):
    """argparse's, with messages that are bounded; so are those of its commands."""

    def error(self, message: str) -> NoReturn:
        super().error(bounded(message))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's, with the closest of the choices."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            from trainers.errors import meant  # what is never raised need not be loaded

            error.message += meant(str(value), map(str, action.choices or ()))
            raise


def parser(description: str | None, module: str = "") -> argparse.ArgumentParser:
    """The parser of a command whose help begins with its module's docstring.

    Args:
        description: the docstring.
        module: what stands behind `python -m`; empty: a file that is called by its name.
    """
    return _Parser(
        prog=f"python -m {module}" if module else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parted(argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The words before and behind `--`; None takes the process' own."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def path_text(text: str) -> str:
    """A path of the command line, with `~` put in full; a `type` of argparse."""
    from datasets.files import path_problem  # what has no paths need not load it

    if problem := path_problem(text):
        raise argparse.ArgumentTypeError(problem)
    return os.path.expanduser(text)


def path(text: str) -> Path:
    """As `path_text`."""
    return Path(path_text(text))


def count(text: str) -> int:
    """A whole number from 1; a `type` of argparse."""
    if not text.isdecimal() or not text.isascii() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number from 1")
    return int(text)


def beside(folder: Path, what: str) -> Path:
    """The default place of what is made of a folder: `<folder>-<what>`."""
    named = folder if folder.name not in ("", "..") else Path(os.path.abspath(folder))
    return named.with_name(f"{named.name}-{what}") if named.name else named / what


def load_torch() -> None:
    """Load torch, which takes seconds: say so first, on stdout."""
    from dassl.lazy import load  # what loads no torch need not load it

    if "torch" not in sys.modules:
        print("Loading torch ...", flush=True)
        load("torch")


def expected_errors() -> tuple[type[Exception], ...]:
    """Mistakes of the user and troubles of the machine: shown without traceback."""
    from dassl.utils import UserError  # what is never raised need not be loaded
    from datasets.errors import DatasetError
    from trainers.errors import MethodError

    return (UserError, DatasetError, MethodError, OSError, FloatingPointError)


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Turn an expected error into one message on stderr; also a decorator.

    Raises:
        SystemExit: code 1, after the message.
    """
    streams.escape()
    try:
        yield
    except Exception as error:
        if not isinstance(error, expected_errors()):
            raise
        # an error of `print` does not say where it wrote
        unnamed = isinstance(error, OSError) and error.filename is None
        problem = unnamed and streams.trouble(probe=True)
        streams.tell(f"error: {problem or bounded(str(error))}")
        raise SystemExit(1) from None


def bounded(text: str) -> str:
    """A message, which may quote any input: of long lines both ends, of many the first."""
    lines = [
        line if len(line) <= LINE else f"{line[: LINE // 2]} ... {line[-LINE // 2 :]}"
        for line in text.split("\n")
    ]
    if len(lines) > LINES:
        lines[LINES:] = [f"... and {len(lines) - LINES} more lines"]
    return "\n".join(lines)


def run(call: Callable[[], Any], resumes: bool = False) -> None:
    """Run a `main` as a program: Ctrl-C ends it with one line and exit code 130, and a stdout that
    cannot be written, full or closed by who reads it, with one line and exit code 1.

    Args:
        call: the `main`.
        resumes: the same command goes on where it was cut off, and the line says so.
    """
    # before torch is loaded: waiting threads that spin make a busy machine many times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _end_if(streams.fill_closed())
    streams.escape()
    try:
        call()
    except KeyboardInterrupt:
        what = ": the same command continues where it was" if resumes else ""
        streams.tell(f"interrupted{what}")
        raise SystemExit(130) from None
    except SystemExit:
        _end_if(streams.trouble())
        raise
    _end_if(streams.trouble())


def _end_if(problem: str) -> None:
    if problem:
        streams.tell(f"error: {problem}")
        raise SystemExit(1)
