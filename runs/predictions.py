"""predictions.npz: what a model said of each image of a test, beside the test's results.json.

Members of the file, for N images and C classes, all readable by `numpy.load`: path (N,), below the
dataset's folder; label (N,); top (N, up to 5) classes, the prediction first; confidence (N,), the
largest probability, and nll (N,), minus the log of the label's, both in float64; logits (N, C) in
float16, unless they take too much room; classnames (C,); about, a JSON text: the results that the
file is of, the logit scale, and the name of the features in the cache.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dassl.utils import UserError, atomic_open
from runs.inputs import data_place
from runs.metrics import metrics
from runs.results import identity, writing
from trainers.features.cache import entry_name

FILE = "predictions.npz"
_OUTPUTS = ("label", "top", "confidence", "nll", "logits")
MAKE = "python -m tools.predictions make"


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of each of N images.

    Attributes:
        outputs: see `dassl.evaluation.Classification.outputs`; logits may be absent.
        paths: of the images, below the dataset's folder; absolute for others.
        classnames: of the C classes.
        logit_scale: what the cosines were multiplied by; None where the method does not tell.
        features: `<kind>/<digest>` of the image features in the cache; "" where none were used.
        of: `runs.results.identity` of the results.
    """

    outputs: Mapping[str, np.ndarray]
    paths: list[str]
    classnames: list[str]
    logit_scale: float | None
    features: str
    of: dict[str, Any]

    def metrics(self) -> dict[str, float | None]:
        """The same figures as in results.json."""
        return metrics(self.outputs)


def tested_loader(trainer: Any) -> Any:
    """The loader of the images that a trainer tests, as TEST.SPLIT says."""
    return trainer.val_loader if trainer.cfg.TEST.SPLIT == "val" else trainer.test_loader


def check_can_keep(trainer: Any) -> None:
    """Refuse TEST.PREDICTIONS where nobody could say which image a prediction is of.

    Raises:
        UserError: naming the setting to change.
    """
    cfg = trainer.cfg
    sampler = cfg.DATALOADER.TEST.SAMPLER
    if sampler != "SequentialSampler":
        raise UserError(
            f"TEST.PREDICTIONS needs test images in the order of their list, and DATALOADER.TEST."
            f"SAMPLER is {sampler}: set it to SequentialSampler, or TEST.PREDICTIONS False"
        )
    loader = tested_loader(trainer)
    listed = hasattr(getattr(loader, "dataset", None), "data_source")
    if not listed or not hasattr(trainer.evaluator, "outputs"):
        what = f"the loader of {cfg.TRAINER.NAME}" if not listed else cfg.TEST.EVALUATOR
        raise UserError(
            f"TEST.PREDICTIONS is True, but {what} does not tell what was said of which image: "
            "set TEST.PREDICTIONS False"
        )


def gather(trainer: Any, results: Mapping[str, Any]) -> Predictions:
    """The predictions of a trainer's last test.

    Args:
        results: of this test, as they stand or will stand in results.json.

    Raises:
        UserError: the images that were tested are not those of the list.
    """
    loader, outputs = tested_loader(trainer), trainer.evaluator.outputs
    items = loader.dataset.data_source
    if not np.array_equal([item.label for item in items], outputs["label"]):
        raise UserError(
            f"{trainer.cfg.TRAINER.NAME} did not test the images in the order of their list, so "
            "nobody can say which image a prediction is of: set TEST.PREDICTIONS False"
        )
    place = data_place(trainer.cfg)
    folder = place if os.path.isdir(place) else os.path.dirname(place)
    scale = getattr(getattr(trainer, "clip", None), "logit_scale", None)
    key = getattr(loader, "key", None)
    return Predictions(
        outputs,
        [item.impath.removeprefix(os.path.join(folder, "")) for item in items],
        [trainer.lab2cname[label] for label in range(trainer.num_classes)],
        None if scale is None else float(scale),
        entry_name(key) if key else "",
        identity(results),
    )


def write_predictions(folder: Path, found: Predictions) -> None:
    """Write the file into the folder of a test, complete or not at all.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / FILE
    about = {"of": found.of, "logit_scale": found.logit_scale, "features": found.features}
    outputs = dict(found.outputs)
    outputs |= {name: outputs[name].astype(np.int32) for name in ("label", "top")}
    texts = {"path": found.paths, "classnames": found.classnames, "about": json.dumps(about)}
    with writing(path), atomic_open(path, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **outputs, **texts)


def read_predictions(folder: Path, results: Mapping[str, Any]) -> Predictions:
    """The predictions in the folder of a test.

    Args:
        results: of the test, from results.json.

    Raises:
        UserError: there are none, the file is damaged, or it is of other results.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"there is no {path}: {MAKE} {folder} makes it, or TEST.PREDICTIONS True")
    try:
        with np.load(path, allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
        about = json.loads(str(members["about"]))
        found = Predictions(
            {name: members[name] for name in _OUTPUTS if name in members},
            members["path"].tolist(),
            members["classnames"].tolist(),
            about["logit_scale"],
            about["features"],
            about["of"],
        )
        _check_shapes(found)
    except Exception as error:  # the readers raise anything on damaged bytes
        raise UserError(f"{path} is damaged ({error}): {MAKE} {folder} makes it anew") from error
    if found.of != identity(results):
        raise UserError(
            f"{path} is of other results than {folder / 'results.json'}: {MAKE} {folder} makes it "
            "anew"
        )
    return found


def _check_shapes(found: Predictions) -> None:
    N, C = len(found.paths), len(found.classnames)
    outputs = found.outputs
    shapes = {"label": (N,), "confidence": (N,), "nll": (N,), "logits": (N, C)}
    shapes["top"] = (N, outputs["top"].shape[1])
    wrong = [name for name, array in outputs.items() if array.shape != shapes[name]]
    if wrong or not N or not shapes["top"][1]:
        raise ValueError(f"{', '.join(wrong) or 'path'} of a wrong size")
    kinds = {name: "i" if name in ("label", "top") else "f" for name in outputs}
    if any(array.dtype.kind != kinds[name] for name, array in outputs.items()):
        raise ValueError("a member of a wrong type")
    for name in ("label", "top"):
        if outputs[name].min() < 0 or outputs[name].max() >= C:
            raise ValueError(f"{name} is no class")
    if set(_OUTPUTS) - {"logits"} - outputs.keys():
        raise ValueError("a member is not there")
