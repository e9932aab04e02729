"""Which files are written, what they hold, and what a bad one says."""

import os
import random
import re
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from dassl.utils import (
    CheckpointError,
    MissingFileError,
    UserError,
    load_checkpoint,
    resume_from_checkpoint,
    save_checkpoint,
)
from dassl.utils.checkpoint import last_checkpoint, rng_state, set_rng_state, to_plain


def state(epoch=1, **more):
    return {"state_dict": {"w": torch.full((2,), float(epoch))}, "epoch": epoch, **more}


def save_epochs(folder, *epochs):
    for epoch in epochs:
        save_checkpoint(state(epoch), str(folder))


# ---- files


def test_files_pointer_and_printed_lines(tmp_path, capsys):
    save_checkpoint(state(3), str(tmp_path / "m"))
    save_checkpoint(state(5), str(tmp_path / "m"), is_best=True)
    folder = tmp_path / "m"
    names = ["checkpoint", "model-best.pth.tar", "model.pth.tar-3", "model.pth.tar-5"]
    assert sorted(os.listdir(folder)) == names
    assert (folder / "checkpoint").read_text() == "model.pth.tar-5\n"
    assert load_checkpoint(folder / "model-best.pth.tar")["epoch"] == 5
    assert capsys.readouterr().out == (
        f"Checkpoint saved to {folder}/model.pth.tar-3\n"
        f"Checkpoint saved to {folder}/model.pth.tar-5\n"
        f'Best checkpoint saved to "{folder}/model-best.pth.tar"\n'
    )


def test_the_best_model_never_moves_the_pointer(tmp_path):
    save_epochs(tmp_path, 1)
    save_checkpoint(state(2), str(tmp_path), model_name="model-best.pth.tar")
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-1\n"
    save_checkpoint(state(2), str(tmp_path), model_name="special")
    assert (tmp_path / "checkpoint").read_text() == "special\n"


