"""Kill a command at each of its file events, and start it again: what tests/test_kills.py runs.

    python -m tests.kills COMMAND FOLDER HOW_MANY WORD ...

COMMAND is a module with a `main`, and FOLDER/whole is where it runs without a kill; "{folder}" in
the words stands for the folder of a run. HOW_MANY kills are spread over the events, "all" is each
event at each of `MOMENTS`. On stdout is a line of JSON for each kill.

The process loads everything once and forks for each run. It has no other thread when it does so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# before the event; when it has happened; when a file is opened and half of a line is in it
MOMENTS = ("before", "after", "torn")
CHANGES = ("mkdir", "rmdir", "rename", "remove", "link", "symlink", "truncate", "utime", "chmod")


class FileEvents:
    """An audit hook: notes what happens to files below a folder, and kills at one event.

    Args:
        folder: only what is below it counts.
        number: of the event at which the process is killed, from 1; 0 for none.
        moment: one of `MOMENTS`.
    """

    def __init__(self, folder: Path, number: int = 0, moment: str = "before"):
        self.root = f"{folder}/"
        self.number = number
        self.moment = moment
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        changes = event.removeprefix("os.") in CHANGES or event.startswith("shutil.")
        if not changes and not (event == "open" and arguments[2] & WRITING):
            return
        path = os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else ""
        # a thread writes TensorBoard's file, at other moments in every run
        if not path.startswith(self.root) or "/tensorboard/" in path:
            return
        self.seen.append(f"{event} {path.removeprefix(self.root)}")
        if len(self.seen) == self.number:
            if self.moment == "after":  # where this thread goes on, it has happened
                sys.setprofile(kill)
                return
            if self.moment == "torn" and event == "open":
                with open(path, "ab") as file:
                    file.write(b'{"half of a lin')
            kill()


def kill(frame: FrameType | None = None, *_: object) -> None:
    """End this process at once; as a profiler, not where the hook itself is at work."""
    if frame is None or frame.f_code.co_filename != __file__:
        os.kill(os.getpid(), signal.SIGKILL)


def run(main: Any, words: list[str], folder: Path, *kill_at: Any) -> int:
    """Do `main(words)` in a process of its own; its exit code, negative for a signal.

    What it shows is added to `<folder>.shown`, and its events are in `<folder>.events`.

    Args:
        kill_at: number and moment, see `FileEvents`.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        shown = os.open(f"{folder}.shown", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(shown, 1)
        os.dup2(shown, 2)
        events = FileEvents(folder, *kill_at)
        sys.addaudithook(events)
        try:
            main([word.replace("{folder}", str(folder)) for word in words])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        Path(f"{folder}.events").write_text("\n".join(events.seen))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def picked(events: list[str], how_many: str) -> list[tuple[int, str]]:
    """Number and moment of each kill."""
    if how_many == "all":
        return [
            (number, moment)
            for number, event in enumerate(events, start=1)
            for moment in MOMENTS
            if moment != "torn" or event.startswith("open")
        ]
    count = int(how_many)
    return [
        (1 + (2 * i + 1) * len(events) // (2 * count), MOMENTS[i % len(MOMENTS)])
        for i in range(count)
    ]


def main() -> None:
    """The whole run, then the killed ones, each with the run that goes on."""
    command, place, how_many, *words = sys.argv[1:]
    call = import_module(command).main
    for module in ("dassl.engine.trainer", "dassl.data.data_manager", "torch.utils.tensorboard"):
        import_module(module)
    import_module("trainers").register()
    threads = Path("/proc/self/task")  # Linux
    assert not threads.is_dir() or len(list(threads.iterdir())) == 1, "a fork would lose them"
    folder = Path(place)
    code = run(call, words, folder / "whole")
    assert code == 0, (folder / "whole.shown").read_text()
    events = (folder / "whole.events").read_text().splitlines()
    for number, moment in picked(events, how_many):
        one = folder / f"{number}-{moment}"
        codes = [run(call, words, one, number, moment), run(call, words, one)]
        print(json.dumps({"run": one.name, "codes": codes}), flush=True)


if __name__ == "__main__":
    main()
