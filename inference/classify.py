"""Classify images with a trained prompt: `predict` returns plain structures."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dassl.utils import UserError
from datasets.files import some
from inference.images import batches, find_images
from inference.prompt import Prompt, load_prompt
from runs.machine import device_name


def predict(
    run: Prompt | Path | str,
    images: Any,
    classes: Sequence[str] | None = None,
    *,
    top: int = 5,
    batch: int = 64,
    epoch: int | None = None,
    backbone: str = "",
    data: Path | str | None = None,
) -> dict[str, Any]:
    """Classify images.

    Args:
        run: a folder as `load_prompt` takes it, or what that returned.
        images: one or more of: a path of an image or folder, a glob, a `PIL.Image`.
        classes: see `load_prompt`.
        epoch, backbone, data: the same, where `run` is a folder.
        top: classes to tell for each image, the likeliest first; at most C are.
        batch: images that are computed at once.

    Returns:
        What JSON can hold: `run`, `method`, `backbone`, `device`, `logit_scale`, `classes` (C
        names); `predictions`, one for each image in the order of `images`: `image`, `label`,
        `probability`, and `top`, a list of `class`, `probability` (softmax over the C classes) and
        `logit`; `unreadable`, images that were left out: `image`, `error`.

    Raises:
        UserError: no image is named, or see `load_prompt`.
        FloatingPointError: logits are not finite.
    """
    for name, value in (("top", top), ("batch", batch)):
        if value < 1:
            raise UserError(f"{name} is {value}, expected 1 or more")
    words = [images] if isinstance(images, str) or not isinstance(images, Iterable) else images
    found, problems = find_images(words)
    if not found:
        told = "; ".join(f"{one['image']}: {one['error']}" for one in problems[:5])
        raise UserError(f"no images to classify{f' ({told})' if told else ': name some'}")
    if isinstance(run, Prompt):
        prompt = run if classes is None else run.for_classes(classes)
    else:
        prompt = load_prompt(run, classes, epoch=epoch, backbone=backbone, data=data)
    predictions = []
    for names, pixels in batches(found, prompt.transform, batch, problems):
        logits = _logits(prompt, pixels, names)
        predictions += [
            {"image": name, **ranked(row, prompt.classes, top)}
            for name, row in zip(names, logits, strict=True)
        ]
    return {
        "run": str(prompt.source.path),
        "method": prompt.source.method,
        "backbone": prompt.trainer.cfg.MODEL.BACKBONE.NAME,
        "device": device_name(prompt.trainer.device),
        "logit_scale": prompt.logit_scale,
        "classes": list(prompt.classes),
        "predictions": predictions,
        "unreadable": problems,
    }


def ranked(logits: Tensor, classes: Sequence[str], top: int) -> dict[str, Any]:
    """The likeliest classes of an image with logits (C,); of equal ones the first counts."""
    probabilities = logits.double().softmax(dim=0)
    order = logits.argsort(descending=True, stable=True)[:top].tolist()
    best = [
        {"class": classes[c], "probability": float(probabilities[c]), "logit": float(logits[c])}
        for c in order
    ]
    return {"label": best[0]["class"], "probability": best[0]["probability"], "top": best}


def _logits(prompt: Prompt, pixels: Tensor, names: list[str]) -> Tensor:
    """Logits (B, C) that are numbers."""
    try:
        logits = prompt.logits(pixels)
    except torch.OutOfMemoryError as error:
        raise UserError(f"{error} A smaller batch (--batch) needs less memory.") from error
    wrong = [name for name, row in zip(names, logits, strict=True) if not row.isfinite().all()]
    if wrong:
        raise FloatingPointError(
            f"logits of {len(wrong)} images are NaN or infinite ({some(wrong)}): nothing is "
            "predicted. The training diverged or its checkpoint is damaged: name another epoch "
            "(--load-epoch), or train again"
        )
    return logits
