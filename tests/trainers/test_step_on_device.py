"""What a step takes from the host and brings to it: nothing, with engines that can wait for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import normalize
from torch.utils._pytree import tree_leaves

from benchmarks.kernels import Counting, Kernels
from benchmarks.reference import SIZES, plain_clip
from benchmarks.training_step import bare_trainer
from dassl.engine import TrainerX
from tests.trainers.cpu_graphs import METHODS, same
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision


def test_an_engine_that_reads_each_step_gets_checked_numbers(frozen_clip, monkeypatch):
    """Upstream's: it does not know `holds_back`, and checks nothing."""
    monkeypatch.delattr(TrainerX, "holds_back")
    trainer = bare_trainer("MoPD", frozen_clip, ["cat", "blue dog", "fox"])
    trainer.cfg.defrost()
    del trainer.cfg.TRAIN["CUDA_GRAPH"]
    features = normalize(torch.randn(4, trainer.clip.embed_dim), dim=-1)
    batch = {"feature": features, "label": torch.tensor([0, 1, 2, 0])}
    terms = trainer.forward_backward(batch)
    assert all(type(value) is float for value in terms.values())
    before = {name: value.clone() for name, value in trainer.prompt_learner.state_dict().items()}
    with pytest.raises(FloatingPointError, match=r"Loss terms: loss nan, ce nan, mpd nan, mps nan"):
        trainer.forward_backward(batch | {"feature": batch["feature"] * torch.nan})
    assert same(dict(trainer.prompt_learner.state_dict()), before)


@pytest.mark.parametrize("method", METHODS)
def test_the_host_waits_for_nothing_in_a_step(method, held_back):
    with FakeTensorMode():  # a number of such a tensor cannot be read
        found = Counting("small", images=4).count("ours", method, ["cat", "blue dog", "fox"])
    assert found.transfers == 0


class Crossings(Kernels):
    """Keeps what takes tensors of several devices, too: a captured step has none but its own."""

    def __init__(self) -> None:
        super().__init__()
        self.crossed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        tensors = filter(torch.is_tensor, tree_leaves((args, kwargs, out)))
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.crossed.append(func._schema.name)
        return out


def moved(module: nn.Module, device: Any) -> nn.Module:
    """`module.to(device)` for tensors without content, which torch cannot move."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(parameter.detach().to(device)))
        for name, buffer in part.named_buffers(recurse=False):
            part.register_buffer(name, buffer.to(device), persistent=False)
    return module


def crossings(method: str, monkeypatch: Any, *pairs: str) -> list[str]:
    """What a step's loss terms take from the host, on a GPU that is not there."""
    monkeypatch.setattr(nn.Module, "to", moved)
    with FakeTensorMode():
        with torch.device("cuda"):
            clip = FrozenCLIP(plain_clip(**SIZES["small"]), resolve_precision("fp32", "cuda"))
        trainer = bare_trainer(method, clip, ["cat", "blue dog"], *pairs)
        features = normalize(torch.randn(4, clip.embed_dim, device="cuda"), dim=-1)
        label = torch.zeros(4, dtype=torch.long, device="cuda")
        if hasattr(trainer, "pool"):
            shape = (len(trainer.pool), 2, clip.embed_dim)
            trainer.teachers = normalize(torch.randn(shape, device="cuda"), dim=-1)
        trainer.losses(features, label)  # what is made once in a job
        with Crossings() as found:
            trainer.losses(features, label)
    assert found.total > 40 and found.transfers == 0
    return found.crossed


@pytest.mark.parametrize("method", METHODS)
def test_a_step_takes_nothing_from_the_host(method, monkeypatch):
    """Without a GPU torch has no backward pass there: this is the forward one."""
    assert crossings(method, monkeypatch) == []


def test_what_a_gate_draws_comes_from_the_host(monkeypatch):
    noise = ("TRAINER.MOPD.GATE_NOISE", "0.5")
    assert crossings("MoPD", monkeypatch, *noise) == ["aten::_to_copy"]
