"""Accuracy, macro F1, per-class accuracy and confusion matrix."""

import os.path as osp
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from dassl.utils import UserError, atomic_open

from .build import EVALUATOR_REGISTRY

__all__ = ["Classification", "EvaluatorBase"]

TOP = 5  # likeliest classes that are kept of each image
WAITING = 16  # batches whose figures stay on a GPU until the host reads them, all at once
LOGITS_LIMIT = 2**27  # bytes of the logits that are kept; more than ImageNet's in half precision


class EvaluatorBase:
    """Interface of an evaluator."""

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg

    def reset(self) -> None:
        """Forget what was processed."""
        raise NotImplementedError

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add a batch: model output and ground truth."""
        raise NotImplementedError

    def evaluate(self) -> OrderedDict[str, float]:
        """Return the metrics, the main one first, and print them."""
        raise NotImplementedError


class _Counted:
    """An attribute that is up to date when it is read: batches that wait are counted first."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = f"counted{name}"

    def __get__(self, evaluator: Any, owner: type) -> Any:
        if evaluator is None:
            return self
        evaluator._count()
        return vars(evaluator)[self._key]

    def __set__(self, evaluator: Any, value: Any) -> None:
        vars(evaluator)[self._key] = value


def _at_once(device: torch.device) -> int:
    """Batches that are counted together."""
    return WAITING if device.type == "cuda" else 1


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Top-1 classification (Dassl API, section 5).

    Batches on a GPU are counted `WAITING` at a time, or once a figure is read, so that the host
    does not wait for each.
    """

    _correct: Any = _Counted()
    _total: Any = _Counted()
    _y_true: Any = _Counted()
    _y_pred: Any = _Counted()
    _outputs: Any = _Counted()

    def __init__(
        self, cfg: CfgNode, lab2cname: Mapping[int, str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(cfg)
        self._lab2cname = lab2cname
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise UserError("TEST.PER_CLASS_RESULT needs the class names: pass lab2cname")
        self.reset()

    def reset(self) -> None:
        """Forget what was processed."""
        self._waiting: list[dict[str, torch.Tensor]] = []
        self._correct = 0
        self._total = 0
        self._y_true = []  # labels and predictions, numbers
        self._y_pred = []
        self._outputs = []  # of each batch, tensors by name
        self._keeps_logits = bool(self.cfg.TEST.get("PREDICTIONS", False))
        self.results: OrderedDict[str, float] = OrderedDict()  # of the last evaluate()

    @property
    def total(self) -> int:
        """Number of images processed."""
        return self._total

    @property
    def correct(self) -> int:
        """Number of images classified correctly."""
        return self._correct

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        """What is kept of each of the N images that were processed, in their order.

        Returns:
            label (N,); top (N, up to 5), the likeliest classes, the prediction first; confidence
            (N,), the largest probability, and nll (N,), minus the log of the label's, both in
            float64; with TEST.PREDICTIONS also logits (N, C) in float16, unless they take more
            than `LOGITS_LIMIT` bytes or do not fit float16.
        """
        names = self._outputs[0] if self._outputs else ()
        joined = {name: torch.cat([one[name] for one in self._outputs]) for name in names}
        return {name: value.numpy() for name, value in joined.items()}

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add logits (B, C) and labels (B,); of equal logits the first class counts.

        Raises:
            FloatingPointError: the largest logit of an image is NaN or infinite. Single classes
                may be ruled out by minus infinity. On a GPU a later call may tell it.
        """
        self._waiting.append(self._figures(mo.detach(), gt))
        if len(self._waiting) >= _at_once(mo.device):
            self._count()

    def _figures(self, mo: torch.Tensor, gt: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is counted and kept of a batch, on its device, a row for each image."""
        highest, pred = mo.max(1)
        top = mo.topk(min(TOP, mo.shape[1]), dim=1).indices
        # of equal logits topk may put another class first than max
        top = torch.where(top == pred[:, None], top[:, :1], top)
        top[:, 0] = pred
        log = mo.double().log_softmax(1)
        found = {
            "finite": highest.isfinite(),
            "label": gt,
            "top": top,
            "confidence": log.max(1).values.exp(),
            "nll": -log.gather(1, gt[:, None].long()).squeeze(1),
        }
        if self._keeps_logits:
            half = mo.half()
            found["logits"] = half
            found["fits"] = (half.isfinite() == mo.isfinite()).all(1)
        return found

    def _count(self) -> None:
        """Count the batches that wait; the host waits for their device once."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        sizes = [len(found["label"]) for found in waiting]
        host = {
            name: torch.cat([found[name] for found in waiting]).cpu().split(sizes)
            for name in waiting[0]
        }
        for place in range(len(sizes)):
            self._add({name: parts[place] for name, parts in host.items()})

    def _add(self, found: dict[str, torch.Tensor]) -> None:
        """Count a batch, and keep what `outputs` returns of it."""
        wrong = ~found.pop("finite")
        if wrong.any():
            first = self._total + int(wrong.nonzero()[0])
            raise FloatingPointError(
                f"Logits of {int(wrong.sum())} of {len(wrong)} images of a batch are NaN or "
                f"infinite, the first is image {first} of the list (counted from 0): nothing is "
                "predicted. Either the model diverged or its checkpoint is damaged: load another "
                "epoch, or train with a lower OPTIM.LR or a higher precision."
            )
        gt, pred = found["label"], found["top"][:, 0]
        self._correct += int(pred.eq(gt).sum())
        self._total += len(gt)
        self._y_true.extend(gt.tolist())
        self._y_pred.extend(pred.tolist())
        if self._keeps_logits:
            half = found["logits"]
            takes = self._total * half.shape[1] * half.element_size()
            self._keeps_logits = takes <= LOGITS_LIMIT and bool(found.pop("fits").all())
        self._outputs.append(found)
        if not self._keeps_logits:
            for one in self._outputs:
                one.pop("logits", None)
                one.pop("fits", None)

    def evaluate(self) -> OrderedDict[str, float]:
        """Return accuracy, error_rate and macro_f1 in percent (and perclass_accuracy if asked for).

        Raises:
            UserError: nothing was processed.
        """
        if self._total == 0:
            raise UserError("Nothing to evaluate: no image was processed")
        accuracy = 100.0 * self._correct / self._total
        macro_f1 = 100.0 * self._macro_f1()
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=macro_f1)
        print(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {100.0 - accuracy:.1f}%\n"
            f"* macro_f1: {macro_f1:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._per_class()
        if self.cfg.TEST.COMPUTE_CMAT:
            self._save_confusion_matrix()
        self.results = results
        return results

    def _macro_f1(self) -> float:
        """Mean over the classes that occur of 2 * hits / (images + predictions), each counted.

        As scikit-learn's f1_score, which takes longer to import than a small split to evaluate.
        """
        true, pred = np.array(self._y_true), np.array(self._y_pred)
        size = max(true.max(), pred.max()) + 1
        hits, images, predictions = (
            np.bincount(labels, minlength=size) for labels in (true[true == pred], true, pred)
        )
        occurs = images > 0
        return float(np.mean(2 * hits[occurs] / (images + predictions)[occurs]))

    def _per_class(self) -> float:
        """Print one line per class and return the mean of the class accuracies."""
        assert self._lab2cname is not None
        true, hit = np.array(self._y_true), np.equal(self._y_true, self._y_pred)
        accuracies = []
        print("=> per-class result")
        for label in sorted(set(self._y_true)):
            hits = hit[true == label]
            accuracies.append(100.0 * int(hits.sum()) / len(hits))
            print(
                f"* class: {label} ({self._lab2cname[label]})\t"
                f"total: {len(hits):,}\t"
                f"correct: {int(hits.sum()):,}\t"
                f"acc: {accuracies[-1]:.1f}%"
            )
        mean = sum(accuracies) / len(accuracies)
        print(f"* average: {mean:.1f}%")
        return mean

    def _save_confusion_matrix(self) -> None:
        """Save the matrix, row-normalised (row: true class), as a float64 tensor."""
        from sklearn.metrics import confusion_matrix

        labels = sorted(self._lab2cname) if self._lab2cname else None
        matrix = confusion_matrix(self._y_true, self._y_pred, labels=labels, normalize="true")
        # CoOp's runs test base and new classes in one folder
        subset = self.cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")
        name = "cmat.pt" if subset == "all" else f"cmat_{subset}.pt"
        path = osp.join(self.cfg.OUTPUT_DIR, name)
        with atomic_open(path, "wb") as file:
            torch.save(torch.from_numpy(matrix), file)
        print(f"Confusion matrix is saved to {path}")
