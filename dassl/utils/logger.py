"""The log of a run: everything printed to stdout and stderr also goes to a file."""

import errno
import os
import os.path as osp
import sys
import time
import traceback
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from . import progress
from .errors import FolderError, UserError
from .tools import mkdir_if_missing

__all__ = ["Logger", "close_logger", "log_only", "setup_logger"]


class Logger:
    """A stream that writes to a console stream and appends to the file ``fpath``.

    It behaves as the console does (``isatty``, ``fileno``, ``encoding``, ...). Text with a carriage
    return (a progress bar) goes to the console only. Once closed it still serves the console.
    """

    def __init__(self, fpath: str | os.PathLike | None = None, console: Any = None) -> None:
        self.console = sys.stdout if console is None else console
        self._pending = ""
        self._path = fpath
        self._file = None
        if fpath is not None:
            parent = osp.dirname(fpath)
            if parent:
                mkdir_if_missing(parent)
            try:
                self._file = open(  # noqa: SIM115
                    fpath, "a", buffering=1, encoding="utf-8", errors="backslashreplace"
                )
            except OSError as error:
                raise _unwritable(fpath, error) from error

    def write(self, text: str) -> int:
        """Write to both; lines appear above a live progress bar."""
        if "\r" not in text:
            self.write_file(text)
        if self._pending or progress.any_live():
            *lines, self._pending = (self._pending + text).split("\n")
            if lines:
                progress.write_beside_bars(self.console, "\n".join(lines) + "\n")
        else:
            self.console.write(text)
        return len(text)

    def write_file(self, text: str) -> None:
        """Write to the file only; after an error it is not written any more."""
        self._on_file("write", text)

    def flush(self) -> None:
        """Flush both."""
        self.console.flush()
        self._on_file("flush")

    def close(self) -> None:
        """Close the file; the console stays open."""
        self._on_file("close")
        self._file = None
        if self._pending:
            pending, self._pending = self._pending, ""
            self.console.write(pending)

    def _on_file(self, method: str, *args: str) -> None:
        """Call a method of the file, if there is one; after an error there is none any more."""
        if self._file is None:
            return
        try:
            getattr(self._file, method)(*args)
        except OSError as error:
            file, self._file = self._file, None
            with suppress(OSError, ValueError):  # what is left in it cannot be written either
                file.close()
            raise _unwritable(self._path, error) from error

    def isatty(self) -> bool:
        """Return whether the console is a terminal."""
        return self.console.isatty()

    def fileno(self) -> int:
        """Return the console's file descriptor."""
        return self.console.fileno()

    @property
    def encoding(self) -> str:
        """The console's encoding."""
        return getattr(self.console, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        if name == "console":  # not set yet: no endless recursion
            raise AttributeError(name)
        return getattr(self.console, name)

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()


def _unwritable(fpath: Any, error: OSError) -> FolderError:
    advice = "Choose another OUTPUT_DIR or change its permissions."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "Make room, and run the same command again."
    return FolderError(f'Cannot write "{os.fspath(fpath)}": {error.strerror}. {advice}')


class LogSession:
    """The time during which stdout and stderr go to a log; a context manager."""

    def __init__(self, fpath: str | None = None) -> None:
        self.fpath = fpath
        self._tees: dict[str, Logger] = {}
        if fpath is not None:
            for name in ("stdout", "stderr"):
                self._tees[name] = Logger(fpath, getattr(sys, name))
            for name, tee in self._tees.items():
                setattr(sys, name, tee)

    def close(self) -> None:
        """Give stdout and stderr back and close the file."""
        for name, tee in self._tees.items():
            if getattr(sys, name) is tee:  # somebody else may have replaced it since
                setattr(sys, name, tee.console)
        tees, self._tees = self._tees, {}
        with ExitStack() as stack:
            for tee in tees.values():
                stack.callback(tee.close)

    def __enter__(self) -> "LogSession":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The console gets the error from the caller, later than this: the log gets it here.
        if error is not None and not isinstance(error, SystemExit) and "stderr" in self._tees:
            text = f"Error: {error}\n" if isinstance(error, UserError) else None
            with suppress(OSError):  # the error itself is what counts
                self._tees["stderr"].write_file(
                    text or "".join(traceback.format_exception(kind, error, trace))
                )
        with suppress(*([OSError] if error is not None else [])):
            self.close()


_session = LogSession()


def setup_logger(output: str | os.PathLike | None = None) -> LogSession:
    """Send stdout and stderr also to ``<output>/log.txt`` (``output`` itself if a .txt or .log).

    If that file exists, the name gets ``-<timestamp>``. None does nothing. An earlier log of this
    process is closed first. To end the log, use the result as a context manager or call
    `close_logger`.

    Raises:
        FolderError: the folder cannot be created or written.
    """
    global _session
    if output is None:
        return LogSession()
    close_logger()
    fpath = os.fspath(output)
    if not fpath.endswith((".txt", ".log")):
        fpath = osp.join(fpath, "log.txt")
    if osp.exists(fpath):
        fpath += time.strftime("-%Y-%m-%d-%H-%M-%S")
    _session = LogSession(fpath)
    return _session


def close_logger() -> None:
    """End the log that `setup_logger` started, if any."""
    _session.close()


def log_only(text: str) -> None:
    """Write a line to the log file, not to the console; without a log it is dropped."""
    if isinstance(sys.stdout, Logger):
        sys.stdout.write_file(text + "\n")
