"""What a run took, and what it ran on."""

from __future__ import annotations

import os
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dassl.utils import UserError

if TYPE_CHECKING:
    import torch

SHARED = "/dev/shm"
_FULL = r"can't allocate memory|not enough memory"
_SHARED_FULL = r"shared memory( object|\(shm\)| limit|\.)|bus error|</torch_"


class MemoryShortage(UserError):
    """A memory was too small for a run."""


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """The most memory that was in use since the process began, in GiB, for the results.

    Returns:
        process_gib: resident memory of this process, without workers of its loaders; device_gib:
        what torch has allocated on the GPU, None on a CPU.
    """
    import torch  # slow to import, and most callers of this module need none

    on_gpu = device.type == "cuda"
    allocated = torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None
    return {
        "process_gib": round(process_peak() / 2**30, 3),
        "device_gib": None if allocated is None else round(allocated, 3),
    }


def process_now() -> int:
    """The memory that this process has in use, in bytes; where it is not told, the most it had."""
    return _status("VmRSS") or process_peak()


def process_peak() -> int:
    """The most memory that this process had in use, in bytes."""
    if told := _status("VmHWM"):
        return told
    # on Linux this would count what the process that started this one had in use
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    """A figure of this process in bytes; 0 where Linux does not tell it."""
    with suppress(OSError):  # not there on macOS
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def memory_shortage(error: RuntimeError | MemoryError) -> str:
    """What to do if an error tells of too little memory; "" if it tells something else."""
    import torch  # has been loaded by whatever raised this

    text = f"{error} {error.__cause__}"  # which signal it was stands in the cause
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"{error} A smaller DATALOADER.TRAIN_X.BATCH_SIZE or DATALOADER.TEST.BATCH_SIZE needs "
            "less memory."
        )
    if isinstance(error, MemoryError) or re.search(_FULL, text, re.IGNORECASE):
        # torch's has a traceback of its own in front, and that of Python may have no text
        told = str(error).rpartition("] ")[2].splitlines() or ["no more is told"]
        return (
            f"the memory of this machine is full ({told[0]}): a smaller DATALOADER.MEMORY_MB, "
            "DATALOADER.TRAIN_X.BATCH_SIZE or DATALOADER.TEST.BATCH_SIZE, fewer "
            "DATALOADER.NUM_WORKERS, and fewer jobs at a time (--jobs of a study) need less"
        )
    if re.search(_SHARED_FULL, text, re.IGNORECASE):
        has = ""
        with suppress(OSError):  # not there on macOS
            status = os.statvfs(SHARED)
            has = f" ({SHARED} has {status.f_blocks * status.f_frsize / 2**20:.1f} MiB)"
        return (
            f"the workers that load images have too little shared memory{has}: use "
            "DATALOADER.NUM_WORKERS 0, or a larger --shm-size for docker"
        )
    if re.search(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)", text):
        return (
            "a worker that loads images was killed, as happens when the memory is full: use fewer "
            "workers (DATALOADER.NUM_WORKERS, 0 for none)"
        )
    return ""


def device_name(device: torch.device) -> str:
    """Name of the device, for the results."""
    import torch  # slow to import, and most callers of this module need none

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
