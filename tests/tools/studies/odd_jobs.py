"""Stands for `tools.protocol` in a worker: each job does what its tag says, and tells its process.

None leaves results, so that a study counts all as failed, with their last line as the reason.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UserError
from datasets.errors import DatasetError
from runs.command import mistakes_told
from runs.machine import MemoryShortage

RAISED = {
    "needs_more_memory": MemoryShortage("too little: a smaller batch needs less"),
    "has_no_data": DatasetError("no such folder"),
    "is_refused": UserError("X is 1, expected 2"),
}


def main(words: Sequence[str]) -> None:
    """Do what the word `--tag=` says."""
    (tag,) = (word.removeprefix("--tag=") for word in words if word.startswith("--tag="))
    print(f"process {os.getpid()}", flush=True)
    if tag == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    elif tag == "dies_before_its_child":  # as a loader's does, which outlives it for a moment
        if not os.fork():
            time.sleep(60)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    elif tag == "leaves_a_thread_that_is_waited_for":
        threading.Thread(target=time.sleep, args=(600,)).start()
    elif tag in RAISED:
        with mistakes_told():
            raise RAISED[tag]
    elif tag == "fails":
        sys.exit(1)
    elif tag == "leaves_a_thread":
        threading.Thread(target=time.sleep, args=(600,), daemon=True, name="mine").start()
    elif tag == "waits_for_two":
        seen = Path(os.environ["ODD_JOBS"], "seen")
        with seen.open("a") as file:
            file.write(f"{os.environ['CUDA_VISIBLE_DEVICES']}\n")
        while len(seen.read_text().split()) < (2 if {"--seed=1", "--seed=2"} & {*words} else 4):
            time.sleep(0.05)
        print("error: no luck", flush=True)
        sys.exit(1)
    elif tag == "is_interrupted":
        folder = Path(os.environ["ODD_JOBS"])
        try:
            (folder / "begun").touch()
            time.sleep(600)
        except KeyboardInterrupt:
            (folder / "ended").touch()
            raise
    elif tag in ("sleeps", "hangs"):
        if tag == "hangs":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        Path(os.environ["ODD_JOBS"], "begun").touch()
        time.sleep(600)
