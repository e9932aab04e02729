"""Global state of a process: noted once, and put back after each of its jobs."""

import atexit
import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile

from runs.machine import process_now

MOST_GROWTH = 4 * 2**30  # bytes that a process may have in use beyond those of its first job
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1)
Put = Callable[[], object]
# switches of torch, Pillow and Python that are attributes, and those that are functions
FLAGS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (torch.backends.cudnn, ("enabled", "benchmark", "deterministic")),
    (
        torch.backends.cuda.matmul,
        ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"),
    ),
    (ImageFile, ("LOAD_TRUNCATED_IMAGES",)),
    (Image, ("MAX_IMAGE_PIXELS",)),
)
FUSED: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    (sys.getrecursionlimit, sys.setrecursionlimit),
)


class ProcessState:
    """What code can change beyond its own objects, as it is when this object is made.

    Of what cannot be put back, `left_over` tells.
    """

    def __init__(self) -> None:
        self._put_back = [put for take in _STATES for put in take()]
        self._threads = set(threading.enumerate())
        self._registered: list[Any] = []  # calls at the end of the process, that jobs asked for
        self._in_use = 0  # bytes, after the first job
        register, unregister = atexit.register, atexit.unregister

        def watched(call: Any, *args: Any, **kwargs: Any) -> Any:
            # what a module registers while it is loaded belongs to it, and it stays; what torch
            # does for workers of loaders is over with them
            caller = sys._getframe(1)
            module = str(caller.f_globals.get("__name__", ""))
            if not _loads(caller) and not module.startswith("torch."):
                self._registered.append(call)
            return register(call, *args, **kwargs)

        def taken_back(call: Any) -> None:
            self._registered = [one for one in self._registered if one != call]
            unregister(call)

        atexit.register = watched  # type: ignore[assignment]
        atexit.unregister = taken_back  # type: ignore[assignment]

    def put_back(self) -> None:
        """Let all be as it was; freed memory goes back to the device."""
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        for put in self._put_back:
            put()
        self._in_use = self._in_use or process_now()

    def left_over(self) -> str:
        """What a job has left that only the end of the process takes away; "" if nothing."""
        if self._registered:
            return "calls at the end of the process"
        if threads := {t.name for t in threading.enumerate() if t not in self._threads}:
            return f"threads ({', '.join(sorted(threads))})"
        if multiprocessing.active_children():
            return "processes"
        return "memory" if process_now() - self._in_use > MOST_GROWTH else ""


def _loads(frame: FrameType | None) -> bool:
    """Whether a frame is that of a module that is being loaded, or was called by one."""
    if frame is not None and frame.f_code.co_name == "<module>":
        return True
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _generators() -> list[Put]:
    python, numpy, seed = random.getstate(), np.random.get_state(), torch.initial_seed()
    return [
        lambda: random.setstate(python),
        lambda: np.random.set_state(numpy),
        lambda: torch.manual_seed(seed),  # of CUDA as well
    ]


def _switches() -> list[Put]:
    """Those of torch and numpy that change numbers."""
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    dtype, precision = torch.get_default_dtype(), _float32_precision()
    fixed, anomaly = torch.get_deterministic_debug_mode(), torch.is_anomaly_enabled()
    flags = [(place, name, getattr(place, name)) for place, names in FLAGS for name in names]
    fused = [(put, take()) for take, put in FUSED]

    def flags_back() -> None:
        for place, name, value in flags:
            setattr(place, name, value)
        for put, value in fused:
            put(value)

    errors = np.geterr()
    kinds = {kind: torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")}
    return [
        lambda: torch.set_num_threads(threads),
        lambda: torch.set_grad_enabled(gradients),
        lambda: torch.set_default_dtype(dtype),
        lambda: torch.set_default_device(None),
        precision,
        lambda: torch.set_deterministic_debug_mode(fixed),
        lambda: torch.set_anomaly_enabled(anomaly),
        flags_back,
        lambda: [torch.set_autocast_enabled(kind, on) for kind, on in kinds.items()],
        torch.clear_autocast_cache,
        lambda: np.seterr(**errors),
    ]


def _float32_precision() -> Put:
    """How float32 is multiplied: an old switch of torch, and later ones, where there are some."""
    old, backends = torch.get_float32_matmul_precision(), torch.backends
    places: list[Any] = [backends, backends.cuda.matmul]
    for name in ("cudnn", "mkldnn"):
        part: Any = getattr(backends, name)
        places += [getattr(part, kind, None) for kind in ("matmul", "conv", "rnn")]
    found = {place: place.fp32_precision for place in places if hasattr(place, "fp32_precision")}

    def put_back() -> None:
        # to set the old one changes the others, and with them the keys of cached features
        if _old_precision() != old:
            torch.set_float32_matmul_precision(old)
        for place, value in found.items():
            place.fp32_precision = value
        if _old_precision() != old:
            torch.set_float32_matmul_precision(old)

    return put_back


def _old_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # where the later ones say something else
        return ""


def _process() -> list[Put]:
    """Folder, environment, streams, signals."""
    folder, environment, argv = os.getcwd(), dict(os.environ), list(sys.argv)
    path, streams = list(sys.path), (sys.stdout, sys.stderr, sys.stdin)
    hooks, thread_hook = (sys.excepthook, sys.displayhook), threading.excepthook
    found = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {number: one for number, one in found.items() if one is not None}  # C's stay
    mask = os.umask(0o22)
    os.umask(mask)

    def streams_back() -> None:
        sys.stdout, sys.stderr, sys.stdin = streams
        sys.excepthook, sys.displayhook = hooks
        threading.excepthook = thread_hook

    def environment_back() -> None:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        for name, value in environment.items():
            if os.environ.get(name) != value:
                os.environ[name] = value

    return [
        streams_back,
        environment_back,
        lambda: os.chdir(folder),
        lambda: os.umask(mask),
        lambda: sys.argv.__setitem__(slice(None), argv),
        lambda: sys.path.__setitem__(slice(None), path),
        lambda: [
            signal.signal(number, handler)
            for number, handler in handlers.items()
            if handler is not None
        ],
        gc.enable,
    ]


def _messages() -> list[Put]:
    """Warnings, which are told once in a process, and the root of logging."""
    filters, root = list(warnings.filters), logging.getLogger()
    level, handlers = root.level, list(root.handlers)

    def filters_back() -> None:
        warnings.filters[:] = filters  # type: ignore[index]
        with warnings.catch_warnings():
            pass  # and those that were told are forgotten

    return [
        filters_back,
        lambda: root.setLevel(level),
        lambda: root.handlers.__setitem__(slice(None), handlers),
    ]


def _peaks() -> list[Put]:
    """The most memory in use, which results tell of each job."""

    def process() -> None:
        with suppress(OSError):  # not there on macOS
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def device() -> None:
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    return [process, device]


_STATES: tuple[Callable[[], list[Put]], ...] = (_generators, _switches, _process, _messages, _peaks)
