"""MODEL.COMPILE: the image tower through torch.compile, in batches of few sizes."""

from __future__ import annotations

import pytest
import torch
import yaml

import train
from benchmarks.reference import plain_clip
from trainers.backbones import compiled
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.compiled import CompiledTower
from trainers.backbones.precision import resolve_precision
from trainers.errors import MethodError

CPU = torch.device("cpu")


@pytest.fixture
def calls(monkeypatch):
    """Batch sizes that reach the tower; nothing is compiled, which takes long."""
    sizes = []

    def plain(tower, **options):
        return lambda images: sizes.append(len(images)) or tower(images)

    monkeypatch.setattr(compiled.torch, "compile", plain)
    return sizes


@pytest.mark.parametrize("layers", [1, (1, 1, 1, 1)])  # a ViT, a ResNet
def test_smaller_batches_are_filled_up_and_give_the_same_features(calls, layers):
    model = plain_clip(
        embed_dim=96, text_width=64, text_layers=1, resolution=32, patch=16, width=64, layers=layers
    )
    clip = FrozenCLIP(model, resolve_precision("fp32", "cpu"))
    images = torch.randn(6, 3, 32, 32)
    plain = clip.encode_image(images)
    clip.compile_image_tower()
    for B in (4, 4, 3, 6, 1, 5):
        features = clip.encode_image(images[:B])
        assert features.shape == (B, 96) and not features.requires_grad
        assert torch.allclose(features, plain[:B], atol=1e-6)
    assert calls == [4, 4, 4, 6, 4, 6]


def test_a_batch_of_another_size_is_compiled_once(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    real = torch.compile
    monkeypatch.setattr(
        compiled.torch,
        "compile",
        lambda tower, dynamic, mode: real(tower, dynamic=dynamic, backend=backend),
    )
    tower = CompiledTower(torch.nn.Linear(3, 2), CPU)
    with torch.no_grad():
        for _ in range(3):  # epochs of two whole batches and a rest
            for B in (8, 8, 5):
                assert tower(torch.ones(B, 3)).shape == (B, 2)
        assert len(graphs) == 1
        for B in (10, 10, 7):
            tower(torch.ones(B, 3))
    assert len(graphs) == 2


def test_a_machine_without_a_compiler_is_told_what_to_do(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", (None, "/nowhere/g++"))
    monkeypatch.setattr(config, "force_disable_caches", True)
    # a lone Linear is a library call, nothing to compile
    tower = CompiledTower(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU()), CPU)
    with torch.no_grad(), pytest.raises(MethodError) as error:
        tower(torch.ones(4, 3))
    message = str(error.value)
    assert message.startswith("MODEL.COMPILE is True, but the image tower cannot be compiled here")
    assert "/nowhere/g++" in message and message.endswith("or set MODEL.COMPILE False")


def test_a_python_without_torch_compile_is_told_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("torch.compile is not supported on Python 3.14+")

    monkeypatch.setattr(compiled.torch, "compile", refuse)
    tower = CompiledTower(torch.nn.Linear(3, 2), CPU)
    with pytest.raises(
        MethodError, match=r"compiled here \(torch.compile is not supported on Pyth"
    ):
        tower(torch.ones(4, 3))


def test_too_little_memory_is_no_matter_of_the_compiler(monkeypatch):
    def full(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(compiled.torch, "compile", lambda *_, **__: full)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        CompiledTower(torch.nn.Linear(3, 2), CPU)(torch.ones(4, 3))


@pytest.mark.parametrize(("device", "mode"), [("cuda", "reduce-overhead"), ("cpu", None)])
def test_cuda_graphs_are_for_gpus(monkeypatch, device, mode):
    asked = []
    monkeypatch.setattr(
        compiled.torch, "compile", lambda tower, **options: asked.append(options) or tower
    )
    CompiledTower(torch.nn.Linear(3, 2), torch.device(device))(torch.ones(4, 3))
    assert asked == [{"dynamic": False, "mode": mode}]


def test_a_mistake_that_is_not_the_compilers_keeps_its_own_words(calls):
    tower = CompiledTower(torch.nn.Linear(3, 2), CPU)
    with torch.no_grad():
        tower(torch.ones(4, 3))
        with pytest.raises(RuntimeError, match="shape") as error:
            tower(torch.ones(4, 5))
    assert not isinstance(error.value, MethodError)


def test_the_key_compiles_the_tower_of_a_run_and_is_said_only_then(job, tmp_path, calls):
    plain = train.main(job("ZeroshotCLIP", output=tmp_path / "plain"))
    assert calls == []
    fast = train.main(job("ZeroshotCLIP", "MODEL.COMPILE", "True", output=tmp_path / "fast"))
    assert len(calls) > 1 and len(set(calls)) == 1
    assert fast["correct"] == plain["correct"]
    said = [
        yaml.safe_load((tmp_path / run / "config.yaml").read_text()).get("MODEL.COMPILE")
        for run in ("plain", "fast")
    ]
    assert said == [None, True]
    assert plain["config_hash"] != fast["config_hash"]


def test_a_run_with_the_key_is_not_continued_without(job, tmp_path, calls, refused):
    train.main(job("ZeroshotCLIP", "MODEL.COMPILE", "True"))
    message = refused(job("ZeroshotCLIP"))
    assert "MODEL.COMPILE is True there, None here" in message
