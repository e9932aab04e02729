"""A process that does one job after another, each as in a process of its own.

    python -m runs.worker SOCKET COMMAND [--once]

COMMAND is a module with a `main`, which is called with the words of each job; SOCKET is the number
of a descriptor on which they come, see `Task`. What takes seconds in every process is done once:
torch and its libraries are loaded, and so are the weights and images that come again.

The worker claims a job before it does it (`runs.claims`). After a job all global state is put back
(`ProcessState`), and its exit code is answered. After one that failed, or left something that
cannot be taken away, the process ends with that code instead: whoever sent it starts another one.
"""

import atexit
import gc
import json
import math
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from runs import command
from runs.claims import FAILED, GIVEN_BACK, Claim, take
from runs.failures import MARK, kind_of
from runs.results import readable_results

SIZE = struct.Struct("!I")  # of what follows, in bytes
CODE = struct.Struct("!B")  # the answer
TAKEN = 75  # an exit code: the job is, or has become, another process'
INTERRUPTED = 128 + signal.SIGINT
ENDS = (signal.SIGINT, signal.SIGTERM)  # how a job is asked to end
TOGETHER = 2.0  # seconds in which several requests to end are one
BEGUN = 255  # no exit code: the job was received


@dataclass(frozen=True)
class Task:
    """A job for a worker, which it answers with an exit code; `TAKEN`: it is another's.

    Attributes:
        words: of the command.
        log: file of the job's output.
        failed: its name after a failure.
        claim: see `runs.claims.Claim`.
        results: files that are there when the job is done.
    """

    words: list[str]
    log: str
    failed: str
    claim: str
    results: list[str]

    def send(self, connection: socket.socket) -> None:
        """Give it to the worker at the other end."""
        content = json.dumps(asdict(self)).encode()
        connection.sendall(SIZE.pack(len(content)) + content)

    @classmethod
    def receive(cls, connection: socket.socket) -> "Task | None":
        """The next one; None if there are no more."""
        head = _read(connection, SIZE.size)
        content = head and _read(connection, SIZE.unpack(head)[0])
        return cls(**json.loads(content)) if content else None


def _read(connection: socket.socket, count: int) -> bytes:
    """So many bytes; fewer, as none, if the other end is gone."""
    content = b""
    while len(content) < count:
        if not (part := connection.recv(count - len(content))):
            return b""
        content += part
    return content


def answer(connection: socket.socket) -> int | None:
    """`BEGUN`, then the exit code of the job; None if the worker has ended, or ends with it.

    Waits for it: ask when the connection can be read.
    """
    with suppress(ConnectionError):
        if told := connection.recv(CODE.size):
            return int(CODE.unpack(told)[0])
    return None


def exit_code(call: Callable[[], object]) -> int:
    """Run a `main` as a program, and return what its process would end with.

    What it says of a failure ends with the kind of it, see `runs.failures`.
    """
    try:
        command.run(call, resumes=True)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        kind = kind_of(stop) if code else ""
    except BaseException as error:
        traceback.print_exc()
        code, kind = 1, kind_of(error)
    else:
        return 0
    if kind:
        print(f"{MARK}{kind}", file=sys.stderr)
    return code


def serve(connection: socket.socket, name: str, once: bool = False) -> int:
    """Do jobs until there are no more; the exit code of the process.

    Args:
        connection: where they come from.
        name: of the module whose `main` they are for.
        once: end after the first job.
    """
    main = load_for(name)
    from runs.process_state import ProcessState  # needs torch

    state = ProcessState()
    gc.collect()
    gc.freeze()  # what is loaded stays: it need not be looked through after each job
    os.register_at_fork(after_in_child=connection.close)  # who waits for the end shall see it
    while task := Task.receive(connection):
        _tell(connection, BEGUN)
        claim = take(Path(task.claim))
        if claim is None or all(readable_results(Path(path)) for path in task.results):
            if claim is not None:
                claim.remove()
            _tell(connection, TAKEN)
            continue
        code = _do(task, claim, lambda task=task: main(task.words))  # type: ignore[misc]
        if code or once:
            return code
        if left := _put_back(state):
            print(f"Note: this job left {left}: the next one gets a new process")
            return code
        _write_to(os.devnull)
        _tell(connection, code)
    return 0


def _do(task: Task, claim: Claim, call: Callable[[], object]) -> int:
    """Do a job, and say how it ended where others look for it."""
    with suppress(FileNotFoundError):
        os.unlink(task.log)  # who did it before may still write to the file
    _write_to(task.log)
    with claim.beating():
        code = exit_code(call)
    if claim.lost():
        return TAKEN
    if code == 0:
        with suppress(FileNotFoundError):
            os.unlink(task.failed)
        claim.remove()
    elif code == INTERRUPTED:
        claim.end(GIVEN_BACK)
    else:
        os.replace(task.log, task.failed)
        claim.end(FAILED)
    return code


def _tell(connection: socket.socket, code: int) -> None:
    with suppress(ConnectionError):  # nobody is there any more, and no job will come
        connection.sendall(CODE.pack(code))


def _put_back(state: Any) -> str:
    """What a job has left that cannot be taken away; "" if nothing."""
    try:
        state.put_back()
    except Exception as error:  # its results are written all the same
        return f"what cannot be put back ({error})"
    return str(state.left_over())


def load_for(name: str) -> Callable[[Sequence[str]], object]:
    """The `main` of a command; all that jobs load on first use is there."""
    from dassl.lazy import load

    for module in ("torch", "torchvision", "dassl.data.data_manager", "clip.model", name):
        load(module)
    with suppress(ImportError):  # a run can do without
        load("torch.utils.tensorboard")
    from dassl.data import image_memory
    from dassl.utils import progress
    from trainers import register
    from trainers.backbones import weights

    register()
    progress.bar(()).close()  # the first one starts a thread that stays
    weights.keep_last()
    image_memory.keep_last()
    return import_module(name).main  # type: ignore[no-any-return]


def _write_to(path: str) -> None:
    """Let all output of this process go to a file from now on."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the socket of the command line.

    Raises:
        SystemExit: with the code of the last job.
    """
    number, name, *once = sys.argv[1:] if argv is None else argv
    with socket.socket(fileno=int(number)) as connection:
        raise SystemExit(serve(connection, name, bool(once)))


def _end_by_signals() -> None:
    """Let a request to end interrupt the job, and none that comes with it the giving back.

    Python loses an interrupt that comes in a finalizer: asked again later, it counts. Who began
    this process asks with SIGINT, which a shell lets ignore what it starts with &; Slurm asks all
    processes with SIGTERM, and those that can be queued again with SIGUSR1 or SIGUSR2, which is
    left to who began this one.
    """
    asked = -math.inf

    def interrupt(number: int, frame: object) -> None:
        nonlocal asked
        now = time.monotonic()
        if now - asked > TOGETHER:
            asked = now
            raise KeyboardInterrupt

    for end in ENDS:
        signal.signal(end, interrupt)
        # at the end Python would put back what kills
        atexit.register(signal.signal, end, signal.SIG_IGN)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    _end_by_signals()
    # threads that wait must not spin, see `command.run`
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        main()
    except KeyboardInterrupt:  # while there was nothing to do
        raise SystemExit(130) from None
