"""Exported prompts: the folder that `tools.export` writes, read where a run's folder is read.

`prompt.json` tells all that the tensors in `prompt.safetensors` belong to; docs/after_training.md
has its keys.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.backbones.tokens import from_plain
from trainers.errors import MethodError, brief
from trainers.yaml_files import load

if TYPE_CHECKING:
    from torch import Tensor  # slow to import, and who only looks for settings needs none

PROMPT, TENSORS = "prompt.json", "prompt.safetensors"
FORMAT, VERSION = "mopd-prompt", 1
# of what is read here and by whoever rebuilds the prompt
_KINDS: dict[str, tuple[type, ...]] = {
    "method": (str,),
    "backbone": (dict,),
    "templates": (list, type(None)),
    "classes": (list,),
    "class_subset": (str,),
    "epoch": (int,),
    "checkpoint": (str, type(None)),
    "results": (dict,),
    "settings": (dict,),
    "versions": (dict,),
    "files": (dict,),
}


def is_export(folder: Path | str) -> bool:
    """Whether a folder is that of an exported prompt."""
    return bool(str(folder)) and (Path(folder) / PROMPT).is_file()


def read_prompt(folder: Path | str) -> dict[str, Any]:
    """Content of an exported prompt's `prompt.json`.

    Raises:
        MethodError: it is damaged, no such file, or of a later version.
    """
    path = Path(folder) / PROMPT
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise MethodError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise MethodError(f"{path} is damaged ({error}): export the run again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise MethodError(f"{path} is not that of an exported prompt: it has no format {FORMAT}")
    if found.get("format_version") != VERSION:
        version = brief(found.get("format_version"))
        raise MethodError(
            f"{path} has format version {version}, but this version of the project reads "
            f"{VERSION}: export the run again, or use the project that wrote it"
        )
    for key, kinds in _KINDS.items():
        known = key in found and isinstance(found[key], kinds)
        if not known or isinstance(found[key], bool):
            raise MethodError(
                f"{path} is damaged ({key} is {brief(found.get(key))}): export the run again"
            )
    try:
        found["templates"] = found["templates"] and [*map(from_plain, found["templates"])]
    except (TypeError, AttributeError):
        found["templates"] = [None]
    names = [*found["classes"], *(found["templates"] or ())]
    if not found["classes"] or not all(isinstance(name, str) for name in names):
        raise MethodError(f"{path} is damaged (classes, templates): export the run again")
    if not all(_is_result(one) for one in found["results"].values()):
        raise MethodError(f"{path} is damaged (results): export the run again")
    if found["settings"].get("TRAINER.NAME") != found["method"]:
        raise MethodError(f"{path} is damaged (settings, method): export the run again")
    return found


def _is_result(one: Any) -> bool:
    """Whether something tells the dataset and the accuracy of a test."""
    accuracy = one.get("accuracy") if isinstance(one, dict) else None
    return type(accuracy) in (int, float) and isinstance(one.get("dataset"), str)


def read_tensors(folder: Path | str, prompt: dict[str, Any]) -> dict[str, Tensor]:
    """What was learned, by name, on the CPU; empty for a method that learns nothing.

    Args:
        folder: of the exported prompt.
        prompt: content of its `prompt.json`.

    Raises:
        MethodError: the file is missing, or not the one that was exported.
    """
    expected = prompt["files"].get(TENSORS)
    if expected is None:
        return {}
    from safetensors.torch import load as load_tensors  # most runs need none

    path = Path(folder) / TENSORS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MethodError(f"{path} cannot be read ({error.strerror}): export again") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise MethodError(
            f"{path} is damaged, or not the file that was exported with {PROMPT} beside it: "
            "export the run again"
        )
    return load_tensors(content)


def exported_checkpoint(folder: Path | str, epoch: int | None) -> dict[str, Any]:
    """An exported prompt in the form of a checkpoint: state_dict, epoch, trainer.

    Raises:
        MethodError: another epoch is asked for than was exported; see `read_prompt`.
    """
    prompt = read_prompt(folder)
    if epoch not in (None, prompt["epoch"]):
        raise MethodError(
            f"{folder} holds the prompt of epoch {prompt['epoch']}, not of epoch {epoch}: leave "
            "--load-epoch out"
        )
    state = read_tensors(folder, prompt)
    return {"state_dict": state, "epoch": prompt["epoch"], "trainer": prompt["method"]}


def trained_settings(folder: Path | str, error: type[Exception]) -> tuple[Path, Any] | None:
    """The file that tells the settings of a training, and what it tells; None without one.

    Args:
        folder: of a run, or of an exported prompt.
        error: raised where a run's config.yaml is no YAML.
    """
    if is_export(folder):
        return Path(folder) / PROMPT, read_prompt(folder)["settings"]
    path = Path(folder) / "config.yaml"
    return (path, load(path, error)) if path.is_file() else None
