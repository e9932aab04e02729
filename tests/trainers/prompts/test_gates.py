"""How each gate picks teachers: properties that hold for any input, and its place in training."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import train
from trainers.errors import MethodError
from trainers.prompts.gates import GATES, LEARNED, Gate, GateLog, pick_teachers

sizes = st.tuples(st.integers(1, 5), st.integers(2, 6), st.integers(2, 7), st.integers(0, 10**6))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(size, D: int = 3):
    """Features (B, D), teacher logits (B, H, C), labels (B,), and a seed."""
    B, C, H, seed = size
    make = generator(seed)
    features = torch.nn.functional.normalize(torch.randn(B, D, generator=make), dim=-1)
    return (
        features,
        4 * torch.randn(B, H, C, generator=make),
        torch.randint(C, (B,), generator=make),
    )


def pick(gate: Gate, size, epoch: int = 0, weight=None, seed: int = 0):
    features, teachers, label = draw(size)
    if weight is None and gate.kind in LEARNED:
        weight = torch.zeros_like(gate.parameter(features.shape[1], teachers.shape[1]))
    return gate.pick(weight, features, teachers, label, epoch, generator(seed))


@given(sizes, st.sampled_from(sorted(GATES)), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_weights_sum_to_one_and_no_teacher_is_picked_twice(size, kind, K):
    H = size[2]
    K = min(K, H)
    weights, picked = pick(Gate(kind, K), size)
    assert weights.shape == picked.shape == (size[0], H if kind == "uniform" else K)
    assert torch.allclose(weights.sum(-1), torch.ones(size[0])) and (weights >= 0).all()
    assert all(len(set(row)) == len(row) for row in picked.tolist())


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_equal_weights_where_the_gate_says_so(size):
    H = size[2]
    weights, picked = pick(Gate("uniform", 1), size)
    assert torch.equal(weights, torch.full_like(weights, 1 / H))
    assert picked.tolist() == [list(range(H))] * size[0]
    weights, _ = pick(Gate("uniform_topk", 2), size)
    assert torch.equal(weights, torch.full_like(weights, 0.5))


@given(sizes)
@settings(max_examples=20, deadline=None)
def test_the_oracle_picks_the_most_probable_and_weights_by_probability(size):
    _, teachers, label = draw(size)
    probability = teachers.softmax(-1)[torch.arange(size[0]), :, label]  # (B, H)
    weights, picked = pick(Gate("oracle", 2), size)
    best = probability.topk(2, dim=-1).values
    assert torch.allclose(probability.gather(1, picked), best)
    assert torch.allclose(weights, best / best.sum(-1, keepdim=True), atol=1e-6)


def test_one_vector_serves_all_images_and_learns_for_what_is_picked():
    gate, size = Gate("dataset", 2), (4, 3, 5, 1)
    weight = torch.tensor([0.0, 2.0, -1.0, 1.0, 0.5], requires_grad=True)
    weights, picked = pick(gate, size, weight=weight)
    assert picked.tolist() == [[1, 3]] * 4
    assert torch.equal(weights, weights[:1].expand(4, -1))
    (weights[:, 0] * torch.tensor([1.0, 2, 3, 4])).sum().backward()
    assert weight.grad[1] != 0 and torch.isclose(weight.grad[1], -weight.grad[3])
    assert not weight.grad[[0, 2, 4]].any()


@pytest.mark.parametrize("kind", ["uniform_topk", "random"])
def test_draws_are_seeded_differ_between_images_and_reach_every_teacher(kind):
    size = (200, 3, 6, 1)
    gate = Gate(kind, 2)
    weights, picked = pick(gate, size, seed=5)
    again, same = pick(gate, size, seed=5)
    assert torch.equal(picked, same) and torch.equal(weights, again)
    assert not torch.equal(picked, pick(gate, size, seed=6)[1])
    counts = torch.bincount(picked.flatten(), minlength=6)
    assert counts.min() > 30, "200 images x 2 picks over 6 teachers: 67 each on average"


def test_noise_changes_what_is_picked_but_not_how_it_is_weighted():
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    weights, picked = pick_teachers(scores, 2, noise=torch.tensor([[0.0, -9.0, 0.0, 2.5]]))
    assert picked.tolist() == [[0, 3]]
    assert torch.allclose(weights, torch.tensor([[3.0, 0.0]]).softmax(-1))
    size = (100, 3, 6, 2)
    assert pick(Gate("learned", 2), size)[1].tolist() == [[0, 1]] * 100
    _, noisy = pick(Gate("learned", 2, noise=1.0), size)
    assert set(noisy.flatten().tolist()) == set(range(6))
    apart = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])  # scores
    little, much = (
        pick(Gate("dataset", 2, noise=noise), size, weight=apart)[1] for noise in (1e-6, 1e6)
    )
    assert little.tolist() == [[0, 1]] * 100
    assert set(much.flatten().tolist()) == set(range(6))


def test_in_the_warm_up_all_teachers_are_used():
    gate, size = Gate("learned", 2, warmup=3), (4, 3, 6, 1)
    for epoch in range(3):
        assert pick(gate, size, epoch)[1].shape == (4, 6)
    assert pick(gate, size, 3)[1].shape == (4, 2)


@pytest.mark.parametrize("kind", sorted(GATES))
def test_what_is_learned(make_trainer, kind):
    trainer = make_trainer("MoPD", ["cat", "dog", "fox"], GATE=kind)
    shapes = {name: tuple(p.shape) for name, p in trainer.prompt_learner.named_parameters()}
    gate = {"learned": {"gate": (512, 12)}, "dataset": {"gate": (12,)}}.get(kind, {})
    assert shapes == {"ctx": (4, 64)} | gate
    batch = {"img": torch.randn(4, 3, 32, 32), "label": torch.tensor([0, 1, 2, 0])}
    summary = trainer.forward_backward(batch)
    assert all(torch.isfinite(torch.tensor(value)) for value in summary.values())


def test_the_learned_gate_starves_columns_and_noise_and_warm_up_feed_them(make_trainer):
    batch = {"img": torch.randn(16, 3, 32, 32), "label": torch.arange(16) % 3}

    def learning_columns(**knobs) -> int:
        trainer = make_trainer("MoPD", ["cat", "dog", "fox"], NUM_TEACHERS=3, **knobs)
        trainer.forward_backward(batch)
        return int(trainer.prompt_learner.gate.grad.any(dim=0).sum())

    assert learning_columns() == 3
    assert learning_columns(GATE_NOISE=1.0) == 12
    assert learning_columns(GATE_WARMUP=1) == 12


def test_single_prompt_distillation_is_mopd_with_one_teacher(make_trainer, in_float64):
    batch = {"img": torch.randn(4, 3, 32, 32).double(), "label": torch.tensor([0, 1, 2, 0])}
    common = {"POOL": "single", "ALPHA": 0.6, "TEMPERATURE": 2.0}
    runs = [
        make_trainer("SiPD", ["cat", "dog", "fox"], **common),
        make_trainer("MoPD", ["cat", "dog", "fox"], **common, NUM_TEACHERS=1, BETA=0.0),
    ]
    runs = [in_float64(run) for run in runs]
    losses = [[run.forward_backward(batch)["loss"] for _ in range(3)] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    ctx, same = (run.prompt_learner.ctx for run in runs)
    assert torch.allclose(ctx, same, rtol=1e-10, atol=0)


def test_the_teacher_of_single_prompt_distillation_is_one_of_the_pool(make_trainer):
    trainer = make_trainer("SiPD", ["cat", "dog"], POOL="paper", TEACHER=5)
    assert trainer.pool == ["a photo, labeled as {}."]
    with pytest.raises(MethodError, match="TEACHER is 12, expected 0 to 11, as the pool has 12"):
        make_trainer("SiPD", ["cat", "dog"], POOL="paper", TEACHER=12)


def test_draws_do_not_touch_the_random_numbers_of_the_run(make_trainer):
    batch = {"img": torch.randn(4, 3, 32, 32), "label": torch.tensor([0, 1, 2, 0])}
    for knobs in ({"GATE": "random"}, {"GATE_NOISE": 1.0}):
        trainer = make_trainer("MoPD", ["cat", "dog", "fox"], **knobs)
        before = torch.get_rng_state()
        trainer.forward_backward(batch)
        assert torch.equal(torch.get_rng_state(), before)


def test_each_step_and_each_seed_has_its_own_draws(make_trainer):
    trainer = make_trainer("MoPD", ["cat", "dog"], GATE="random")
    trainer.num_batches = 5
    seen = set()
    trainer.cfg.defrost()
    for trainer.cfg.SEED in (1, 2):
        for trainer.epoch in range(3):
            for trainer.batch_idx in range(5):
                seen.add(torch.randint(2**60, (1,), generator=trainer.step_generator()).item())
    assert len(seen) == 2 * 3 * 5


@pytest.mark.parametrize(
    "knobs", [("GATE", "random"), ("GATE_NOISE", "0.5")], ids=lambda knobs: knobs[0]
)
def test_a_cut_off_run_with_draws_continues_bit_for_bit(job, tmp_path, monkeypatch, knobs):
    from dassl.engine import SimpleTrainer

    settings = (f"TRAINER.MOPD.{knobs[0]}", knobs[1])
    train.main(job("MoPD", *settings, output=tmp_path / "whole"))

    def cut_off(self) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SimpleTrainer, "before_epoch", cut_off)
        train.main(job("MoPD", *settings, output=tmp_path / "cut"))
    train.main(job("MoPD", *settings, output=tmp_path / "cut"))
    whole, cut = (
        torch.load(tmp_path / run / "prompt_learner/model.pth.tar-2", weights_only=True)
        for run in ("whole", "cut")
    )
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, cut["state_dict"][name])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        (("GATE", "lerned"), "TRAINER.MOPD.GATE is 'lerned', expected one of: learned, dataset"),
        (
            ("GATE", "uniform", "GATE_NOISE", "0.5"),
            "TRAINER.MOPD.GATE_NOISE is 0.5, which is for a learned gate, but TRAINER.MOPD.GATE is "
            "uniform: set GATE_NOISE 0, or GATE learned or dataset",
        ),
        (("GATE", "oracle", "GATE_WARMUP", "2"), "TRAINER.MOPD.GATE_WARMUP is 2, which is for a"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(job, refused, knobs, message):
    pairs = [
        word if i % 2 else f"TRAINER.MOPD.{word}"
        for i, word in enumerate(knobs)
    ]  # fmt: skip
    assert message in refused(job("MoPD", *pairs))


@given(st.integers(1, 6), st.integers(2, 7), st.lists(st.integers(1, 5), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_the_log_has_means_over_all_images_of_an_epoch(K, H, batches):
    K = min(K, H)
    generator = torch.Generator().manual_seed(sum(batches))
    log, rows = GateLog(H), []
    for B in batches:
        weights, picked = pick_teachers(torch.randn(B, H, generator=generator), K)
        log.add(weights, picked)
        rows += zip(weights.tolist(), picked.tolist(), strict=True)
    found = log.take()
    for h in range(H):
        own = [
            w for weights, picked in rows for w, k in zip(weights, picked, strict=True) if k == h
        ]
        assert found["gate_load"][h] == pytest.approx(len(own) / len(rows))
        assert found["gate_weight"][h] == pytest.approx(sum(own) / len(rows), abs=1e-12)
    bits = [-sum(w * math.log2(w) for w in weights if w) for weights, _ in rows]
    assert found["gate_entropy"] == pytest.approx(sum(bits) / len(rows), abs=1e-12)
    assert log.take() == {}


def test_the_log_reads_nothing_from_the_device_before_the_end_of_an_epoch():
    log = GateLog(3, "meta")
    for _ in range(2):  # tensors of this device have no values that could be read
        log.add(torch.rand(4, 2, device="meta"), torch.zeros(4, 2, dtype=torch.long, device="meta"))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        log.take()
