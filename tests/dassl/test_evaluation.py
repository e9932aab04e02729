"""Metrics, their printed block, and accuracy of a batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator
from dassl.evaluation import evaluator as evaluator_module
from dassl.metrics import compute_accuracy
from dassl.utils import UserError

NAMES = {0: "cat", 1: "dog", 2: "owl"}


def evaluator(tmp_path, **options):
    cfg = get_cfg_default()
    cfg.TEST.update(options)
    cfg.OUTPUT_DIR = str(tmp_path)
    return build_evaluator(cfg, lab2cname=NAMES)


def feed(evaluator, pairs):
    """Process logits that predict the second of each pair."""
    true, pred = (torch.tensor(column) for column in zip(*pairs, strict=True))
    evaluator.process(torch.eye(3)[pred], true)


# cat: 2 of 3, dog: 1 of 1; one cat taken for an owl
PAIRS = [(0, 0), (0, 0), (0, 2), (1, 1)]
# f1: cat 2*1*(2/3)/(5/3) = 0.8, dog 1; the owl is never true, so it does not count
MACRO_F1 = 90.0


def test_metrics_are_python_floats_in_order(tmp_path, capsys):
    ev = evaluator(tmp_path)
    feed(ev, PAIRS[:2])
    feed(ev, PAIRS[2:])
    results = ev.evaluate()
    assert list(results) == ["accuracy", "error_rate", "macro_f1"]
    assert list(results.values()) == pytest.approx([75.0, 25.0, MACRO_F1])
    assert {type(value) for value in results.values()} == {float}
    assert (ev.total, ev.correct, ev._total, ev._correct) == (4, 3, 4, 3)
    assert capsys.readouterr().out == (
        "Loading evaluator: Classification\n"
        "=> result\n"
        "* total: 4\n"
        "* correct: 3\n"
        "* accuracy: 75.0%\n"
        "* error: 25.0%\n"
        "* macro_f1: 90.0%\n"
    )


def test_thousands_are_separated_and_rounded_to_one_decimal(tmp_path, capsys):
    ev = evaluator(tmp_path)
    feed(ev, [(0, 0)] * 365 + [(1, 0)] * 1135)
    capsys.readouterr()
    ev.evaluate()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "=> result",
        "* total: 1,500",
        "* correct: 365",
        "* accuracy: 24.3%",
        "* error: 75.7%",
    ]


def test_per_class_lines_and_their_mean(tmp_path, capsys):
    ev = evaluator(tmp_path, PER_CLASS_RESULT=True)
    feed(ev, PAIRS)
    capsys.readouterr()
    results = ev.evaluate()
    assert list(results) == ["accuracy", "error_rate", "macro_f1", "perclass_accuracy"]
    assert type(results["perclass_accuracy"]) is float
    assert results["perclass_accuracy"] == pytest.approx((100 * 2 / 3 + 100) / 2)
    assert capsys.readouterr().out.splitlines()[6:] == [
        "=> per-class result",
        "* class: 0 (cat)\ttotal: 3\tcorrect: 2\tacc: 66.7%",
        "* class: 1 (dog)\ttotal: 1\tcorrect: 1\tacc: 100.0%",
        "* average: 83.3%",
    ]


def test_confusion_matrix_is_a_tensor_that_loads_without_code(tmp_path, capsys):
    ev = evaluator(tmp_path, COMPUTE_CMAT=True)
    feed(ev, PAIRS)
    ev.evaluate()
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=True)
    expected = torch.tensor([[2 / 3, 0, 1 / 3], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)
    assert matrix.dtype == torch.float64
    torch.testing.assert_close(matrix, expected, atol=1e-7, rtol=0)
    assert f"Confusion matrix is saved to {tmp_path}/cmat.pt\n" in capsys.readouterr().out


def test_confusion_matrix_has_a_row_for_every_class(tmp_path):
    ev = evaluator(tmp_path, COMPUTE_CMAT=True)
    feed(ev, [(2, 0)])
    ev.evaluate()
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=True)
    assert matrix.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_reset_forgets_and_an_empty_evaluation_is_refused(tmp_path):
    ev = evaluator(tmp_path)
    feed(ev, PAIRS)
    ev.reset()
    assert (ev.total, ev.correct) == (0, 0)
    with pytest.raises(UserError, match="Nothing to evaluate"):
        ev.evaluate()
    feed(ev, [(1, 1)])
    assert ev.evaluate()["accuracy"] == 100.0


def test_the_first_of_equal_logits_counts(tmp_path):
    ev = evaluator(tmp_path)
    ev.process(torch.zeros(1, 3), torch.tensor([0]))
    assert ev.correct == 1


def test_evaluators_are_built_by_name():
    cfg = get_cfg_default()
    cfg.TEST.EVALUATOR = "Clasification"
    with pytest.raises(UserError, match=r"do you mean \[Classification\]\?"):
        build_evaluator(cfg)
    cfg.TEST.EVALUATOR = "Classification"
    cfg.TEST.PER_CLASS_RESULT = True
    with pytest.raises(UserError, match="class names"):
        build_evaluator(cfg)


LOGITS = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 2.0, 1.0]])
LABELS = torch.tensor([0, 1, 0, 2])


def test_accuracy_for_each_k():
    found = compute_accuracy(LOGITS, LABELS, topk=(1, 2, 3))
    assert [value.shape for value in found] == [(1,)] * 3
    assert [value.item() for value in found] == [25.0, 75.0, 100.0]


def test_accuracy_takes_the_first_of_several_outputs():
    assert compute_accuracy((LOGITS, None), LABELS)[0].item() == 25.0  # type: ignore[arg-type]
    assert compute_accuracy([LOGITS, LOGITS], LABELS)[0].item() == 25.0


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_macro_f1_is_scikit_learns_over_the_classes_that_occur(pairs):
    ev = build_evaluator(get_cfg_default())
    true, pred = zip(*pairs, strict=True)
    ev.process(torch.eye(7)[list(pred)], torch.tensor(true))
    expected = f1_score(true, pred, average="macro", labels=sorted(set(true)))
    assert ev.evaluate()["macro_f1"] == 100.0 * float(expected)


def test_a_class_may_be_ruled_out(tmp_path):
    ev = evaluator(tmp_path)
    ev.process(torch.tensor([[1.0, 2.0, float("-inf")]]), torch.tensor([1]))
    assert (ev.total, ev.correct) == (1, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_stop_the_evaluation(tmp_path, value):
    ev = evaluator(tmp_path)
    feed(ev, PAIRS)
    logits = torch.eye(3)
    logits[1, :] = value if value < 0 else logits[1]
    logits[1, 2] = value
    message = "Logits of 1 of 3 images of a batch are NaN or infinite, the first is image 5 of"
    with pytest.raises(FloatingPointError, match=message):
        ev.process(logits, torch.tensor([0, 1, 2]))
    assert ev.total == 4


def test_base_and_new_classes_have_a_confusion_matrix_each(tmp_path):
    for subset, name in (("base", "cmat_base.pt"), ("new", "cmat_new.pt"), ("all", "cmat.pt")):
        cfg = get_cfg_default()
        cfg.TEST.COMPUTE_CMAT, cfg.OUTPUT_DIR = True, str(tmp_path)
        cfg.DATASET.SUBSAMPLE_CLASSES = subset
        ev = build_evaluator(cfg, lab2cname=NAMES)
        feed(ev, PAIRS)
        ev.evaluate()
        assert (tmp_path / name).is_file()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("limit", [2**27, 100])
@pytest.mark.parametrize("together", [3, 100])
def test_batches_that_are_counted_together_are_counted_the_same(monkeypatch, together, limit):
    monkeypatch.setattr(evaluator_module, "LOGITS_LIMIT", limit)
    generator = torch.Generator().manual_seed(1)
    batches = [
        (torch.randn(n, 7, generator=generator), torch.randint(7, (n,), generator=generator))
        for n in (5, 5, 5, 5, 2)
    ]
    found = []
    for at_once in (1, together):
        monkeypatch.setattr(evaluator_module, "_at_once", lambda device, n=at_once: n)
        cfg = get_cfg_default()
        cfg.TEST.PREDICTIONS = True
        ev = build_evaluator(cfg)
        for place, batch in enumerate(batches):
            ev.process(*batch)
            if place == 3:
                assert (ev.total, ev._total, len(ev._y_pred)) == (20, 20, 20)
        found.append((ev.evaluate(), ev.correct, ev._y_true, ev._y_pred, ev.outputs))
    first, second = found
    assert first[:4] == second[:4] and first[4].keys() == second[4].keys()
    assert ("logits" in first[4]) == (limit > 100) and "fits" not in first[4]
    assert all((first[4][name] == second[4][name]).all() for name in first[4])


def test_logits_that_are_not_finite_are_told_when_they_are_counted(monkeypatch):
    monkeypatch.setattr(evaluator_module, "_at_once", lambda device: 100)
    ev = build_evaluator(get_cfg_default())
    for value in (1.0, float("nan"), 1.0):
        ev.process(torch.full((3, 2), value), torch.zeros(3, dtype=torch.long))
    message = "Logits of 3 of 3 images of a batch are NaN or infinite, the first is image 3 of"
    with pytest.raises(FloatingPointError, match=message):
        ev.evaluate()


def test_a_guest_may_count_by_itself():
    ev = build_evaluator(get_cfg_default())
    ev._correct += 2
    ev._total += 3
    ev._y_true.extend([0, 1, 1])
    ev._y_pred.extend([0, 1, 0])
    assert (ev.correct, ev.total) == (2, 3)
    assert ev.evaluate()["accuracy"] == 100 * 2 / 3
