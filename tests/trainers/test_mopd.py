"""Properties of MoPD's gate and losses that hold for any input."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.mopd import picked_losses
from trainers.prompts.gates import GateLog, pick_teachers

sizes = st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(1, 7), st.integers(0, 10**6))


def draw(B: int, C: int, H: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    label = torch.randint(C, (B,), generator=generator)
    return 5 * make(B, C), 5 * make(B, H, C), make(B, H), label


def mixture_losses(student, teachers, weights, picked, label, temperature):
    """Of the picked teachers among all."""
    chosen = teachers.take_along_dim(picked[..., None], dim=1)
    return picked_losses(student, chosen, weights, label, temperature)


def test_ties_go_to_the_lowest_index():
    weights, picked = pick_teachers(torch.zeros(2, 12), 3)
    assert picked.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert torch.equal(weights, torch.full((2, 3), 1 / 3))
    _, picked = pick_teachers(torch.tensor([[0.0, -1.0, 2.0, 0.0, 2.0]]), 4)
    assert picked.tolist() == [[2, 4, 0, 3]]
    scores = (torch.arange(2000) % 3).float()  # so many that an unstable sort would mix ties
    _, picked = pick_teachers(scores.expand(2, -1), 2000)
    assert picked[0].tolist() == sorted(range(2000), key=lambda h: (-(h % 3), h))


@given(sizes, st.floats(0.5, 4))
@settings(max_examples=25, deadline=None)
def test_losses_are_means_and_zero_for_a_student_that_equals_its_teachers(size, temperature):
    B, C, H, seed = size
    student, teachers, gate, label = draw(B, C, H, seed)
    weights, picked = pick_teachers(gate, H)
    assert torch.allclose(weights.sum(-1), torch.ones(B, dtype=torch.float64))
    mpd, mps = mixture_losses(student, teachers, weights, picked, label, temperature)
    assert mpd >= -1e-9 and mps >= 0
    same = student[:, None].expand(B, H, C)
    mpd, mps = mixture_losses(student, same, weights, picked, label, temperature)
    assert mpd.abs() < 1e-9
    assert torch.allclose(mps, F.cross_entropy(student, label))


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_one_teacher_is_plain_distillation(size):
    B, C, H, seed = size
    student, teachers, gate, label = draw(B, C, H, seed)
    weights, picked = pick_teachers(gate, 1)
    assert torch.equal(weights, torch.ones(B, 1, dtype=torch.float64))
    mpd, mps = mixture_losses(student, teachers, weights, picked, label, 2.0)
    best = teachers[torch.arange(B), gate.argmax(-1)]
    kl = F.kl_div(F.log_softmax(student / 2, -1), F.softmax(best / 2, -1), reduction="batchmean")
    assert torch.allclose(mpd, 4 * kl)
    assert torch.allclose(mps, F.cross_entropy(best, label))


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_only_picked_teachers_move_the_gate_and_their_gradients_cancel(size):
    B, C, H, seed = size
    student, teachers, gate, label = draw(B, C, H, seed)
    K = (H + 1) // 2
    gate.requires_grad_()
    weights, picked = pick_teachers(gate, K)
    mpd, mps = mixture_losses(student, teachers, weights, picked, label, 1.0)
    (0.2 * mpd + 0.1 * mps).backward()
    untouched = torch.ones(B, H, dtype=torch.bool).scatter(1, picked, False)
    assert not gate.grad[untouched].any()
    assert gate.grad.sum(-1).abs().max() < 1e-9


@given(sizes)
@settings(max_examples=25, deadline=None)
def test_the_order_of_the_pool_does_not_change_the_losses(size):
    B, C, H, seed = size
    student, teachers, gate, label = draw(B, C, H, seed)
    order = torch.randperm(H, generator=torch.Generator().manual_seed(seed))
    K = (H + 1) // 2
    a = mixture_losses(student, teachers, *pick_teachers(gate, K), label, 1.0)
    b = mixture_losses(student, teachers[:, order], *pick_teachers(gate[:, order], K), label, 1.0)
    assert torch.allclose(a[0], b[0]) and torch.allclose(a[1], b[1])


def test_a_step_reports_its_terms_and_their_weighted_sum(make_trainer):
    names = ["cat", "dog", "red_fox"]
    trainer = make_trainer("MoPD", names, ALPHA=0.6, BETA=0.3, NUM_TEACHERS=2)
    batch = {"img": torch.randn(4, 3, 32, 32), "label": torch.tensor([0, 1, 2, 0])}
    summary = trainer.forward_backward(batch)
    assert list(summary) == ["loss", "ce", "mpd", "mps", "acc"]
    total = 0.6 * summary["ce"] + 0.4 * summary["mpd"] + 0.3 * summary["mps"]
    assert summary["loss"] == pytest.approx(total, rel=1e-6)
    assert summary["acc"] in (0, 25, 50, 75, 100)


def test_what_is_logged_of_the_gate_changes_no_update(make_trainer, monkeypatch):
    batch = {"img": torch.randn(4, 3, 32, 32), "label": torch.tensor([0, 1, 2, 0])}
    after = []
    for logged in (True, False):
        if not logged:
            monkeypatch.setattr(GateLog, "add", lambda *_: None)
        trainer = make_trainer("MoPD", ["cat", "dog", "red_fox"], GATE_NOISE=0.1)
        for _ in range(3):
            trainer.forward_backward(batch)
        after.append(trainer.prompt_learner.state_dict())
        assert bool(trainer.epoch_metrics()) is logged
    assert all(torch.equal(value, after[1][name]) for name, value in after[0].items())


def test_metrics_say_what_the_gate_did_in_each_epoch(run):
    folder = run("MoPD", "whole", "TRAINER.MOPD.GATE_WARMUP", "1")
    whole = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert "gate_load" not in whole.pop()  # of the test
    assert [line["epoch"] for line in whole] == [1, 2]
    H = len(whole[0]["gate_load"])
    assert whole[0]["gate_load"] == [1.0] * H  # all teachers in the epoch of the warm-up
    assert sum(whole[1]["gate_load"]) == pytest.approx(3)
    for line, K in zip(whole, (H, 3), strict=True):
        assert sum(line["gate_weight"]) == pytest.approx(1)
        assert 0 < line["gate_entropy"] <= math.log2(K) + 1e-6


def test_an_epoch_that_was_cut_off_is_not_counted_with_the_next(make_trainer):
    trainer = make_trainer("MoPD", ["cat", "dog"])
    batch = {"img": torch.randn(2, 3, 32, 32), "label": torch.tensor([0, 1])}
    trainer.forward_backward(batch)
    trainer.before_epoch()
    assert trainer.epoch_metrics() == {}


def test_a_gradient_scaler_changes_no_update(make_trainer):
    batch = {"img": torch.randn(4, 3, 32, 32), "label": torch.tensor([0, 1, 2, 0])}
    after = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        trainer = make_trainer("MoPD", ["cat", "dog", "red_fox"])
        trainer.scaler = scaler
        for _ in range(3):
            trainer.forward_backward(batch)
        after.append(trainer.prompt_learner.state_dict())
    for name, value in after[0].items():
        assert value.any() and torch.allclose(value, after[1][name], rtol=1e-5, atol=1e-7)


def test_a_loss_that_is_not_finite_changes_no_weights(make_trainer):
    trainer = make_trainer("MoPD", ["cat", "dog"])
    before = {name: value.clone() for name, value in trainer.prompt_learner.state_dict().items()}
    feature = torch.full((2, trainer.clip.embed_dim), float("nan"))
    with pytest.raises(FloatingPointError, match="Loss terms: loss nan, ce nan, mpd nan, mps nan"):
        trainer.forward_backward({"feature": feature, "label": torch.tensor([0, 1])})
    for name, value in trainer.prompt_learner.state_dict().items():
        assert torch.equal(value, before[name])


def test_gradients_that_always_overflow_are_reported(make_trainer):
    trainer = make_trainer("MoPD", ["cat", "dog"])
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-5)
    before = trainer.prompt_learner.ctx.detach().clone()
    trainer.prompt_learner.ctx.register_hook(lambda gradient: gradient * float("inf"))
    batch = {"img": torch.randn(2, 3, 32, 32), "label": torch.tensor([0, 1])}
    with pytest.raises(FloatingPointError, match="overflow .* TRAINER.MOPD.PREC bf16 or fp32"):
        for _ in range(20):
            trainer.forward_backward(batch)
    assert torch.equal(trainer.prompt_learner.ctx, before), "a skipped step changed the weights"


def test_a_subclass_reads_its_own_knobs(make_trainer):
    from dassl.engine import TRAINER_REGISTRY
    from trainers.errors import MethodError
    from trainers.mopd import MoPD

    class MyMoPD(MoPD):
        """Other knobs."""

    TRAINER_REGISTRY.register(MyMoPD)
    try:
        with pytest.raises(MethodError, match="TRAINER.MYMOPD.NUM_TEACHERS is 99"):
            make_trainer("MyMoPD", ["cat", "dog"], NUM_TEACHERS=99)
        assert make_trainer("MyMoPD", ["cat", "dog"], POOL="single", NUM_TEACHERS=1).pool == [
            "a photo of a {}."
        ]
    finally:
        TRAINER_REGISTRY._obj_map.pop("MyMoPD")


def test_the_teachers_are_encoded_only_for_training(make_trainer):
    trainer = make_trainer("MoPD", ["cat", "dog"])
    trainer.test()
    assert "teachers" not in vars(trainer)
    trainer.forward_backward({"img": torch.randn(2, 3, 32, 32), "label": torch.tensor([0, 1])})
    assert vars(trainer)["teachers"].shape == (12, 2, 512)


def test_class_features_are_computed_once_per_evaluation(make_trainer, monkeypatch):
    trainer = make_trainer("CoOp", ["cat", "dog"])
    calls = []
    compute = type(trainer).class_features
    monkeypatch.setattr(
        type(trainer), "class_features", lambda self: calls.append(1) or compute(self)
    )
    images = torch.randn(2, 3, 32, 32)
    trainer.set_model_mode("eval")
    with torch.no_grad():
        before = [trainer.model_inference(images) for _ in range(3)]
        assert len(calls) == 1 and torch.equal(before[0], before[2])
        trainer.prompt_learner.ctx.data += 1
        trainer.set_model_mode("eval")
        assert not torch.equal(trainer.model_inference(images), before[0])
    assert len(calls) == 2
