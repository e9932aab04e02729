"""One process for many jobs: each ends as in a process of its own."""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import logging
import mmap
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import write_json
from runs import process_state, worker
from runs.claims import history, take
from runs.machine import process_peak
from runs.process_state import MOST_GROWTH, ProcessState
from tests.runs.hearts import stop_heart
from trainers.features import keys

ROOT = Path(__file__).resolve().parents[2]
METHODS = [
    name
    for name in TRAINER_REGISTRY.registered_names()
    if (ROOT / "configs/trainers" / name).is_dir()
]


def content(folder: Path) -> dict[str, object]:
    """All that runs below a folder have written, but times, memory, places and curves."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "results.json":
            results = json.loads(path.read_text())
            found[name] = {k: v for k, v in results.items() if k not in ("seconds", "memory")}
        elif path.name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{**line, "seconds": None} for line in lines]
        elif path.name == "config.yaml":
            found[name] = path.read_text()
        elif ".pth.tar" in path.name:
            found[name] = path.read_bytes()
        elif path.is_file() and "tensorboard" not in name and path.name != "log.txt":
            found[name] = None
    return found


def test_all_methods_in_any_order_end_as_each_in_a_process_of_its_own(data_root, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.runs.one_after_another", data_root, tmp_path, *METHODS],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone = content(tmp_path / "alone")
    results = [name for name in alone if name.endswith("results.json")]
    assert len(results) == 2 * len(METHODS) and any(".pth.tar" in name for name in alone)
    for order in ("forwards", "backwards"):
        other = content(tmp_path / order)
        assert other.keys() == alone.keys()
        assert [name for name in alone if other[name] != alone[name]] == []


@pytest.fixture
def note_state(monkeypatch):
    """Note the state of this process; it is put back at the end whatever a test did."""
    for name in ("register", "unregister"):  # so that the originals come back
        monkeypatch.setattr(atexit, name, getattr(atexit, name))
    states = []

    def note() -> ProcessState:
        states.append(ProcessState())
        return states[0]

    yield note
    states[0].put_back()


def test_global_state_is_put_back(note_state, tmp_path, monkeypatch):
    state = note_state()
    folder, environment, streams = os.getcwd(), dict(os.environ), (sys.stdout, sys.stderr)
    drawn = [torch.initial_seed(), random.getstate(), np.random.get_state()[1].tolist()]
    handler, hook, filters = (
        signal.getsignal(signal.SIGTERM),
        threading.excepthook,
        list(warnings.filters),
    )
    argv, path, threads = list(sys.argv), list(sys.path), torch.get_num_threads()
    handlers, level = list(logging.root.handlers), logging.root.level
    pixels, depth = Image.MAX_IMAGE_PIXELS, sys.getrecursionlimit()
    torch.manual_seed(5), random.random(), np.random.rand()
    torch.set_num_threads(threads + 1)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True)
    torch.set_anomaly_enabled(True)
    torch.set_autocast_enabled("cpu", True)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.enable_flash_sdp(False)
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    Image.MAX_IMAGE_PIXELS = 1
    sys.setrecursionlimit(5000)
    np.seterr(all="ignore")
    os.chdir(tmp_path)
    os.environ["LEFT_BY_A_JOB"] = "1"
    del os.environ["PATH"]
    before = os.umask(0o77)
    sys.argv[:] = ["job"]
    sys.path.insert(0, "job")
    sys.stdout = sys.stderr = io.StringIO()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.excepthook = print
    warnings.simplefilter("ignore")
    logging.root.addHandler(logging.NullHandler())
    logging.root.setLevel(1)
    gc.disable()
    state.put_back()
    assert (os.getcwd(), dict(os.environ), os.umask(before)) == (folder, environment, before)
    assert (sys.stdout, sys.stderr) == streams
    assert (sys.argv, sys.path, warnings.filters) == (argv, path, filters)
    assert drawn == [torch.initial_seed(), random.getstate(), np.random.get_state()[1].tolist()]
    assert (signal.getsignal(signal.SIGTERM), threading.excepthook) == (handler, hook)
    assert (logging.root.handlers, logging.root.level) == (handlers, level)
    assert torch.get_num_threads() == threads and torch.is_grad_enabled() and gc.isenabled()
    assert torch.get_default_dtype() is torch.float32 and torch.zeros(1).device.type == "cpu"
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.are_deterministic_algorithms_enabled() and not torch.is_anomaly_enabled()
    assert not torch.is_autocast_enabled("cpu") and not torch.backends.cudnn.benchmark
    assert np.geterr()["divide"] == "warn" and torch.backends.cuda.flash_sdp_enabled()
    assert not ImageFile.LOAD_TRUNCATED_IMAGES and pixels == Image.MAX_IMAGE_PIXELS
    assert sys.getrecursionlimit() == depth
    assert state.left_over() == ""


def test_keys_of_cached_features_stay_and_so_does_how_float32_is_multiplied(note_state):
    state = note_state()
    before = keys._float32_arithmetic(), torch.get_float32_matmul_precision()
    state.put_back()
    assert (keys._float32_arithmetic(), torch.get_float32_matmul_precision()) == before
    torch.set_float32_matmul_precision("medium")
    state.put_back()
    assert (keys._float32_arithmetic(), torch.get_float32_matmul_precision()) == before
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "tf32"
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        state.put_back()
        assert (keys._float32_arithmetic(), torch.get_float32_matmul_precision()) == before


def test_a_warning_is_told_again_in_the_next_job(note_state):
    state = note_state()

    def told() -> int:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("default")
            warnings.warn_explicit("odd", UserWarning, "job.py", 1, registry=registry)
        return len(found)

    registry: dict = {}
    assert told() == 1
    state.put_back()
    assert told() == 1


def test_the_most_memory_in_use_is_that_of_a_job_alone(note_state):
    state = note_state()
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux forgets a peak")
    large = mmap.mmap(-1, 2**27)  # pages of its own: malloc may keep what it is given back
    large.write(b"1" * 2**27)
    before = process_state.process_now()
    large.close()
    state.put_back()
    assert process_peak() < before - 2**26


def test_what_only_the_end_of_a_process_takes_away_is_told(note_state, monkeypatch):
    state = note_state()
    assert state.left_over() == ""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="a thread of a job", daemon=True)
    thread.start()
    assert state.left_over() == "threads (a thread of a job)"
    stop.set()
    thread.join()
    assert state.left_over() == ""
    child = multiprocessing.get_context("spawn").Process(target=stop.wait)
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [child])
    assert state.left_over() == "processes"
    monkeypatch.undo()
    state.put_back()  # the first one notes how much is in use
    now = process_state.process_now()
    monkeypatch.setattr(process_state, "process_now", lambda: now + MOST_GROWTH // 2)
    assert state.left_over() == ""
    monkeypatch.setattr(process_state, "process_now", lambda: now + 2 * MOST_GROWTH)
    assert state.left_over() == "memory"


def test_what_a_module_registers_for_the_end_stays_and_what_a_job_does_is_told(
    note_state, tmp_path, monkeypatch
):
    state = note_state()
    module = compile("import atexit\natexit.register(print)", "module", "exec")
    exec(module, {})
    assert state.left_over() == ""
    ends_workers = compile("def start(): atexit.register(print)", "module", "exec")
    torchs = {"atexit": atexit, "__name__": "torch.utils.data.dataloader"}
    exec(ends_workers, torchs)
    torchs["start"]()  # as a loader with workers that stay and memory that is pinned
    assert state.left_over() == ""
    # and so does what its code asks for while it is loaded
    source = "import atexit\ndef ask():\n    atexit.register(print)\nask()\n"
    (tmp_path / "asks_at_once.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    asks = importlib.import_module("asks_at_once")
    assert state.left_over() == ""
    asks.ask()
    assert state.left_over() == "calls at the end of the process"
    atexit.unregister(print)
    assert state.left_over() == ""


def test_tasks_of_any_length_reach_a_worker_and_codes_come_back():
    ours, theirs = socket.socketpair()
    task = worker.Task(["--output=" + "\xe4" * 300_000, "", "-- \n"], "log", "failed", "claim", [])
    with ours, theirs:
        sender = threading.Thread(target=task.send, args=(ours,))
        sender.start()
        assert worker.Task.receive(theirs) == task
        sender.join()
        theirs.sendall(worker.CODE.pack(3))
        assert worker.answer(ours) == 3
        theirs.close()
        assert worker.answer(ours) is None
        assert worker.Task.receive(ours) is None


@pytest.fixture
def do(tmp_path):
    """Do a job in this process' place, with its claim; the code, and what is left of the claims."""

    def call(job, number: int = 1) -> tuple[int, list[str]]:
        names = ["log", "failed.log", "job"]
        task = worker.Task([], *(str(tmp_path / name) for name in names), [])
        claim = take(tmp_path / "job")
        assert claim is not None and claim.number == number
        kept = [os.dup(1), os.dup(2)]
        try:
            code = worker._do(task, claim, job)
        finally:
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
        return code, sorted(path.name for path in tmp_path.iterdir())

    return call


