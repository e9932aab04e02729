"""What is said where a memory is too small."""

from __future__ import annotations

import os
import signal

import pytest

from dassl.data import DatasetWrapper
from runs.machine import memory_shortage

SHARED = (
    "unable to allocate shared memory(shm) for file </torch_24419_0>: No space left on device (28)",
    "unable to open shared memory object </torch_1_2> in read-write mode: Too many open files (24)",
    "unable to write to file </torch_1_2_3>: No space left on device (28)",
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
    "workers are out of shared memory. Please try to raise your shared memory limit.",
)
KILLED = (
    "DataLoader worker (pid 7) is killed by signal: Killed. ",
    "DataLoader worker (pid(s) 7, 8) exited unexpectedly",
)


@pytest.mark.parametrize("text", SHARED)
def test_little_shared_memory_is_told(text):
    told = memory_shortage(RuntimeError(text))
    assert told.startswith("the workers that load images have too little shared memory")
    assert told.endswith("use DATALOADER.NUM_WORKERS 0, or a larger --shm-size for docker")


@pytest.mark.parametrize("text", KILLED)
def test_a_killed_worker_is_told(text):
    assert memory_shortage(RuntimeError(text)) == (
        "a worker that loads images was killed, as happens when the memory is full: use fewer "
        "workers (DATALOADER.NUM_WORKERS, 0 for none)"
    )


def test_other_errors_are_none_of_these():
    assert memory_shortage(RuntimeError("shapes (2, 3) and (4, 5) do not fit")) == ""
    assert memory_shortage(RuntimeError("out of resource: shared memory, Required: 9")) == ""


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (signal.SIGBUS, "use DATALOADER.NUM_WORKERS 0, or a larger --shm-size for docker"),
        (signal.SIGKILL, "use fewer workers (DATALOADER.NUM_WORKERS, 0 for none)"),
    ],
)
def test_a_worker_that_dies_ends_the_run_with_advice(job, refused, monkeypatch, number, told):
    monkeypatch.setattr(DatasetWrapper, "__getitem__", lambda *_: os.kill(os.getpid(), number))
    message = refused(job("CoOp", "DATALOADER.NUM_WORKERS", "1"))
    assert message.endswith(told) and "\n" not in message
