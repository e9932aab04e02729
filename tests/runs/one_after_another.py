"""Jobs of all methods in one process, in two orders, and each in a process of its own.

    python -m tests.runs.one_after_another DATA FOLDER METHOD ...

FOLDER gets `alone`, `forwards` and `backwards`. The process loads everything once and forks: it has
done no job when it does so, and a fork of it is as new as a process can be.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from runs import worker

COMMAND = "tools.protocol"


def words(data: str, output: Path, method: str) -> list[str]:
    """A short job."""
    job = ["base2new", "--trainer", method, "--dataset", "shapes", "--seed", "3", "--shots", "1"]
    short = ["OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"]
    return [*job, "--data", data, "--output", str(output), "--", *short]


def in_a_fork(data: str, output: Path, methods: list[str]) -> None:
    """Let a worker do the jobs of these methods in turn; all must succeed."""
    output.mkdir(parents=True, exist_ok=True)
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        ours.close()
        os._exit(worker.serve(theirs, COMMAND))
    theirs.close()
    for method in methods:
        log = output / f"{method}.log"
        files = [str(log), f"{log}.failed", str(output / method)]
        worker.Task(words(data, output, method), *files, [str(output / "none")]).send(ours)
        assert worker.answer(ours) == worker.BEGUN
        assert worker.answer(ours) == 0, log.read_text()
    ours.close()
    assert os.waitpid(pid, 0)[1] == 0


def main() -> None:
    """All of it."""
    data, folder, *methods = sys.argv[1:]
    worker.load_for(COMMAND)
    for method in methods:
        in_a_fork(data, Path(folder, "alone"), [method])
    in_a_fork(data, Path(folder, "forwards"), methods)
    in_a_fork(data, Path(folder, "backwards"), methods[::-1])


if __name__ == "__main__":
    main()
