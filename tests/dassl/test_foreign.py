"""Checkpoints that other software pickled: weights are read, nothing in the file is run."""

from __future__ import annotations

import contextlib
import pickle
import tarfile
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dassl.utils import CheckpointError, load_checkpoint, load_pretrained_weights
from dassl.utils.checkpoint import load_training_checkpoint, resume_from_checkpoint
from dassl.utils.foreign import Refused, read_weights
from tests.hostile_archives import Writer, script, two_directories, writes


class Warmup(torch.optim.lr_scheduler.LRScheduler):
    """Stands for upstream's scheduler class, which is not installed where the file is read."""

    __module__ = "dassl.optim.lr_scheduler_of_upstream"

    def __init__(self, optimizer, successor):
        self.successor = successor
        super().__init__(optimizer)

    def get_lr(self):
        return [1e-5]


def upstream_checkpoint(state: dict[str, torch.Tensor], epoch: int = 50) -> dict:
    """What upstream Dassl saves: scheduler and optimiser as objects, a numpy result."""
    parameter = nn.Parameter(torch.ones(4, 8))
    optimizer = torch.optim.SGD([parameter], lr=0.002, momentum=0.9)
    parameter.grad = torch.ones(4, 8)
    optimizer.step()  # momentum buffers, in a defaultdict
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    scheduler = Warmup(optimizer, successor).state_dict()
    assert isinstance(scheduler["successor"], torch.optim.lr_scheduler.CosineAnnealingLR)
    return {
        "state_dict": OrderedDict(state),
        "epoch": epoch,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler,
        "val_result": np.float64(81.25),
    }


@pytest.fixture(params=["zip", "before torch 1.6"])
def save(request, tmp_path):
    """Save a checkpoint in a file format of torch; returns the path."""

    def write(content) -> Path:
        path = tmp_path / "model.pth.tar-50"
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return write


def test_weights_and_epoch_are_read_and_objects_are_left_out(save, capsys):
    ctx = torch.randn(4, 8).half()
    view = torch.arange(24.0).reshape(4, 6).T  # strides and a shared storage
    path = save(upstream_checkpoint({"ctx": ctx, "view": view, "same": view}))
    found = load_checkpoint(path)
    assert set(found) == {"state_dict", "epoch", "foreign"} and found["foreign"] is True
    assert found["epoch"] == 50
    assert torch.equal(found["state_dict"]["ctx"], ctx) and ctx.dtype is torch.float16
    assert torch.equal(found["state_dict"]["view"], view)
    assert not any(value.requires_grad for value in found["state_dict"].values())
    assert "only its weights and its epoch are read" in capsys.readouterr().out


def test_parameters_are_read_as_tensors(save):
    path = save(upstream_checkpoint({"weight": nn.Parameter(torch.ones(3))}))
    weight = load_checkpoint(path)["state_dict"]["weight"]
    assert torch.equal(weight, torch.ones(3)) and not isinstance(weight, nn.Parameter)


def test_an_object_of_a_class_that_is_not_installed_is_left_out(save):
    warmup = upstream_checkpoint({"ctx": torch.ones(2)})
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    with pytest.MonkeyPatch.context() as patch:
        import sys
        import types

        module = types.ModuleType(Warmup.__module__)
        module.Warmup = Warmup
        patch.setitem(sys.modules, Warmup.__module__, module)
        path = save(warmup | {"scheduler": Warmup(optimizer, successor)})
    assert torch.equal(load_checkpoint(path)["state_dict"]["ctx"], torch.ones(2))


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (exec, "builtins.exec"),
        (eval, "builtins.eval"),
        (getattr, "builtins.getattr"),
        (torch.load, "torch.serialization.load"),
        (torch.storage._load_from_bytes, "torch.storage._load_from_bytes"),
        (pickle.loads, "pickle.loads"),
    ],
)
def test_a_file_that_calls_anything_is_refused_by_name_and_not_run(save, tmp_path, function, name):
    mark = tmp_path / "run"
    code = f"open({str(mark)!r}, 'w').close()"
    for content in (
        upstream_checkpoint({"ctx": torch.ones(2)}) | {"extra": Call(function, code)},
        upstream_checkpoint({"ctx": Call(function, code)}),
        {"state_dict": {"ctx": Call(function, code)}, "epoch": 1},
    ):
        path = save(content)
        with pytest.raises(CheckpointError, match=f"names {name}, which neither"):
            load_checkpoint(path)
        assert not mark.exists()


