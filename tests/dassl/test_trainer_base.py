"""Registered models: modes, updates, order of hooks, saving and loading."""

import math
import os
import re
import sys

import pytest
import torch
from torch import nn

from dassl.engine import TrainerBase
from dassl.utils import CheckpointError, UserError


def files(folder) -> list[str]:
    """Return the relative paths of all files."""
    found = []
    for base, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(base, name), folder) for name in names]
    return sorted(re.sub(r"events\..*", "events", name) for name in found)


class Base(TrainerBase):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __getattribute__(self, name):
        hooks = ("before_train", "before_epoch", "run_epoch", "after_epoch", "after_train")
        if name in hooks:
            self.calls.append(name)
            return lambda: None
        return super().__getattribute__(name)


def test_hooks_run_in_order():
    trainer = Base()
    trainer.train(1, 3)
    epoch = ["before_epoch", "run_epoch", "after_epoch"]
    assert trainer.calls == ["before_train", *epoch, *epoch, "after_train"]
    assert (trainer.start_epoch, trainer.max_epoch, trainer.epoch) == (1, 3, 2)


def test_models_are_registered_by_name_once_and_after_construction():
    class Early(TrainerBase):
        def __init__(self) -> None:
            self.register_model("x", nn.Linear(1, 1))

    with pytest.raises(AttributeError, match="before super"):
        Early()
    trainer = TrainerBase()
    trainer.register_model("a", nn.Linear(1, 1))
    trainer.register_model("b", nn.Linear(1, 1))
    with pytest.raises(AssertionError):
        trainer.register_model("a", nn.Linear(1, 1))
    assert trainer.get_model_names() == ["a", "b"]
    assert trainer.get_model_names("b") == ["b"]
    with pytest.raises(AssertionError, match='"c" is not a registered model'):
        trainer.get_model_names(["a", "c"])


def test_modes_reach_registered_models_only():
    trainer = TrainerBase()
    registered, frozen = nn.BatchNorm1d(1), nn.BatchNorm1d(1).eval()
    trainer.model = nn.Sequential(registered, frozen)  # type: ignore[attr-defined]
    trainer.register_model("norm", registered)
    for mode, expected in (("train", True), ("test", False), ("train", True), ("eval", False)):
        trainer.set_model_mode(mode)
        assert (registered.training, frozen.training) == (expected, False)
    with pytest.raises(KeyError):
        trainer.set_model_mode("learn")


def two_models():
    trainer = TrainerBase()
    for name in ("a", "b"):
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        optim = torch.optim.SGD(model.parameters(), lr=0.5)
        sched = torch.optim.lr_scheduler.StepLR(optim, 1)
        trainer.register_model(name, model, optim, sched)
    return trainer


def weights(trainer):
    return [trainer._models[name].weight.item() for name in ("a", "b")]


def test_updates_can_be_limited_to_named_models():
    trainer = two_models()
    x = torch.ones(1, 1)
    trainer.model_backward_and_update(trainer._models["a"](x) + trainer._models["b"](x), "b")
    assert weights(trainer) == [1.0, 0.5]
    trainer.model_backward_and_update(trainer._models["a"](x) + trainer._models["b"](x))
    assert weights(trainer) == [0.5, 0.0]
    trainer.update_lr("a")
    assert (trainer.get_current_lr(), trainer.get_current_lr("b")) == (0.05, 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_never_reaches_the_weights(value):
    trainer = two_models()
    loss = trainer._models["a"](torch.full((1, 1), value)).sum()
    with pytest.raises(FloatingPointError, match=r"^Loss is infinite or NaN!$"):
        trainer.model_backward_and_update(loss)
    assert weights(trainer) == [1.0, 1.0]


def test_saved_entries_and_loading_an_epoch_or_the_best(tmp_path, capsys):
    trainer = two_models()
    trainer.save_model(2, str(tmp_path))
    trainer.save_model(0, str(tmp_path), val_result=71.25, model_name="model-best.pth.tar")
    assert files(tmp_path) == [
        f"{name}/{file}"
        for name in ("a", "b")
        for file in ("checkpoint", "model-best.pth.tar", "model.pth.tar-3")
    ]
    saved = torch.load(tmp_path / "a" / "model.pth.tar-3", weights_only=True)
    assert set(saved) == {
        *("state_dict", "epoch", "optimizer", "scheduler", "val_result"),
        *("trainer", "best_result", "rng"),
    }
    assert (saved["epoch"], saved["val_result"], saved["trainer"]) == (3, None, "TrainerBase")
    capsys.readouterr()
    trainer.load_model(str(tmp_path), epoch=3)
    trainer.load_model(str(tmp_path))
    assert capsys.readouterr().out.splitlines() == [
        f"Load {tmp_path}/a/model.pth.tar-3 to a (epoch=3, val_result=none)",
        f"Load {tmp_path}/b/model.pth.tar-3 to b (epoch=3, val_result=none)",
        f"Load {tmp_path}/a/model-best.pth.tar to a (epoch=1, val_result=71.2)",
        f"Load {tmp_path}/b/model-best.pth.tar to b (epoch=1, val_result=71.2)",
    ]


def test_a_missing_epoch_lists_those_that_are_there(tmp_path, capsys):
    trainer = two_models()
    for epoch in (0, 9, 1):
        trainer.save_model(epoch, str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        trainer.load_model(str(tmp_path), epoch=5)
    assert isinstance(error.value, UserError)
    assert str(error.value) == (
        f"No model at {tmp_path}/a/model.pth.tar-5 (epochs stored there: 1, 2, 10)"
    )
    with pytest.raises(FileNotFoundError, match="epochs stored there: none"):
        trainer.load_model(str(tmp_path / "other"))
    trainer.load_model("")
    assert capsys.readouterr().out.endswith(
        "Note that load_model() is skipped as no pretrained model is given "
        "(ignore this if it's done on purpose)\n"
    )


def test_loading_weights_of_another_shape_names_the_key(tmp_path):
    trainer = two_models()
    trainer.save_model(0, str(tmp_path))
    other = TrainerBase()
    other.register_model("a", nn.Linear(3, 1, bias=False))
    with pytest.raises(CheckpointError, match=r"weight has shape \(1, 1\), expected \(1, 3\)"):
        other.load_model(str(tmp_path), epoch=1)


def test_models_saved_at_different_epochs_resume_at_the_earlier_one(tmp_path):
    trainer = two_models()
    trainer.save_model(0, str(tmp_path))
    trainer._models["a"].weight.data.fill_(7.0)
    trainer.get_model_names = lambda names=None: ["a"]  # type: ignore[method-assign]
    trainer.save_model(1, str(tmp_path))  # cut off before "b" was written
    resumed = two_models()
    assert resumed.resume_model_if_exist(str(tmp_path)) == 1
    assert weights(resumed) == [1.0, 1.0]


def test_scalars_go_nowhere_without_a_writer(tmp_path, monkeypatch, capsys):
    trainer = TrainerBase()
    trainer.write_scalar("a", 1.0, 0)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trainer.init_writer(str(tmp_path))
    assert "TensorBoard is not installed" in capsys.readouterr().out
    trainer.write_scalar("a", 1.0, 0)
    trainer.close_writer()
