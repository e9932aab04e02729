"""Batches that are copied ahead; where there is no GPU, its streams and events are acted."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch.utils.data import DataLoader

from trainers.features.ahead import DEPTH, OnDevice, on_device

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def batches(log: list, count: int = 6):
    for i in range(count):
        log.append(f"ask {i}")
        yield {"img": torch.full((2, 3), i), "label": torch.tensor([i, i]), "impath": ["a", "b"]}


@pytest.fixture
def acted(monkeypatch) -> list:
    """A log of what is asked of a GPU; copies go to the device `meta`."""
    log: list = []

    class Stream:
        device = torch.device("meta")

        def __init__(self, device: torch.device | None = None):
            self.side = device is not None

        def wait_stream(self, other):
            assert not self.side and other.side
            log.append("wait for the copy")

        def record_event(self, event):
            event.number = sum(str(line).startswith("record") for line in log)
            log.append(f"record {event.number}")
            return event

    class Event:
        def __init__(self, blocking: bool):
            assert blocking

        def synchronize(self):
            log.append(f"host waits {self.number}")

    current = Stream()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    held = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: held.append(stream))
    log.append(held)
    return log


def test_a_cpu_gets_the_batches_themselves():
    log: list = []
    found = list(on_device([first := {"img": torch.ones(2)}, "other"], CPU))
    assert found[0] is first and found[1] == "other"
    assert len(list(on_device(batches(log), CPU))) == 6 and len(log) == 6


def test_a_gpu_gets_copies_and_a_batch_is_asked_for_when_it_is_needed(acted):
    held = acted.pop()
    for i, batch in enumerate(on_device(batches(acted), CUDA)):
        assert batch["img"].device.type == batch["label"].device.type == "meta"
        assert batch["img"].shape == (2, 3) and batch["impath"] == ["a", "b"]
        assert len(held) == 2 * (i + 1) and not any(stream.side for stream in held)
        assert sum(line.startswith("ask") for line in acted) == i + 1
        acted.append(f"compute {i}")
    one = [f"ask {DEPTH}", "host waits 0", "wait for the copy", f"compute {DEPTH}", "record 3"]
    at = acted.index(one[0])
    assert acted[at : at + 5] == one  # of a later batch
    assert [line for line in acted if "host" in line] == ["host waits 0", "host waits 1",
                                                          "host waits 2"]  # fmt: skip


def test_what_holds_no_tensors_passes(acted):
    assert list(on_device(["text"], CUDA)) == ["text"]


def test_a_loader_on_a_device_is_still_that_loader():
    inner = DataLoader([{"img": torch.ones(3)}] * 5, batch_size=2)
    loader = OnDevice(inner, CPU)
    assert len(loader) == 3 and loader.batch_size == 2 and loader.dataset is inner.dataset
    assert [len(batch["img"]) for batch in loader] == [2, 2, 1]
    assert copy.copy(loader).loader is inner