def test_a_shell_never_calls_what_its_name_means_here(save, tmp_path):
    mark = tmp_path / "run"

    def writes(*arguments):
        mark.touch()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writes, "__module__", "torch.optim.lr_scheduler")
        patch.setattr(writes, "__qualname__", "writes")
        patch.setattr(torch.optim.lr_scheduler, "writes", writes, raising=False)
        path = save(upstream_checkpoint({"ctx": torch.ones(2)}) | {"extra": Call(writes, 1)})
        assert load_checkpoint(path)["epoch"] == 50
    assert not mark.exists()


def test_names_of_torch_stay_as_they_are(save):
    """A pickle can set attributes of the functions that it names."""
    path = save({"state_dict": {}, "epoch": 1, "scheduler": upstream_checkpoint({})["scheduler"]})
    # name the function, then BUILD with the state (None, {"__defaults__": (1,)})
    attack = b"ctorch._utils\n_rebuild_tensor_v2\n(N}X\x0c\x00\x00\x00__defaults__K\x01\x85stb."
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in parts.items():
                pickled = name.endswith("data.pkl")
                archive.writestr(name, b"\x80\x02" + attack if pickled else content)
    else:
        path.write_bytes(attack)
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    with contextlib.suppress(Exception):
        read_weights(path)
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


def test_a_scheduler_with_a_counter_and_other_plain_objects_is_left_out(save):
    extra = {"a": Counter("ab"), "b": torch.float16, "c": bytearray(b"x"), "d": slice(1)}
    path = save(upstream_checkpoint({"ctx": torch.ones(2)}) | extra)
    assert torch.equal(load_checkpoint(path)["state_dict"]["ctx"], torch.ones(2))


@pytest.mark.parametrize("epoch", [True, -3, np.int64(5), "5"])
def test_an_epoch_that_is_no_number_of_epochs_is_not_taken_over(save, epoch):
    assert load_checkpoint(save(upstream_checkpoint({}, epoch)))["epoch"] == 0


def test_whole_files_of_other_kinds_are_told_apart_from_damaged_ones(tmp_path, monkeypatch):
    script = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), script)
    tar = tmp_path / "old.pt"
    with tarfile.open(tar, "w") as archive:
        archive.add(script, "storages")
    for path, message in ((script, "is a TorchScript archive"), (tar, "is in the tar format")):
        for load in (load_checkpoint, read_weights):
            with pytest.raises((CheckpointError, Refused), match=message) as error:
                load(path)
            assert "damaged" not in str(error.value)
    good = tmp_path / "good.pt"
    torch.save(upstream_checkpoint({"ctx": torch.ones(2)}), good)
    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(CheckpointError, match="unset this variable"):
        load_checkpoint(good)


@pytest.mark.parametrize("directories", [1, 2])
def test_a_torchscript_archive_is_refused_and_writes_no_file(tmp_path, monkeypatch, directories):
    mark = tmp_path / "written"
    archive = script(Writer(str(mark)))
    if directories == 2:
        archive = two_directories(archive)
    assert writes(mark, archive)  # the attack is a real one
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("has run the archive"))
    path = tmp_path / "model.pth.tar-50"
    path.write_bytes(archive)
    (tmp_path / "checkpoint").write_text(f"{path.name}\n")
    for load in (
        lambda: load_checkpoint(path),
        lambda: read_weights(path),
        lambda: load_training_checkpoint(str(path), resume=False),
        lambda: load_pretrained_weights(nn.Linear(2, 2), str(path)),
        lambda: resume_from_checkpoint(str(tmp_path), nn.Linear(2, 2)),
    ):
        with pytest.raises((CheckpointError, Refused), match="is a TorchScript archive"):
            load()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint", path.name]
    assert path.read_bytes() == archive


@pytest.mark.parametrize("content", [[1], {"epoch": 3}, {"state_dict": [1]}])
def test_a_file_without_weights_is_refused(save, content):
    scheduler = upstream_checkpoint({})["scheduler"]
    path = save([content, scheduler] if isinstance(content, list) else content | scheduler)
    with pytest.raises(CheckpointError, match="objects and no weights: it has no state_dict"):
        load_checkpoint(path)


def test_a_cut_off_file_is_refused(save):
    path = save(upstream_checkpoint({"ctx": torch.ones(2000)}))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_checkpoint(path)


def test_its_weights_can_start_a_model_but_training_does_not_resume(save, tmp_path):
    model = nn.Linear(3, 2)
    state = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    path = save(upstream_checkpoint(state))
    load_pretrained_weights(model, str(path))
    assert torch.equal(model.weight, torch.ones(2, 3))
    (tmp_path / "checkpoint").write_text(f"{path.name}\n")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="cannot resume from it"):
        resume_from_checkpoint(str(tmp_path), model)
    assert path.read_bytes() == before
    assert load_training_checkpoint(str(path), resume=False)["epoch"] == 50
