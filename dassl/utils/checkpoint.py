"""Checkpoints: tensors, numbers, strings, lists and dicts only; written atomically."""

import os
import os.path as osp
import random
import re
import shutil
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from .errors import CheckpointError, MissingFileError
from .foreign import Refused, is_script, read_weights
from .tools import atomic_open, mkdir_if_missing

__all__ = ["load_checkpoint", "resume_from_checkpoint", "save_checkpoint"]

BEST_NAME = "model-best.pth.tar"
POINTER_NAME = "checkpoint"  # text file: base name of the last saved epoch
_EPOCH_FILE = re.compile(r"model\.pth\.tar-(\d+)")


def epoch_name(epoch: int) -> str:
    """Return the file name of an epoch (1-based)."""
    return f"model.pth.tar-{epoch}"


def to_plain(value: Any, where: str = "checkpoint") -> Any:
    """Return ``value`` made of dicts, lists, tensors, numbers, strings and None only.

    Raises:
        TypeError: there is something else in it; the text says where.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach()
        small = value.numel() * value.element_size() < value.untyped_storage().nbytes()
        return (
            value.clone() if small else value
        )  # a view would drag its whole storage into the file
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    for base in (int, float, str):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, Mapping):
        return {key: to_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(
        f"{where} is a {type(value).__name__}; "
        "a checkpoint holds tensors, numbers, strings, lists and dicts only"
    )


def save_checkpoint(
    state: dict[str, Any],
    save_dir: str,
    is_best: bool = False,
    remove_module_from_keys: bool = True,
    model_name: str = "",
) -> None:
    """Write ``state`` to ``<save_dir>/<model_name or model.pth.tar-<epoch>>``, atomically.

    The pointer ``<save_dir>/checkpoint`` names the last file written, the best model excepted.
    ``is_best`` writes a copy as ``model-best.pth.tar``.
    """
    mkdir_if_missing(save_dir)
    state = to_plain(state)
    if remove_module_from_keys:
        state["state_dict"] = {k.removeprefix("module."): v for k, v in state["state_dict"].items()}
    name = model_name or epoch_name(state["epoch"])
    path = osp.join(save_dir, name)
    with atomic_open(path, "wb") as file:
        torch.save(state, file)
    print(f"Checkpoint saved to {path}")

    if name != BEST_NAME:
        with atomic_open(osp.join(save_dir, POINTER_NAME)) as file:
            file.write(f"{name}\n")
    if is_best:
        best = osp.join(save_dir, BEST_NAME)
        with atomic_open(best, "wb") as copy, open(path, "rb") as original:
            shutil.copyfileobj(original, copy)
        print(f'Best checkpoint saved to "{best}"')


def load_checkpoint(fpath: str | os.PathLike | None) -> dict[str, Any]:
    """Return the content of a checkpoint; no code in the file is ever run.

    Of a file that holds Python objects, as those of upstream Dassl do, only weights and epoch are
    returned, marked with ``"foreign": True``.

    Raises:
        ValueError: the path is None.
        MissingFileError: there is no such file.
        CheckpointError: the file is truncated, damaged, or names code that weights do not need.
    """
    if fpath is None:
        raise ValueError("File path is None")
    if not osp.exists(fpath):
        raise MissingFileError(f'File is not found at "{fpath}"')
    fpath = os.fspath(fpath)
    try:
        _check_sums(fpath)
    except (PermissionError, IsADirectoryError, MemoryError):
        raise
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise _damaged(fpath) from error
    place = None if torch.cuda.is_available() else "cpu"
    try:
        with open(fpath, "rb") as file:  # one and the same file is looked at and read
            if not is_script(file):  # which some versions of torch would run
                file.seek(0)
                return torch.load(file, map_location=place, weights_only=True)
    except (PermissionError, IsADirectoryError, MemoryError):
        raise
    except Exception:  # torch's reader raises anything on what it does not take
        pass
    return _load_foreign(fpath)


def _load_foreign(fpath: str) -> dict[str, Any]:
    """Weights and epoch of a file with Python objects; they are left out, not built."""
    try:
        found = read_weights(fpath)
    except Refused as error:
        raise CheckpointError(f'Checkpoint "{fpath}" {error}') from error
    except Exception as error:
        raise _damaged(fpath) from error
    print(f'Note: "{fpath}" holds Python objects; only its weights and its epoch are read')
    return found


def _check_sums(fpath: str) -> None:
    """Raise BadZipFile if a stored checksum is wrong: torch.load does not look at them."""
    if zipfile.is_zipfile(fpath):
        with zipfile.ZipFile(fpath) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("wrong checksum")


def _damaged(fpath: str) -> CheckpointError:
    """The error for a damaged file; it tells what else is there."""
    print(f'Unable to load checkpoint from "{fpath}"')
    folder, name = osp.split(fpath)
    others = [str(epoch) for epoch in saved_epochs(folder) if epoch_name(epoch) != name]
    advice = (
        f"Move it away, then resume from an earlier epoch (available: {', '.join(others)})."
        if others
        else "Move it away, and get it again or train again: no other epoch is stored beside it."
    )
    return CheckpointError(f'Checkpoint "{fpath}" is truncated or damaged. {advice}')


def saved_epochs(folder: str) -> list[int]:
    """Return the epochs stored in ``folder``, ascending."""
    if not osp.isdir(folder):
        return []
    found = (_EPOCH_FILE.fullmatch(name) for name in os.listdir(folder))
    return sorted(int(match[1]) for match in found if match)


def last_checkpoint(folder: str) -> str | None:
    """Return the file to resume from, or None without a pointer or any file.

    If the file that the pointer names was deleted, the latest stored epoch is taken.
    """
    pointer = osp.join(folder, POINTER_NAME)
    if not osp.isfile(pointer):
        return None
    with open(pointer, encoding="utf-8", errors="replace") as file:
        name = file.readline().strip()
    if name and osp.isfile(osp.join(folder, name)):
        return osp.join(folder, name)
    epochs = saved_epochs(folder)
    if not epochs:
        return None
    print(
        f'Note: "{pointer}" names "{name}", which is not there; '
        f"epoch {epochs[-1]} is the latest one stored"
    )
    return osp.join(folder, epoch_name(epochs[-1]))


def check_fits(state_dict: Mapping[str, torch.Tensor], model: nn.Module, fpath: str) -> None:
    """Raise `CheckpointError` naming keys and shapes unless ``state_dict`` fits ``model``."""
    expected = model.state_dict()
    problems = [f"{key} is missing" for key in expected if key not in state_dict]
    problems += [f"{key} is not part of the model" for key in state_dict if key not in expected]
    problems += [
        f"{key} has shape {tuple(state_dict[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected
        if key in state_dict and state_dict[key].shape != expected[key].shape
    ]
    if problems:
        raise CheckpointError(
            f'Checkpoint "{fpath}" does not fit the model: {"; ".join(problems)}. '
            "Use the configuration it was trained with, or another OUTPUT_DIR."
        )


def restore(
    checkpoint: dict[str, Any], fpath: str, model: nn.Module, optimizer: Any, scheduler: Any
) -> None:
    """Load weights (strictly), optimiser and scheduler from a checkpoint into live objects."""
    check_fits(checkpoint["state_dict"], model, fpath)
    model.load_state_dict(checkpoint["state_dict"])
    print("Loaded model weights")
    for name, target in (("optimizer", optimizer), ("scheduler", scheduler)):
        if target is None or checkpoint.get(name) is None:
            continue
        try:
            target.load_state_dict(checkpoint[name])
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f'Checkpoint "{fpath}" has the state of another {name} ({error}). '
                "Use the configuration it was trained with, or another OUTPUT_DIR."
            ) from error
        print(f"Loaded {name}")
    print(f"Previous epoch: {checkpoint['epoch']}")


def load_training_checkpoint(fpath: str, resume: bool = True) -> dict[str, Any]:
    """Load a checkpoint of a training run, with weights and an epoch; to ``resume``, ours only."""
    checkpoint = load_checkpoint(fpath)
    if not isinstance(checkpoint, dict) or not {"state_dict", "epoch"} <= checkpoint.keys():
        raise CheckpointError(
            f'"{fpath}" is not a checkpoint of a training run: it lacks "state_dict" or "epoch".'
        )
    if resume and checkpoint.get("foreign"):
        raise CheckpointError(
            f'"{fpath}" was written by other software: its weights can be tested '
            "(--eval-only --model-dir), but training cannot resume from it. Use another OUTPUT_DIR."
        )
    return checkpoint


def resume_from_checkpoint(
    fdir: str, model: nn.Module, optimizer: Any = None, scheduler: Any = None
) -> int:
    """Load the last checkpoint of ``fdir`` into live objects; return the epoch to start from."""
    fpath = last_checkpoint(fdir)
    if fpath is None:
        raise MissingFileError(f'No checkpoint to resume from in "{fdir}"')
    print(f'Loading checkpoint from "{fpath}"')
    checkpoint = load_training_checkpoint(fpath)
    restore(checkpoint, fpath, model, optimizer, scheduler)
    return checkpoint["epoch"]


def rng_state() -> dict[str, Any]:
    """Return the state of all random generators: Python, numpy, torch, and CUDA if it is in use."""
    return {
        "python": to_plain(random.getstate()),
        "numpy": to_plain(np.random.get_state()),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned; CUDA devices that are not here are left out."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, cuda_state in zip(
            range(torch.cuda.device_count()), state["cuda"], strict=False
        ):
            torch.cuda.set_rng_state(cuda_state.cpu(), device)
