"""openworld.json: how a model does on base and new images where nobody tells which are which.

It stands in the folder of a run of base2new, whose tests know whether an image is of a base or a
new class. All is computed from the features of the test images of both halves, which the tests
have left in the cache, and one pass of the text tower over all class names.

Two scores say how much an image looks like one of the base classes. Both are the largest
probability among them: by a softmax over their names alone, as of a model that knows no others (the
maximum softmax probability of Hendrycks and Gimpel 2017, arXiv 1610.02136; for CLIP, the maximum
concept matching of Ming et al. 2022, arXiv 2211.13445), and by a softmax over the names of all
classes.
"""

import io
import json
from collections import defaultdict
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from runs.inputs import Inputs
from runs.predictions import tested_loader
from runs.results import identity, readable_results, write_atomically

FILE = "openworld.json"
VERSION = 2  # of the figures; the first had the score among base classes for OpenworldAUC, too
# keys of the file, in percent -> their names in tables
FIGURES = {
    "base": "base of all",
    "new": "new of all",
    "auroc": "AUROC",
    "openworld_auc": "OpenworldAUC",
}


def figures(base: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What is told of N base and M new images, in percent.

    base and new are accuracies among the names of all classes. auroc is that of base against new
    images by their score, a tie counts as half. openworld_auc (Hua et al. 2025, arXiv
    2505.05180) is the share of the N * M pairs in which the base image has the higher score of all,
    is right among the base classes, and the new image is right among the new classes.

    Args:
        base, new: right (N,), among the classes of its half; right_of_all (N,), among all;
            score and score_of_all (N,), the largest probability of a base class among these, and
            among all.
    """
    lower = _below(base["score"], new["score"])
    ties = _below(base["score"], new["score"], "right") - lower
    pairs = len(base["score"]) * len(new["score"])
    both = _below(*(half["score_of_all"][half["right"]] for half in (base, new)))
    return {
        "base": 100 * float(base["right_of_all"].mean()),
        "new": 100 * float(new["right_of_all"].mean()),
        "auroc": 100 * (lower + ties / 2) / pairs,
        "openworld_auc": 100 * both / pairs,
    }


def _below(base: np.ndarray, new: np.ndarray, side: Any = "left") -> int:
    """Pairs whose new score is below the base score; with side "right" also equal ones."""
    return int(np.searchsorted(np.sort(new), base, side=side).sum())


def applies(folder: Path, results: Mapping[str, Any]) -> bool:
    """Whether results are of new classes, and those of base classes with the same model beside."""
    if results["classes"] != "new":
        return False
    base = readable_results(folder / "base" / "results.json")
    return base is not None and all(
        base.get(key) == results.get(key) for key in ("config_hash", "checkpoint", "seed")
    )


def write_openworld(
    trainer: Any, folder: Path, new: Mapping[str, Any], cheaply: bool = False
) -> dict[str, Any]:
    """Measure and write the file into the folder of a run, and return its content.

    Args:
        trainer: of the test of the new classes, with its model loaded.
        new: the results of this test, see `applies`.
        cheaply: only where it takes one pass of the text tower, and no image has to be read.

    Raises:
        UserError: it takes more, the method does not tell its logits of features or other names,
            or the base test was on other images than there are now.
    """
    from trainers.features.loaders import FeatureLoader  # needs torch

    loader, name = tested_loader(trainer), trainer.cfg.TRAINER.NAME
    if not isinstance(loader, FeatureLoader):
        raise UserError(f"CACHE.FEATURES is False, or {name} tests images by itself")
    if cheaply and trainer.image_conditional:
        raise UserError(f"{name} needs the text tower for each image")
    results = readable_results(folder / "base" / "results.json") or {}
    dataset, base = _base(trainer, results)
    if cheaply and not base.known:
        raise UserError("the features of the base images are not in the cache")
    names = list(dataset.classnames)
    model = trainer.for_classes([*names, *trainer.dm.dataset.classnames])
    middle = len(names)
    halves = (_said(model, base, middle, 0), _said(model, loader, middle, middle))
    found = {**figures(*halves), "of": bound_to(results, new)}
    write_atomically(folder / FILE, json.dumps(found, indent=2) + "\n")
    return found


def read_openworld(
    folder: Path, base: Mapping[str, Any], new: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The file in the folder of a run; None where it is not there, damaged or of other results."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        sound = all(0 <= found[key] <= 100 for key in FIGURES)
        bound = found["of"] == bound_to(base, new)
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if sound and bound else None


def bound_to(base: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What binds the file to the results of both halves, and to what its figures are."""
    return {"base": identity(base), "new": identity(new), "version": VERSION}


def _base(trainer: Any, results: Mapping[str, Any]) -> tuple[Any, Any]:
    """The lists of the base classes, and a loader of the features of their test images.

    Raises:
        UserError: they are not the images of these results.
    """
    from dassl.data.data_manager import build_data_loader  # both need torchvision
    from dassl.data.transforms import build_transform
    from trainers.features.loaders import split_features

    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.DATASET.SUBSAMPLE_CLASSES = "base"
    cfg.freeze()
    with redirect_stdout(io.StringIO()):  # the run has said it of its own half
        dataset = build_dataset(cfg)
        transform = build_transform(cfg, is_train=False)
    now = Inputs(cfg, dataset, trains=False).test
    if now.differs(results.get("data"), (results.get("content") or {}).get("test")):
        raise UserError(f"base was tested on other images or labels than there are{now.what()}")
    split, node = cfg.TEST.SPLIT, cfg.DATALOADER.TEST
    images = dataset.val if split == "val" else dataset.test
    loader = build_data_loader(
        cfg, node.SAMPLER, images, node.BATCH_SIZE, tfm=transform, is_train=False
    )
    return dataset, split_features(trainer, loader, cfg, split)


def _said(model: Any, loader: Any, middle: int, first: int) -> dict[str, np.ndarray]:
    """What `figures` reads of the images of a loader.

    Args:
        model: a method for all classes, those of base first.
        middle: how many base classes there are.
        first: the class that the loader calls 0.
    """
    import torch  # tables read the file without it

    own = slice(middle) if first == 0 else slice(middle, None)
    parts: dict[str, list[Any]] = defaultdict(list)
    with torch.no_grad(), redirect_stdout(io.StringIO()):
        for batch in loader:
            features, label = model.parse_batch_test(batch)
            logits = model.predict(features).double()  # (B, C)
            parts["right"].append(logits[:, own].argmax(1) == label)
            parts["right_of_all"].append(logits.argmax(1) == label + first)
            parts["score"].append(logits[:, :middle].softmax(1).amax(1))
            parts["score_of_all"].append(logits.softmax(1)[:, :middle].amax(1))
    return {name: torch.cat(found).cpu().numpy() for name, found in parts.items()}
