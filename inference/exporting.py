"""Write a trained prompt as a folder that needs neither this project nor the run."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dassl.utils import UserError
from datasets.files import some
from inference.card import card
from inference.onnx_file import check_packages, write_onnx
from inference.prompt import Prompt, load_prompt
from inference.source import Source
from runs.config import label_of
from runs.folder import settings_hash, versions
from runs.results import writing
from trainers.backbones.families import family_of, find_weights
from trainers.backbones.weights import file_sha256
from trainers.errors import MethodError
from trainers.exported import FORMAT, PROMPT, TENSORS, VERSION, is_export, read_prompt

CLASSIFIER, ARRAYS, CARD, ONNX = "classifier.pt", "classifier.npz", "README.md", "model.onnx"
OURS = (PROMPT, TENSORS, CLASSIFIER, ARRAYS, CARD, ONNX)


def export(
    run: Path | str,
    out: Path | str,
    classes: Sequence[str] | None = None,
    *,
    onnx: bool = False,
    epoch: int | None = None,
    backbone: str = "",
    data: Path | str | None = None,
) -> Path:
    """Write a prompt to a folder, complete or not at all.

    Args:
        run, classes, epoch, backbone, data: see `load_prompt`.
        out: the folder; it may hold an earlier export of the same run, which is replaced.
        onnx: write the image tower with the classifier as well.

    Returns:
        The folder.

    Raises:
        UserError: see `load_prompt`; the folder holds something else; a package is missing.
        MethodError: ONNX is asked for, and the method has no fixed classifier.
    """
    if onnx:
        check_packages()
    prompt = load_prompt(run, classes, epoch=epoch, backbone=backbone, data=data)
    out = Path(out).expanduser().resolve()
    _check_free(out, prompt.source)
    if onnx and prompt.why_no_classifier:
        raise MethodError(f"{prompt.why_no_classifier}, so that there is no ONNX file of one")

    def fill(folder: Path) -> None:
        _write_arrays(folder, prompt)
        if onnx:
            write_onnx(prompt, folder / ONNX)
        about = describe(prompt, given=classes is not None)
        for path in sorted(folder.iterdir()):
            about["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        text = json.dumps(about, indent=2, ensure_ascii=False)
        (folder / PROMPT).write_text(f"{text}\n", encoding="utf-8")
        (folder / CARD).write_text(card(about), encoding="utf-8")

    _write_folder(out, fill)
    return out


def _check_free(out: Path, source: Source) -> None:
    """Refuse a folder that holds anything but an earlier export of the same run."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"--out is {out}, which is a file: name a folder")
    names = sorted(os.listdir(out))
    if not names:
        return
    strangers = [name for name in names if name not in OURS]
    if strangers or not is_export(out):
        raise UserError(
            f"{out} is not empty, and no export that could be replaced ({some(strangers or names)} "
            "in it): name another folder (--out)"
        )
    before = read_prompt(out)["settings"]
    if before != source.settings:
        keys = sorted(before.keys() | source.settings.keys())
        differ = [key for key in keys if before.get(key) != source.settings.get(key)]
        raise UserError(
            f"{out} holds the export of another run ({some(differ)} differ): name another folder "
            "(--out)"
        )


def _write_folder(out: Path, fill: Callable[[Path], None]) -> None:
    """Let a folder appear under its name when it is complete; an earlier one goes only then."""
    new = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    old = out.with_name(f"{out.name}.old-{os.getpid()}")
    with writing(new / PROMPT, other="another --out"):
        try:
            fill(new)
            if out.exists():
                os.replace(out, old)
            try:
                os.replace(new, out)
            except OSError:
                if old.exists():
                    os.replace(old, out)
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _write_arrays(folder: Path, prompt: Prompt) -> None:
    """What was learned, where anything was; a classifier, where there is one."""
    if prompt.learned:
        from safetensors.torch import save_file

        save_file(prompt.learned, folder / TENSORS, metadata={"format": "pt"})
    if not prompt.why_no_classifier:
        classifier = prompt.class_features().T.contiguous()  # (D, C)
        torch.save(classifier, folder / CLASSIFIER)
        np.savez(
            folder / ARRAYS,
            classifier=classifier.numpy(),
            classnames=np.array(prompt.classes),
            logit_scale=np.float32(prompt.logit_scale),
        )


def describe(prompt: Prompt, given: bool) -> dict[str, Any]:
    """Content of prompt.json, but for the digests of files.

    Args:
        prompt: to be exported.
        given: the classes are not those of the run.
    """
    source, cfg = prompt.source, prompt.trainer.cfg
    learner, settings = prompt.trainer.prompt_learner, source.settings
    knobs, inputs = prompt.trainer.knobs, cfg.INPUT
    normalised = "normalize" in inputs.TRANSFORMS
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "method": source.method,
        "backbone": {
            "name": cfg.MODEL.BACKBONE.NAME,
            "sha256": file_sha256(find_weights(cfg.MODEL.BACKBONE.NAME)),
            **family_of(cfg.MODEL.BACKBONE.NAME).recipe(cfg.MODEL.BACKBONE.NAME),
        },
        "prompt": {
            "learned": {name: list(value.shape) for name, value in prompt.learned.items()},
            "n_ctx": getattr(learner, "n_ctx", None),
            "start": getattr(learner, "words", None),
            "position": knobs.get("CLASS_TOKEN_POSITION", "end") if learner is not None else None,
            "class_specific": bool(knobs.get("CSC", False)),
            "fixed_classifier": not prompt.why_no_classifier,
        },
        "templates": prompt.trainer.load_templates(cfg) if "POOL" in knobs else None,
        "logit_scale": prompt.logit_scale,
        "preprocessing": {
            "size": list(inputs.SIZE),
            "interpolation": inputs.INTERPOLATION,
            "crop": "center" if inputs.RESIZE == "shortest" else None,  # None: squashed
            "mean": list(inputs.PIXEL_MEAN) if normalised else None,
            "std": list(inputs.PIXEL_STD) if normalised else None,
            "instance_norm": "instance_norm" in inputs.TRANSFORMS,
        },
        "dataset": _trained_on(source),
        "class_subset": source.subset,
        "shots": settings.get("DATASET.NUM_SHOTS"),
        "seed": settings.get("SEED"),
        "protocol": next((one.get("protocol") for one in source.results.values()), None),
        "epoch": prompt.trainer.loaded_epoch or 0,
        "checkpoint": source.checkpoint,
        "config_hash": settings_hash(settings),
        "classes_given": given or bool(source.export and source.export.get("classes_given")),
        "classes": prompt.classes,
        "results": source.results,
        "settings": settings,
        "versions": source.export["versions"] if source.export else versions(),
        "files": {},
    }


def _trained_on(source: Source) -> str:
    """The dataset of the training; for own data a name that tells its folder."""
    told = source.settings
    name, path = told.get("DATASET.NAME", ""), told.get("DATASET.PATH", "")
    return told.get("DATASET.SOURCE") or label_of(name, path)
