"""Batches that are copied to a GPU while it computes the ones before."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

DEPTH = 3  # batches on the GPU: one that it computes, and those that wait for their turn


def on_device(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Yield batches with their tensors on the device.

    On a GPU the copies have a stream of their own, and the host waits for neither copies nor
    kernels: while the GPU computes a batch, the host already asks for the next one. It waits once
    it is `DEPTH` batches ahead. A batch is asked for when it is needed and never before, so that
    random numbers are drawn in the order that they always are.

    Args:
        batches: dicts with tensors among their values, best in pinned memory; others pass as
            they are. On a CPU all do.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)
    used: deque[torch.cuda.Event] = deque()  # each recorded after all work on a batch
    for batch in batches:
        if len(used) == DEPTH:
            used.popleft().synchronize()
        yield _copied(batch, stream)
        # blocking: a host that waits leaves its core to those who decode images
        event = torch.cuda.Event(blocking=True)
        used.append(torch.cuda.current_stream(device).record_event(event))


def _copied(batch: Any, stream: torch.cuda.Stream) -> Any:
    """Copy the tensors of a batch in a stream; what is computed next waits for them."""
    if not isinstance(batch, Mapping):
        return batch
    with torch.cuda.stream(stream):
        moved = {
            name: value.to(stream.device, non_blocking=True)
            for name, value in batch.items()
            if isinstance(value, torch.Tensor) and value.device.type == "cpu"
        }
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for value in moved.values():
        value.record_stream(current)  # its memory is not given away before that stream is done
    return {**batch, **moved}


class OnDevice:
    """A loader whose batches come through `on_device`; other attributes are the loader's."""

    def __init__(self, loader: Any, device: torch.device) -> None:
        self.loader = loader
        self.device = device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        return on_device(self.loader, self.device)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # while an object is copied it has none
            raise AttributeError(name)
        return getattr(self.loader, name)
