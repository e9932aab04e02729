"""Training steps as CUDA graphs (`TRAIN.CUDA_GRAPH`): launched once, replayed with other numbers.

What comes after the image tower and before the optimiser, `steps.compute`, has the same shapes in
every step: its kernels are captured and replayed as one launch. The first steps are computed as
always, and replayed with the same numbers: they must give the same bits.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from trainers.backbones.text_tower import TOKENS_PER_PASS
from trainers.errors import MethodError
from trainers.prompts.learner import PromptLearner
from trainers.steps import Terms, compute

MODES = ("auto", "on", "off")
WARM_UP = 3  # steps before a capture: libraries reserve memory and choose kernels
CHECKS = 3  # steps that are compared: a Python number that changes between them shows
Outputs = list[Tensor | None]


@dataclass(frozen=True)
class Static:
    """What a method says of its step, so that it may be captured.

    Attributes:
        key: what the step depends on beside features, labels, what is learned and the tallies: it
            is captured anew when this changes.
        tallies: tensors that are there before the first step and that each step adds to, in place.
        unless: why it cannot be captured, in words.
    """

    key: Hashable = None
    tallies: tuple[Tensor, ...] = ()
    unless: str = ""


def has_graphs(device: torch.device) -> bool:
    """Whether steps can be captured there."""
    return device.type == "cuda"


def mode_of(cfg: CfgNode, device: torch.device) -> str:
    """One of `MODES`, of which a device without graphs knows "off" alone.

    Raises:
        MethodError: "on" for such a device.
    """
    mode = cfg.TRAIN.get("CUDA_GRAPH", "off")  # upstream Dassl has no such key
    if mode == "on" and not has_graphs(device):
        raise MethodError(
            f"TRAIN.CUDA_GRAPH is on, but this run is on the {device.type.upper()}, which has no "
            "CUDA graphs: set TRAIN.CUDA_GRAPH auto or off"
        )
    return mode if has_graphs(device) else "off"


@cache
def side_stream(device: int) -> torch.cuda.Stream:
    """Where steps are captured: one, as cuBLAS keeps memory for each stream that it has seen."""
    return torch.cuda.Stream(device)


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let what the host would have to wait for raise RuntimeError: a captured stream cannot stop.

    Within a capture it would raise as well, but leave an invalid one behind.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode does not see all
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def kept_generator(device: int) -> Iterator[None]:
    """Give random numbers back to the device where a capture fails: torch keeps them for it."""
    generator = torch.cuda.default_generators[device]
    before = generator.clone_state()
    try:
        yield
    except BaseException:
        generator.graphsafe_set_state(before)
        raise


def capture(step: Callable[[], Outputs]) -> tuple[Outputs, Callable[[], None]]:
    """What `step` returns, as tensors that stay where they are, and what computes them anew.

    Raises:
        RuntimeError: something in the step cannot be captured.
    """
    device = torch.cuda.current_device()
    side, graph = side_stream(device), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    gc.collect()  # nothing that is dead may be freed in the midst of it
    try:
        # left again even where the end of a capture fails
        with torch.cuda.stream(side), kept_generator(device):
            for _ in range(WARM_UP - 1):
                step()
            with no_waiting():
                step()
            # threads of loaders may go on
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                outputs = step()
    finally:
        torch.cuda.current_stream().wait_stream(side)
    return outputs, graph.replay


class Captured:
    """A captured step.

    Attributes:
        shapes: of features and labels.
        key: see `Static`.
    """

    def __init__(self, trainer: Any, features: Tensor, label: Tensor):
        self.trainer, self.key = trainer, trainer.static_step().key
        self.learned = list(trainer.prompt_learner.parameters())
        self.features, self.label = features.clone(), label.clone()
        self.shapes = shapes_of(features, label)
        self.names: tuple[str, ...] = ()
        self.outputs, self.replay = capture(self._step)

    def _step(self) -> Outputs:
        terms = compute(self.trainer, self.features, self.label)
        self.names = terms.names
        return [terms.values, *(parameter.grad for parameter in self.learned)]

    def __call__(self, features: Tensor, label: Tensor) -> Terms:
        """As `steps.compute`."""
        self.features.copy_(features)
        self.label.copy_(label)
        self.replay()
        values, *gradients = self.outputs
        assert values is not None
        set_gradients(self.learned, gradients)
        return Terms(self.names, values.clone())  # the next step writes over them


class StepGraph:
    """`steps.compute` of a trainer, captured where it can be; what stands against it is said once.

    Attributes:
        mode: one of `MODES`; "off" from when something stood against it.

    Args:
        trainer: a `PromptTrainer` whose model is built.
    """

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.mode = mode_of(trainer.cfg, trainer.device)
        self._captured: Captured | None = None
        self._checks = 0  # steps of the captured one that were compared
        self._differ = 0  # most results of one of them that had other bits
        self._last: Hashable = None  # shapes of the step before
        self._told = False

    def __call__(self, features: Tensor, label: Tensor) -> Terms:
        """As `steps.compute`."""
        if self.mode == "off" or not self._fits(features, label):
            return compute(self.trainer, features, label)
        if self._captured is None or self._checks < CHECKS:
            return self._checked(features, label)
        return self._captured(features, label)

    def _fits(self, features: Tensor, label: Tensor) -> bool:
        """Whether such a step is captured, or is to be: at once, or if other shapes come twice."""
        captured, shapes = self._captured, shapes_of(features, label)
        again, self._last = shapes == self._last, shapes
        same_key = captured and captured.key == self.trainer.static_step().key
        if captured and same_key and (captured.shapes == shapes or not again):
            return captured.shapes == shapes
        self.release()
        if obstacle := obstacle_of(self.trainer, len(label)):
            self.give_up(obstacle)
        return not obstacle

    def release(self) -> None:
        """Give the memory of a captured step back."""
        if self._captured is not None:
            set_gradients(self._captured.learned, [None] * len(self._captured.learned))
        self._captured, self._checks, self._differ = None, 0, 0

    def _checked(self, features: Tensor, label: Tensor) -> Terms:
        """A step as always, which is then replayed, captured if it is not yet, and compared."""
        trainer = self.trainer
        tallies = trainer.static_step().tallies
        learned = list(trainer.prompt_learner.parameters())
        before = [tally.clone() for tally in tallies]
        terms = compute(trainer, features, label)
        gradients = [copy_of(parameter.grad) for parameter in learned]
        after = [tally.clone() for tally in tallies]
        try:
            self._captured = self._captured or Captured(trainer, features, label)
            restore(tallies, before)
            replayed = self._captured(features, label)
        except RuntimeError as error:
            self.give_up(first_line(error))
        else:
            expected = [terms.values, *gradients, *after]
            self._compare(expected, [replayed.values, *self._captured.outputs[1:], *tallies])
        restore(tallies, after)
        set_gradients(learned, gradients)
        return terms

    def _compare(self, expected: Outputs, found: Outputs) -> None:
        """Keep the captured step if it gives the same bits, or if it is to be taken anyway."""
        differ = sum(not same_bits(*pair) for pair in zip(expected, found, strict=True))
        self._checks, self._differ = self._checks + 1, max(self._differ, differ)
        other_bits = f"{self._differ} of {len(found)} results have other bits"
        if differ and self.mode == "auto":
            self.give_up(f"replayed, {other_bits}")
            return
        if self._checks == CHECKS and (self._differ or not self._told):
            but = f", though {other_bits}" if self._differ else ""
            print(f"Training steps are replayed as a CUDA graph{but}")
            self._told = True

    def give_up(self, why: str) -> None:
        """Compute all steps as always from now on, and say why unless it was so before."""
        if self.mode != "off":
            print(f"Note: training steps are launched one by one, not as a CUDA graph: {why}")
        self.mode = "off"
        self.release()


def obstacle_of(trainer: Any, B: int) -> str:
    """Why steps of B images cannot be captured, in words; empty where they may be."""
    kind, learner = type(trainer), trainer.prompt_learner
    # what its parent says need not hold for a class that changes something
    if "static_step" not in vars(kind):
        return f"the class {kind.__name__} does not say `static_step` (docs/own_method.md)"
    if unless := trainer.static_step().unless:
        return unless
    if trainer.clip.compiled is not None:  # its own graphs free memory of cuBLAS that ours use
        return "the image tower is compiled"
    if trainer.images_per_pass(B) < B:
        return f"a batch of {B} images is computed in parts, to save memory"
    tokens = 0
    if isinstance(learner, PromptLearner):
        tokens = 1 + learner.shared + sum(learner.layout.lengths)
    return "prompts are computed in parts, to save memory" if tokens > TOKENS_PER_PASS else ""


def shapes_of(features: Tensor, label: Tensor) -> tuple[Hashable, ...]:
    """What a captured step cannot change of its inputs."""
    return features.shape, features.dtype, label.shape, label.dtype


def restore(tensors: tuple[Tensor, ...], values: list[Tensor]) -> None:
    """Write values into tensors."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def set_gradients(parameters: list[Any], gradients: Outputs) -> None:
    """Set the gradient of each parameter."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def copy_of(tensor: Tensor | None) -> Tensor | None:
    """A copy, if there is something."""
    return None if tensor is None else tensor.clone()


def same_bits(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether two tensors are equal, NaNs included, or both missing."""
    if a is None or b is None:
        return a is b
    bits = [tensor.detach().reshape(-1).view(torch.uint8) for tensor in (a, b)]
    return (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(*bits)


def first_line(error: BaseException) -> str:
    """The first line of the error that came first: others follow from it as a capture ends."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return f"{error}".strip().partition("\n")[0] or type(error).__name__
