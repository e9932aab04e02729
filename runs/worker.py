"""A process that does one job after another, each as in a process of its own.

    python -m runs.worker SOCKET COMMAND

COMMAND is a module with a `main`, which is called with the words of each job; SOCKET is the number
of a descriptor on which they come, see `send`. What takes seconds in every process is done once:
torch and its libraries are loaded, and so are the weights and images that come again.

After a job all global state is put back (`ProcessState`), and its exit code is answered. After one
that failed, or left something that cannot be taken away, the process ends with that code instead:
whoever sent it starts another one.
"""

import json
import os
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

from runs import command

SIZE = struct.Struct("!I")  # of the words that follow, in bytes
CODE = struct.Struct("!B")  # the answer
BEGUN = 255  # no exit code: the job was received


def send(connection: socket.socket, words: Sequence[str], log: IO[bytes]) -> None:
    """Give a job to the worker at the other end.

    Args:
        connection: to the worker.
        words: of its command.
        log: where the job's output goes; the worker has its own copy, and with it the lock, until
            the job has ended.
    """
    content = json.dumps(list(words)).encode()
    socket.send_fds(connection, [SIZE.pack(len(content))], [log.fileno()])
    connection.sendall(content)


def answer(connection: socket.socket) -> int | None:
    """`BEGUN`, then the exit code of the job; None if the worker has ended, or ends with it.

    Waits for it: ask when the connection can be read.
    """
    with suppress(ConnectionError):
        if told := connection.recv(CODE.size):
            return int(CODE.unpack(told)[0])
    return None


def exit_code(call: Callable[[], object]) -> int:
    """Run a `main` as a program, and return what its process would end with."""
    try:
        command.run(call, resumes=True)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve(connection: socket.socket, name: str) -> int:
    """Do jobs until there are no more; the exit code of the process.

    Args:
        connection: where they come from.
        name: of the module whose `main` they are for.
    """
    main = load_for(name)
    from runs.process_state import ProcessState  # needs torch

    state = ProcessState()
    os.register_at_fork(after_in_child=connection.close)  # who waits for the end shall see it
    while job := _receive(connection):
        words, log = job
        _tell(connection, BEGUN)
        _write_to(log)
        code = exit_code(lambda words=words: main(words))  # type: ignore[misc]
        if code:
            return code
        if left := _put_back(state):
            print(f"Note: this job left {left}: the next one gets a new process")
            return code
        _write_to(os.open(os.devnull, os.O_WRONLY))  # whoever waits for the log's lock goes on
        _tell(connection, code)
    return 0


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


def _receive(connection: socket.socket) -> tuple[list[str], int] | None:
    """Words of the next job, and the descriptor of its log; None if there is none."""
    head, descriptors, *_ = socket.recv_fds(connection, SIZE.size, 1)
    if len(head) < SIZE.size:
        return None
    content = b""
    while missing := SIZE.unpack(head)[0] - len(content):
        if not (part := connection.recv(missing)):
            return None
        content += part
    return json.loads(content), descriptors[0]


def _write_to(descriptor: int) -> None:
    """Let all output of this process go there from now on."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the socket of the command line.

    Raises:
        SystemExit: with the code of the last job.
    """
    number, name = sys.argv[1:] if argv is None else argv
    with socket.socket(fileno=int(number)) as connection:
        raise SystemExit(serve(connection, name))


if __name__ == "__main__":
    # threads that wait must not spin, see `command.run`
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        main()
    except KeyboardInterrupt:  # while there was nothing to do
        raise SystemExit(130) from None
