"""How benchmarks measure: ways in turn, medians, memory that is kept, memory at its peak."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from runs.config import REPOSITORY
from runs.machine import process_peak

GIB = 2**30
# most that ours and the plain way may differ, relative norms: of features, of gradients
TOLERANCE = {"fp32": (1e-5, 1e-4), "fp16": (1e-2, 5e-2), "bf16": (5e-2, 2e-1)}


@dataclass(frozen=True)
class Timed:
    """What ways took, in rounds in which each had its turn.

    Attributes:
        rounds: seconds of each way, one list for each round.
        results: what each way returned in the last round.
    """

    rounds: list[list[float]]
    results: list[Any]

    def seconds(self, way: int) -> float:
        """Median seconds of a way."""
        return median(taken[way] for taken in self.rounds)

    def ratio(self, slow: int = 0, fast: int = 1) -> float:
        """How many times faster: the median over the rounds, so that a busy machine cancels out."""
        return median(taken[slow] / taken[fast] for taken in self.rounds)


def in_turn(
    ways: Sequence[Callable[[], Any]],
    runs: int,
    budget: float = float("inf"),
    device: torch.device | str = "cpu",
) -> Timed:
    """Time ways one after another, `runs` rounds, or fewer once `budget` seconds are used up."""
    rounds: list[list[float]] = []
    results: list[Any] = []
    for _ in range(max(1, runs)):
        taken, results = [], []
        for way in ways:
            synchronize(device)
            started = time.perf_counter()
            results.append(way())
            synchronize(device)
            taken.append(time.perf_counter() - started)
        rounds.append(taken)
        if sum(map(sum, rounds)) > budget:
            break
    return Timed(rounds, results)


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def difference(expected: Tensor, found: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    return ((expected - found).double().norm() / expected.double().norm()).item()


def check_same(what: str, found: float, most: float) -> None:
    """Refuse a comparison of ways whose results differ.

    Raises:
        SystemExit: a message (exit code 1) with the difference and the most that is allowed.
    """
    if not found <= most:
        raise SystemExit(f"not the same results: {what} differ by {found:.1e}, more than {most:g}")


def check_at_least(what: str, ratios: Iterable[float], least: float) -> None:
    """Refuse a ratio below `least`.

    Raises:
        SystemExit: a message (exit code 1) with the smallest ratio.
    """
    smallest = min(ratios, default=float("inf"))
    if smallest < least:
        raise SystemExit(f"{what}: {smallest:.1f} times, not at least {least:g}")


def kept_bytes(forward: Callable[[], Tensor], weights: Iterable[Tensor]) -> int:
    """Bytes of the tensors that autograd keeps for the backward pass, without the weights."""
    frozen = {tensor.untyped_storage().data_ptr() for tensor in weights}
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            storages[storage.data_ptr()] = storage.nbytes()
        # without its graph: a result that its own step keeps would hold itself for ever
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        graph = forward()  # alive while counting, so that no storage takes another's place
    total = sum(storages.values())
    del graph
    return total


def peak_bytes(call: Callable[[], Any], device: torch.device | str = "cpu") -> int:
    """Most bytes that a call needs above what was there before.

    On a CPU that is memory of the process: call it in a fresh process with `GIVE_BACK`, because
    memory that was freed before and stayed with the process is not counted.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    before = _forget_peak()
    call()
    return process_peak() - before


def _forget_peak() -> int:
    """Let the peak start anew from the memory in use now, and return it (Linux; else the peak)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return process_peak()


def available_bytes(device: torch.device | str = "cpu") -> int:
    """Memory that is free on the device, or that this machine can give to processes."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):
        return 8 * GIB
    group = Path("/sys/fs/cgroup")
    try:  # a container may have less than its machine
        limit = int((group / "memory.max").read_text())
        return min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


# glibc gives memory back at once, so that a process' peak is that of the memory in use
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


def fresh_process(
    module: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[float, Any]:
    """Run `python -m module` in a process of its own.

    Args:
        environment: variables to add to those of this process.

    Returns:
        Its wall seconds, and its last line of output, read as JSON if it is.

    Raises:
        SystemExit: it failed; with its message.
    """
    command = [sys.executable, "-m", module, *arguments]
    started = time.perf_counter()
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        shown = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise SystemExit(f"python -m {module} {' '.join(arguments)} failed:\n{shown}")
    line = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        return seconds, json.loads(line)
    except json.JSONDecodeError:
        return seconds, line


def hardware(device: torch.device | str = "cpu") -> str:
    """Processor, threads, GPU and versions in one line, to stand above figures."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    threads = torch.get_num_threads()
    parts = [f"{name}, {threads} thread{'s' if threads > 1 else ''}"]
    if torch.device(device).type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return f"{', '.join(parts)}; Python {platform.python_version()}, torch {version('torch')}"
