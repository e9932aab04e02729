"""Figures of a test, against scikit-learn and torchmetrics, and where these do not say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference
from torchmetrics.functional.classification import multiclass_calibration_error

from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator
from dassl.evaluation import evaluator as module
from runs.metrics import calibration, class_counts, confused, confusion, metrics, mistakes
from runs.openworld import figures


def outputs(logits: torch.Tensor, label: torch.Tensor, batch: int = 7, **test: bool):
    """What the evaluator keeps of logits (N, C) and labels (N,), given in batches."""
    cfg = get_cfg_default()
    cfg.TEST.update(test)
    evaluator = build_evaluator(cfg)
    for one in zip(logits.split(batch), label.split(batch), strict=True):
        evaluator.process(*one)
    return evaluator.outputs


def drawn(seed: int, n: int, classes: int, scale: float = 5.0):
    """Random logits of float32 and labels, each class once at least."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, classes, generator=generator)
    label = torch.randint(classes, (n,), generator=generator)
    label[:classes] = torch.arange(classes)
    logits[torch.arange(n), label] += scale / 2  # so that something is right
    return logits, label


@given(st.integers(0, 10**6), st.integers(6, 30), st.integers(0, 200), st.sampled_from([0.1, 5.0]))
def test_the_figures_are_those_of_other_libraries(seed, classes, more, scale):
    logits, label = drawn(seed, classes + more, classes, scale)
    found = metrics(outputs(logits, label))
    probability = logits.double().softmax(1)
    names = np.arange(classes)
    expected = {
        "top5_accuracy": 100 * reference.top_k_accuracy_score(label, logits, k=5, labels=names),
        "mean_class_accuracy": 100 * reference.balanced_accuracy_score(label, logits.argmax(1)),
        "ece": 100 * float(multiclass_calibration_error(probability, label, classes, 15, "l1")),
        "nll": reference.log_loss(label, probability, labels=names),
    }
    assert list(found) == list(expected)
    for name, value in expected.items():
        # percent of float32 in torchmetrics
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-5 if name == "ece" else 1e-9)


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(0, 60))
def test_matrix_and_counts_are_those_of_scikit_learn(seed, classes, more):
    logits, label = drawn(seed, classes + more, classes)
    found = outputs(logits, label)
    matrix = reference.confusion_matrix(label, logits.argmax(1), labels=np.arange(classes))
    assert np.array_equal(confusion(found, classes), matrix)
    images, hits = class_counts(found, classes + 2)
    assert images.tolist() == [*matrix.sum(1), 0, 0]
    assert hits.tolist() == [*matrix.diagonal(), 0, 0]
    pairs = confused(found, classes, classes**2)
    assert {(a, b): n for a, b, n in pairs} == {
        (a, b): matrix[a, b] for a, b in zip(*matrix.nonzero(), strict=True) if a != b
    }
    assert [n for _, _, n in pairs] == sorted((n for _, _, n in pairs), reverse=True)


def test_batches_make_no_difference():
    logits, label = drawn(1, 50, 8)
    one, many = (outputs(logits, label, batch) for batch in (50, 3))
    assert one.keys() == many.keys() and all(np.array_equal(one[k], many[k]) for k in one)


def of(confidence: list[float], right: list[bool]) -> dict[str, np.ndarray]:
    """Outputs of two classes; the second one is always meant."""
    top = np.array([[1, 0] if hit else [0, 1] for hit in right])
    nll = -np.log([c if hit else 1 - c for c, hit in zip(confidence, right, strict=True)])
    label = np.ones(len(right), int)
    return {"label": label, "top": top, "confidence": np.array(confidence), "nll": nll}


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    found = calibration(of([0.5, 0.75, 0.75, 1.0], [True, False, True, True]), bins=4)
    assert [(one.low, one.high, one.images) for one in found] == [
        (0.0, 0.25, 0),
        (0.25, 0.5, 1),
        (0.5, 0.75, 2),
        (0.75, 1.0, 1),
    ]
    assert (found[2].confidence, found[2].accuracy) == (0.75, 0.5)
    assert math.isnan(found[0].accuracy)


def test_mistakes_come_by_confidence_and_right_answers_never():
    found = of([0.6, 0.9, 0.8, 0.99], [False, False, False, True])
    assert mistakes(found).tolist() == [1, 2, 0]
    assert mistakes(found, 1).tolist() == [1]


def test_of_fewer_than_five_classes_the_label_is_always_among_the_five():
    found = outputs(*drawn(3, 20, 3))
    assert found["top"].shape == (20, 3) and metrics(found)["top5_accuracy"] == 100.0


def test_of_equal_logits_the_prediction_stands_first_and_no_class_twice():
    found = outputs(torch.zeros(4, 9), torch.tensor([0, 1, 2, 8]))
    assert found["top"][:, 0].tolist() == [0] * 4
    assert all(len(set(row)) == 5 for row in found["top"].tolist())


def test_a_label_that_is_ruled_out_has_no_finite_likelihood():
    logits = torch.tensor([[1.0, -math.inf], [1.0, 0.0]])
    assert metrics(outputs(logits, torch.tensor([1, 0])))["nll"] is None


def test_logits_are_kept_in_half_precision_where_it_is_asked_for():
    logits, label = drawn(4, 20, 6)
    assert "logits" not in outputs(logits, label)
    kept = outputs(logits, label, PREDICTIONS=True)["logits"]
    assert kept.dtype == np.float16 and np.array_equal(kept, logits.half().numpy())


@pytest.mark.parametrize("why", ["too many", "too large"])
def test_logits_that_take_too_much_room_or_do_not_fit_are_left_out(monkeypatch, why):
    logits, label = drawn(5, 20, 6)
    if why == "too many":
        monkeypatch.setattr(module, "LOGITS_LIMIT", 20 * 6 * 2 - 1)
    else:
        logits[11, 2] = 1e6  # after the first batch
    kept = outputs(logits, label, PREDICTIONS=True)
    assert "logits" not in kept and len(kept["label"]) == 20


def half(seed: int, n: int, levels: int) -> dict[str, np.ndarray]:
    """What figures() reads of n images, with scores that are often equal."""
    random = np.random.default_rng(seed)
    flags = {name: random.random(n) < 0.7 for name in ("right", "right_of_all")}
    scores = ("score", "score_of_all")
    return {**flags, **{name: random.integers(0, levels, n) / levels for name in scores}}


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 40), st.integers(1, 100))
def test_open_world_figures_are_those_of_all_pairs(seed, n, m, levels):
    base, new = half(seed, n, levels), half(seed + 1, m, levels)
    found = figures(base, new)
    pairs = [
        base["right"][i] and new["right"][j] and base["score_of_all"][i] > new["score_of_all"][j]
        for i in range(n)
        for j in range(m)
    ]
    is_base, score = [1] * n + [0] * m, np.concatenate([base["score"], new["score"]])
    assert found == pytest.approx(
        {
            "base": 100 * base["right_of_all"].mean(),
            "new": 100 * new["right_of_all"].mean(),
            "auroc": 100 * reference.roc_auc_score(is_base, score),
            "openworld_auc": 100 * np.mean(pairs),
        },
        rel=1e-9,
    )