def test_a_write_that_fails_keeps_the_old_checkpoint_and_pointer(tmp_path, monkeypatch):
    save_epochs(tmp_path, 1)
    before = (tmp_path / "model.pth.tar-1").read_bytes()

    def full_disk(obj, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    for epoch in (1, 2):
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(state(epoch), str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "model.pth.tar-1"]
    assert (tmp_path / "model.pth.tar-1").read_bytes() == before
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-1\n"


def test_parallel_prefix_is_removed(tmp_path):
    save_checkpoint({"state_dict": {"module.w": torch.ones(1)}, "epoch": 1}, str(tmp_path))
    assert list(load_checkpoint(tmp_path / "model.pth.tar-1")["state_dict"]) == ["w"]


# ---- content


def test_only_plain_values_are_stored():
    plain = to_plain(
        {
            "a": OrderedDict(b=(1, 2.5)),
            "c": Counter({3: 2}),
            "d": np.float64(1.5),
            "e": np.int64(4),
            "f": nn.Parameter(torch.ones(2)),
            "g": [None, True, "s"],
        }
    )
    assert plain["a"] == {"b": [1, 2.5]}
    assert plain["c"] == {3: 2}
    types = [type(plain[key]) for key in "acdef"]
    assert types == [dict, dict, float, int, torch.Tensor]
    assert plain["g"] == [None, True, "s"]
    with pytest.raises(TypeError, match=r"checkpoint\.x\[1\] is a SGD"):
        to_plain({"x": [1, torch.optim.SGD([torch.zeros(1)])]})


def test_a_view_does_not_drag_its_storage_into_the_file(tmp_path):
    big = torch.zeros(1000, 1000)
    save_checkpoint({"state_dict": {"w": big[:2, :3]}, "epoch": 1}, str(tmp_path))
    assert (tmp_path / "model.pth.tar-1").stat().st_size < 5000


def test_all_generators_are_restored():
    def draw():
        return random.random(), random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist()

    random.gauss(0, 1), np.random.randn()  # both keep a second value for later
    saved = rng_state()
    assert to_plain(saved).keys() == {"python", "numpy", "torch", "cuda"}
    first = draw()
    set_rng_state(saved)
    assert draw() == first


# ---- bad files


@pytest.mark.parametrize("damage", ["empty", "half", "one byte short", "one bit"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path, damage):
    save_epochs(tmp_path, 1, 2, 3)
    path = tmp_path / "model.pth.tar-3"
    data = path.read_bytes()
    flipped = bytearray(data)
    at = data.index(torch.full((2,), 3.0).numpy().tobytes())
    flipped[at] ^= 1
    path.write_bytes(
        {
            "empty": b"",
            "half": data[: len(data) // 2],
            "one byte short": data[:-1],
            "one bit": bytes(flipped),
        }[damage]
    )
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert str(error.value) == (
        f'Checkpoint "{path}" is truncated or damaged. '
        "Move it away, then resume from an earlier epoch (available: 1, 2)."
    )
    path.unlink()  # the advice works: the run goes on from the latest epoch left
    assert last_checkpoint(str(tmp_path)) == str(tmp_path / "model.pth.tar-2")


def test_a_single_damaged_file_says_that_no_other_is_there(tmp_path):
    path = tmp_path / "model.pth.tar-1"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="and get it again or train again: no other epoch"):
        load_checkpoint(path)


def test_weights_alone_are_no_checkpoint_to_resume_from(tmp_path):
    torch.save(nn.Linear(1, 1).state_dict(), tmp_path / "weights")
    (tmp_path / "checkpoint").write_text("weights\n")
    with pytest.raises(CheckpointError, match='lacks "state_dict" or "epoch"'):
        resume_from_checkpoint(str(tmp_path), nn.Linear(1, 1))


def test_no_path_and_no_file(tmp_path):
    with pytest.raises(ValueError, match="File path is None"):
        load_checkpoint(None)
    with pytest.raises(FileNotFoundError, match='File is not found at "') as error:
        load_checkpoint(tmp_path / "x")
    assert isinstance(error.value, UserError)


# ---- resume


def trained(model):
    optim = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return optim, torch.optim.lr_scheduler.StepLR(optim, 1)


def test_resume_restores_model_optimiser_and_schedule(tmp_path, capsys):
    model = nn.Linear(2, 2)
    optim, sched = trained(model)
    model(torch.ones(1, 2)).sum().backward()
    optim.step()
    sched.step()
    save_checkpoint(
        {
            "state_dict": model.state_dict(),
            "epoch": 7,
            "optimizer": optim.state_dict(),
            "scheduler": sched.state_dict(),
        },
        str(tmp_path),
    )
    capsys.readouterr()
    other = nn.Linear(2, 2)
    optim2, sched2 = trained(other)
    assert resume_from_checkpoint(str(tmp_path), other, optim2, sched2) == 7
    assert torch.equal(other.weight, model.weight)
    buffers = [o.state[o.param_groups[0]["params"][0]]["momentum_buffer"] for o in (optim, optim2)]
    assert torch.equal(*buffers)
    assert optim2.param_groups[0]["lr"] == pytest.approx(0.01)
    assert sched2.last_epoch == 1
    assert capsys.readouterr().out == (
        f'Loading checkpoint from "{tmp_path}/model.pth.tar-7"\n'
        "Loaded model weights\nLoaded optimizer\nLoaded scheduler\nPrevious epoch: 7\n"
    )


def test_shapes_and_keys_that_do_not_fit_are_all_named(tmp_path):
    weights = {"weight": torch.zeros(3, 2), "gate": torch.zeros(1)}
    save_checkpoint({"state_dict": weights, "epoch": 1}, str(tmp_path))
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    with pytest.raises(CheckpointError) as error:
        resume_from_checkpoint(str(tmp_path), model)
    assert (
        "does not fit the model: bias is missing; gate is not part of the model; "
        "weight has shape (3, 2), expected (2, 2). Use the configuration it was trained with"
    ) in str(error.value)
    assert torch.equal(model.weight, before)


def test_the_state_of_another_optimiser_is_refused(tmp_path):
    model = nn.Linear(2, 2)
    groups: list[dict] = [{"params": [model.weight]}, {"params": [model.bias]}]
    optim = torch.optim.SGD(groups, lr=0.1)
    content = {"state_dict": model.state_dict(), "epoch": 1, "optimizer": optim.state_dict()}
    save_checkpoint(content, str(tmp_path))
    with pytest.raises(CheckpointError, match="state of another optimizer"):
        resume_from_checkpoint(str(tmp_path), model, trained(model)[0])


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(MissingFileError, match=re.escape(str(tmp_path))):
        resume_from_checkpoint(str(tmp_path), nn.Linear(1, 1))
    save_epochs(tmp_path, 4)
    (tmp_path / "checkpoint").unlink()
    assert last_checkpoint(str(tmp_path)) is None
