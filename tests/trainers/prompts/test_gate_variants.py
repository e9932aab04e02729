"""The gate of cosines, and the one that starts from what teachers know of the labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import train
from trainers.prompts import gates
from trainers.prompts.gates import Gate, agreement

sizes = st.tuples(st.integers(1, 6), st.integers(2, 5), st.integers(2, 6), st.integers(0, 10**6))


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(sizes, st.sampled_from([0.05, 0.1, 1.0]))
def test_scores_of_a_cosine_gate_are_cosines_over_the_temperature(size, temperature):
    B, D, H, seed = size
    features, weight = F.normalize(draw(B, D, seed=seed), dim=-1), draw(D, H, seed=seed + 1)
    scores = Gate("learned", 2, cosine=temperature).scores(weight, features)
    for b in range(B):
        for h in range(H):
            f, g = features[b].numpy(), weight[:, h].numpy()
            cosine = f @ g / np.linalg.norm(f) / np.linalg.norm(g)
            assert float(scores[b, h]) == pytest.approx(cosine / temperature, abs=1e-9)


def test_the_length_of_a_column_of_cosines_does_not_matter_and_its_start_has_one():
    gate = Gate("learned", 2, cosine=0.1)
    features, weight = F.normalize(draw(4, 3, seed=1), dim=-1), draw(3, 5, seed=2)
    longer = weight * torch.tensor([1.0, 2, 3, 4, 5])
    assert torch.allclose(gate.scores(weight, features), gate.scores(longer, features))
    assert gate.parameter(3, 5).norm(dim=0).min() > 0.1


@given(sizes)
def test_agreement_is_the_ridge_regression_of_what_is_known(size):
    N, D, H, seed = size
    features, known = F.normalize(draw(N, D, seed=seed), dim=-1), draw(N, H, seed=seed + 1)
    gate = agreement(features, known)
    # as ordinary least squares with one more row for each weight
    rows = np.concatenate([features.numpy(), np.eye(D)])
    centred = known.numpy() - known.numpy().mean(axis=1, keepdims=True)
    expected = np.linalg.lstsq(rows, np.concatenate([centred, np.zeros((D, H))]), rcond=None)[0]
    assert np.allclose(gate.numpy(), expected, atol=1e-8)


def test_a_gate_that_starts_from_agreement_has_the_teachers_knowledge(make_trainer):
    names = ["cat", "dog", "fox"]
    for kind in ("learned", "dataset"):
        trainer = make_trainer("MoPD", names, GATE=kind, GATE_AGREEMENT=True)
        items = trainer.dm.dataset.train_x
        features = F.normalize(draw(len(items), trainer.clip.embed_dim, seed=3).float(), dim=-1)
        trainer.image_features = lambda images, features=features: features
        found = trainer._agreement()
        logits = trainer.clip.logit_scale * torch.einsum("nd,hcd->nhc", features, trainer.teachers)
        label = torch.tensor([item.label for item in items])
        known = torch.stack([logits[i].log_softmax(-1)[:, y] for i, y in enumerate(label)])
        expected = agreement(features, known) if kind == "learned" else known.mean(dim=0)
        assert torch.allclose(found, expected, atol=1e-4)


def test_the_gate_starts_before_the_first_epoch_and_not_after_a_resume(job, tmp_path, monkeypatch):
    from trainers.mopd import MoPD

    told = []
    original = MoPD._agreement

    def counted(self):
        told.append(self.start_epoch)
        return original(self)

    monkeypatch.setattr(MoPD, "_agreement", counted)
    knobs = ("TRAINER.MOPD.GATE_AGREEMENT", "True", "OPTIM.LR", "1e-9")
    train.main(job("MoPD", *knobs))
    assert told == [0]
    state = torch.load(
        tmp_path / "run/prompt_learner/model.pth.tar-2", weights_only=True
    )["state_dict"]  # fmt: skip
    assert state["gate"].abs().max() > 0.1
    (tmp_path / "run/base/results.json").unlink()
    train.main(job("MoPD", *knobs, "OPTIM.MAX_EPOCH", "2"))
    assert told == [0]


def test_views_are_the_same_with_every_start_of_the_gate(job, tmp_path):
    # without the gate's influence (ALPHA 1, BETA 0) nothing else may differ
    losses = []
    for value in ("False", "True"):
        knobs = ("TRAINER.MOPD.ALPHA", "1.0", "TRAINER.MOPD.BETA", "0.0")
        folder = tmp_path / value
        train.main(job("MoPD", *knobs, "TRAINER.MOPD.GATE_AGREEMENT", value, output=folder))
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line).get("ce") for line in lines])
    assert losses[0] == losses[1] and any(losses[0])


def test_knobs_that_are_off_leave_the_hash_of_a_run_alone(job, tmp_path):
    from runs.config import build_parser, setup_cfg
    from runs.folder import RunFolder

    def settings(*pairs):
        return RunFolder(setup_cfg(build_parser().parse_args(job("MoPD", *pairs)))).settings

    assert not {"TRAINER.MOPD.GATE_COSINE", "TRAINER.MOPD.GATE_AGREEMENT"} & set(settings())
    assert settings("TRAINER.MOPD.GATE_COSINE", "0.1")["TRAINER.MOPD.GATE_COSINE"] == 0.1


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"GATE_COSINE": "0.1", "GATE": "dataset"}, "does not go with GATE dataset: set GATE_COS"),
        ({"GATE_COSINE": "0.1", "GATE_AGREEMENT": "True"}, "0.1, which does not go with GATE_AGR"),
        ({"GATE_AGREEMENT": "True", "GATE": "uniform"}, "GATE_AGREEMENT is True, which is for a "),
        ({"GATE_COSINE": "0.1", "GATE": "random"}, "set GATE_COSINE 0, or GATE learned"),
        ({"GATE_COSINE": "-1"}, "GATE_COSINE is -1.0, expected a number from 0"),
    ],
)
def test_knobs_that_do_not_fit_are_refused(job, refused, knobs, message):
    pairs = [word for key, value in knobs.items() for word in (f"TRAINER.MOPD.{key}", value)]
    assert message in refused(job("MoPD", *pairs))


def test_a_gate_of_a_file_is_not_written_over(job, refused, tmp_path):
    pairs = ("MODEL.INIT_WEIGHTS", str(tmp_path / "x"), "TRAINER.MOPD.GATE_AGREEMENT", "True")
    assert "MODEL.INIT_WEIGHTS has a gate to start from: set one of them" in refused(
        job("MoPD", *pairs)
    )


@pytest.mark.parametrize("kind", ["learned", "dataset"])
def test_where_few_of_many_are_picked_only_these_are_computed_with_the_same_loss(
    make_trainer, in_float64, monkeypatch, kind
):
    monkeypatch.setattr(gates, "LARGE", 12)
    batch = {"img": torch.randn(2, 3, 32, 32).double(), "label": torch.tensor([0, 2])}
    steps = []
    for few in (True, False):
        with monkeypatch.context() as patch:
            if not few:
                patch.setattr(Gate, "picks_few", lambda self, B, H, epoch: False)
            trainer = in_float64(make_trainer("MoPD", ["cat", "dog", "fox"], GATE=kind, BETA=0.5))
            computed = []
            whole = trainer.teacher_logits
            trainer.teacher_logits = lambda f, c=computed, w=whole: c.append(1) or w(f)
            steps.append([trainer.forward_backward(batch)["loss"] for _ in range(3)])
            assert bool(computed) != few
    assert steps[0] == pytest.approx(steps[1], rel=1e-9)


def test_all_teachers_are_computed_where_the_gate_needs_them_or_many_are_picked():
    assert Gate("learned", 3).picks_few(32, 192, 0) and not Gate("learned", 3).picks_few(32, 191, 0)
    assert not Gate("learned", 1).picks_few(1, 36, 0)  # such pools keep the bits that they gave
    assert not Gate("learned", 3, warmup=2).picks_few(1, 200, 1)
    for kind in ("oracle", "uniform", "random", "uniform_topk"):
        assert not Gate(kind, 3).picks_few(1, 200, 0)
