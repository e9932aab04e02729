"""CUDA graphs on a CPU: torch's operations are recorded, and done again on the same tensors.

As on a GPU, Python does not run again: what it decided, and every tensor it made, stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.graphs import same_bits

RESERVES = ("aten::empty", "aten::new_empty")
WARM_UP = 3
METHODS = ("CoCoOp", "CoOp", "KgCoOp", "MoPD", "ProGrad", "SiPD")
TAKEN = "Training steps are replayed as a CUDA graph"
REFUSED = "Note: training steps are launched one by one, not as a CUDA graph: "


class Recorder(TorchDispatchMode):
    """Keeps the operations that are called while it is active, and all their tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[torch.Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, returns = func._schema.name, func._schema.returns
        if name == "aten::_local_scalar_dense":
            raise RuntimeError("operation not permitted when stream is capturing\n(a trace)")
        out = func(*args, **(kwargs or {}))
        views = any(r.alias_info and not r.alias_info.is_write for r in returns)
        if not views and not name.startswith(RESERVES):
            # what an operation writes to needs no copy
            written = any(r.alias_info for r in returns)
            found = [] if written else [t for t in tree_leaves(out) if torch.is_tensor(t)]
            self.calls.append((func, args, kwargs or {}, found))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        """Do all again."""
        for func, args, kwargs, found in self.calls:
            again = [t for t in tree_leaves(func(*args, **kwargs)) if torch.is_tensor(t)]
            for kept, fresh in zip(found, again, strict=False):
                kept.detach().copy_(fresh)


class Graphs:
    """In the place of `trainers.graphs.capture`; counts what is done.

    Attributes:
        captures, replays: how often.
        wrong: added to the first result of each replay.
        error: raised in the midst of a capture, if set.
    """

    def __init__(self) -> None:
        self.captures = self.replays = 0
        self.wrong = 0.0
        self.error: Exception | None = None

    def __call__(self, step: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        for _ in range(WARM_UP):
            step()
        with Recorder() as recorder:
            outputs = step()
            if self.error is not None:
                raise self.error
        self.captures += 1

        def replay() -> None:
            self.replays += 1
            recorder.replay()
            outputs[0].add_(self.wrong)

        return outputs, replay


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints hold the same, tensors to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return same_bits(a, b)
    return bool(a == b) if not hasattr(a, "shape") else bool((a == b).all())