def test_claims_go_when_a_job_is_done_and_tell_of_tries_before(do, tmp_path, capfd):
    assert do(lambda: sys.exit(1)) == (1, ["failed.log", "job.claim-1"])
    assert history(tmp_path / "job").failures == 1
    interrupted = lambda: signal.raise_signal(signal.SIGINT)  # noqa: E731
    left = ["failed.log", "job.claim-1", "job.claim-2", "log"]
    assert do(interrupted, 2) == (130, left)
    assert history(tmp_path / "job").failures == 1  # an interrupt is none
    assert do(lambda: os.write(1, b"said\n"), 3) == (0, ["log"])
    assert (tmp_path / "log").read_text() == "said\n"


def test_a_job_that_was_taken_over_is_left_as_it_is(do, tmp_path, capfd):
    def job() -> None:
        stop_heart(tmp_path / "job.claim-1")
        assert take(tmp_path / "job").number == 2
        write_json({}, tmp_path / "result.json")

    code, left = do(job)
    assert code == worker.TAKEN and left == ["job.claim-1", "job.claim-2", "log"]
    assert "another process has taken this job over" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("call", "code", "told"),
    [
        (lambda: None, 0, ""),
        (lambda: sys.exit(), 0, ""),
        (lambda: sys.exit(2), 2, "Kind of failure: refused\n"),
        (lambda: sys.exit("no"), 1, "no\n"),
        (lambda: [][0], 1, "IndexError"),
        (lambda: signal.raise_signal(signal.SIGINT), 130, "the same command continues"),
    ],
)
def test_a_job_ends_with_the_code_of_a_program(call, code, told, capsys):
    assert worker.exit_code(call) == code
    shown = capsys.readouterr().err
    assert told in shown if told else not shown
