"""The learning rate of every epoch, and what the optimisers are given."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError


def optim_cfg(**options) -> CfgNode:
    cfg = get_cfg_default().OPTIM
    cfg.update({"NAME": "sgd", "LR": 0.002, "LR_SCHEDULER": "cosine", "MAX_EPOCH": 10})
    cfg.update(options)
    return cfg


def rates(cfg: CfgNode, epochs: int) -> list[float]:
    """Return the rate of each epoch, stepping once per epoch."""
    optim = build_optimizer(nn.Linear(1, 1), cfg)
    sched = build_lr_scheduler(optim, cfg)
    found = []
    for _ in range(epochs):
        found.append(optim.param_groups[0]["lr"])
        assert sched.get_last_lr() == [found[-1]]
        optim.step()
        sched.step()
    return found


CONSTANT = [1e-5, 0.002, 0.00195105652, 0.00180901699, 0.00158778525, 0.00130901699, 0.001]
CONSTANT += [0.00069098301, 0.00041221475, 0.00019098301, 4.89434837e-5]
NO_RECOUNT = [1e-5, 0.002, 0.00185439733, 0.00162761585, 0.00134185451, 0.00102508563]
NO_RECOUNT += [0.00070831675, 0.00042255542, 0.00019577393, 0.00005017126]
LINEAR = [1e-5, 0.002 / 3, 0.004 / 3, 0.002, 0.00195105652, 0.00180901699]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"}, CONSTANT),
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant", "WARMUP_RECOUNT": False}, NO_RECOUNT),
        ({"WARMUP_EPOCH": 3, "WARMUP_TYPE": "linear"}, LINEAR),
        ({}, CONSTANT[1:]),
        ({"LR_SCHEDULER": "single_step"}, [0.002] * 10 + [0.0002]),
        ({"LR_SCHEDULER": "single_step", "STEPSIZE": (2,)}, [0.002, 0.002, 2e-4, 2e-4, 2e-5]),
        ({"LR_SCHEDULER": "multi_step", "STEPSIZE": (1, 3)}, [0.002, 2e-4, 2e-4, 2e-5]),
    ],
)
def test_rate_of_each_epoch(options, expected):
    assert rates(optim_cfg(**options), len(expected)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    lr=st.floats(1e-5, 1.0),
    total=st.integers(2, 60),
    warmup=st.integers(0, 5),
)
def test_cosine_after_warm_up_has_a_closed_form(lr, total, warmup):
    cfg = optim_cfg(LR=lr, MAX_EPOCH=total, WARMUP_EPOCH=warmup, WARMUP_TYPE="constant")
    found = rates(cfg, total)
    for epoch, rate in enumerate(found):
        cosine = 0.5 * lr * (1 + math.cos(math.pi * (epoch - warmup) / total))
        assert rate == pytest.approx(1e-5 if epoch < warmup else cosine, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("stop", range(1, 9))
@pytest.mark.parametrize(
    "options",
    [
        {"WARMUP_EPOCH": 3, "WARMUP_TYPE": "linear"},
        {"WARMUP_EPOCH": 2, "WARMUP_TYPE": "constant", "WARMUP_RECOUNT": False},
        {
            "WARMUP_EPOCH": 1,
            "WARMUP_TYPE": "constant",
            "LR_SCHEDULER": "multi_step",
            "STEPSIZE": (2, 4),
        },
    ],
)
def test_a_restored_schedule_goes_on_and_moves_the_live_optimiser(options, stop):
    cfg = optim_cfg(**options)
    whole = rates(cfg, 10)

    def start():
        optim = build_optimizer(nn.Linear(1, 1), cfg)
        return optim, build_lr_scheduler(optim, cfg)

    optim, sched = start()
    for _ in range(stop):
        optim.step()
        sched.step()
    saved = optim.state_dict(), sched.state_dict()
    optim, sched = start()
    optim.load_state_dict(saved[0])
    sched.load_state_dict(saved[1])
    rest = []
    for _ in range(stop, 10):
        rest.append(optim.param_groups[0]["lr"])
        assert sched.get_last_lr() == rest[-1:]
        optim.step()
        sched.step()
    assert rest == whole[stop:]


@pytest.mark.parametrize(
    ("name", "kind", "extra"),
    [
        ("adam", torch.optim.Adam, {"betas": (0.8, 0.99), "amsgrad": False}),
        ("amsgrad", torch.optim.Adam, {"betas": (0.8, 0.99), "amsgrad": True}),
        ("sgd", torch.optim.SGD, {"momentum": 0.7, "dampening": 0, "nesterov": True}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.7, "alpha": 0.9}),
        ("radam", torch.optim.RAdam, {"betas": (0.8, 0.99)}),
        ("adamw", torch.optim.AdamW, {"betas": (0.8, 0.99)}),
    ],
)
def test_optimisers_get_the_configured_options(name, kind, extra):
    cfg = optim_cfg(
        NAME=name,
        WEIGHT_DECAY=0.25,
        ADAM_BETA1=0.8,
        ADAM_BETA2=0.99,
        MOMENTUM=0.7,
        SGD_NESTEROV=True,
        RMSPROP_ALPHA=0.9,
    )
    optim = build_optimizer(nn.Linear(1, 1), cfg)
    assert type(optim) is kind
    expected = {"lr": 0.002, "weight_decay": 0.25, **extra}
    assert {key: optim.defaults[key] for key in expected} == expected


def test_prompt_vectors_get_momentum_and_weight_decay_by_default():
    cfg = get_cfg_default().OPTIM
    cfg.update({"NAME": "sgd", "LR": 0.002})
    group = build_optimizer([nn.Parameter(torch.zeros(2))], cfg).param_groups[0]
    assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)


def test_frozen_parameters_are_registered_and_left_alone():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    before = model.bias.detach().clone()
    optim = build_optimizer(model, optim_cfg())
    model(torch.ones(1, 2)).sum().backward()
    optim.step()
    assert len(optim.param_groups[0]["params"]) == 2
    assert torch.equal(model.bias, before)


class Staged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ctx = nn.Parameter(torch.zeros(3))
        self.body = nn.Linear(1, 1)
        self.head = nn.Linear(1, 1)


def test_staged_rates_cover_every_parameter_once():
    model = Staged()
    optim = build_optimizer(model, optim_cfg(STAGED_LR=True, NEW_LAYERS=("head",)))
    slow, fast = optim.param_groups
    assert (slow["lr"], fast["lr"]) == pytest.approx((0.0002, 0.002))
    assert {id(p) for p in fast["params"]} == {id(p) for p in model.head.parameters()}
    assert {id(p) for p in slow["params"]} == {id(model.ctx), *map(id, model.body.parameters())}


def test_staged_rates_need_a_module_and_existing_layers():
    with pytest.raises(TypeError, match=r"nn\.Module"):
        build_optimizer([nn.Parameter(torch.zeros(1))], optim_cfg(STAGED_LR=True))
    with pytest.raises(UserError, match=r"NEW_LAYERS names \['neck'\].*'body'"):
        build_optimizer(Staged(), optim_cfg(STAGED_LR=True, NEW_LAYERS=("neck",)))


def test_explicit_groups_win_over_staged_rates():
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5}]
    with pytest.warns(UserWarning, match="staged_lr will be ignored"):
        optim = build_optimizer(Staged(), optim_cfg(STAGED_LR=True), param_groups=groups)
    assert [g["lr"] for g in optim.param_groups] == [0.5]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"NAME": "lion"}, UserError, r"optim must be one of \['adam', .*\], but got lion"),
        (
            {"LR_SCHEDULER": "linear"},
            UserError,
            r"scheduler must be one of \['single_step', 'multi_step', 'cosine'\], but got linear",
        ),
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "exp"}, UserError, "warmup type .* got exp"),
        ({"LR_SCHEDULER": "single_step", "STEPSIZE": (0.5,)}, TypeError, "must be an integer"),
        ({"LR_SCHEDULER": "multi_step", "STEPSIZE": 3}, TypeError, "must be a list"),
    ],
)
def test_unknown_choices_are_refused_with_the_list(options, kind, text):
    with pytest.raises(kind, match=text):
        rates(optim_cfg(**options), 1)
