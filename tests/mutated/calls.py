"""A call of a command whose end is looked at: how it ends, what it says, what it writes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools import doctor, pools

HANGS = 60  # seconds; the slowest takes about one


class Hang(BaseException):
    """Raised after `HANGS` seconds."""


class Fault(Exception):
    """What is wrong with the end of a command."""


class Watch:
    """Notes what is written outside of some folders; the interpreter keeps it for ever."""

    folders: tuple[str, ...] = ()
    found: list[str] = []
    _added = False
    _paths = {"os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.rename": 2, "os.truncate": 1}
    _paths |= {"os.link": 2, "os.symlink": 2, "os.chmod": 1, "shutil.rmtree": 1}

    @classmethod
    def start(cls, *folders: Path) -> None:
        cls.folders = (*(os.path.realpath(folder) for folder in folders), "/dev/null", "/proc")
        cls.found = []
        if not cls._added:
            sys.addaudithook(cls._look)
            cls._added = True

    @classmethod
    def _look(cls, event: str, args: tuple) -> None:
        if not cls.folders:
            return
        if event == "socket.connect":
            raise OSError("no network in this test")
        writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        count = bool(args[2] & writes) if event == "open" and args[2] else cls._paths.get(event, 0)
        for path in args[:count]:
            if isinstance(path, int):
                continue
            place = os.path.realpath(os.fsdecode(path))
            if not any(place == one or place.startswith(f"{one}/") for one in cls.folders):
                cls.found.append(f"{event} {place}")


def call(main: Callable[[list[str]], Any], words: list[str]) -> tuple[int, str]:
    """Exit code of a command, and what it says on stderr; on a console that takes UTF-8 only.

    Raises:
        Fault: it has ended in a traceback, hung, or written elsewhere.
    """
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    Watch.found.clear()
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANGS)
    code, wrong = 0, ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words) if main is pools.main else main(words) and 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except (Exception, Hang):
        wrong = traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    shown, told = (stream.buffer.getvalue().decode() for stream in (out, err))
    if "Traceback (most recent" in shown + told:
        wrong = wrong or shown + told
    if main is doctor.main:  # which writes a report
        told = told or f"error: {shown}"
    if wrong or Watch.found:
        raise Fault(wrong or f"has written {Watch.found}")
    return int(code or 0), told


def _hangs(*_: object) -> None:
    raise Hang(f"has not ended after {HANGS} s")
