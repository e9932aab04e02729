"""Reads checkpoints that other software pickled, without running anything from the file.

Upstream Dassl pickles the scheduler, and through it the optimiser, as Python objects. Here the
file may only rebuild tensors and plain containers; objects of known kinds become empty shells,
anything else is refused.
"""

from __future__ import annotations

import os
import pickle
import tarfile
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

__all__ = ["Refused", "is_script", "read_weights"]

# all that a file may call: none of these runs code or touches anything but its arguments
ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("builtins", "dict"): dict,
    ("builtins", "set"): set,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
}
# packages whose objects lie in such files; they are dropped, with all that they hold
SHELLS = ("torch.optim.", "dassl.", "numpy.")
SHELL_NAMES = {
    *(("_codecs", "encode"), ("numpy", "dtype"), ("numpy", "ndarray"), ("collections", "Counter")),
    *(("builtins", "bytearray"), ("builtins", "slice")),
}


class Refused(pickle.UnpicklingError):
    """The file is whole, but not what is looked for; the text says what is in it."""


class _Shell:
    """Takes the place of an object that is not needed: whatever is given to it is dropped."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Shell:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Drop an item."""

    def extend(self, items: Any) -> None:
        """Drop items."""

    def add(self, item: Any) -> None:
        """Drop an item."""


class _Unpickler(pickle.Unpickler):
    """Resolves only `ALLOWED` names and shells; torch puts its storages on top."""

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) in ALLOWED:
            found = ALLOWED[module, name]
            # a pickle may set attributes of what it has named: not on a shared function
            return found if isinstance(found, type) else partial(found)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if f"{module}.".startswith(SHELLS) or (module, name) in SHELL_NAMES:
            return _Shell
        raise Refused(
            f"names {module}.{name}, which neither weights nor schedulers need: loading it could "
            "run code. Get the file from its authors again."
        )


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# what torch.load expects of a module such as `pickle`
_PICKLE = SimpleNamespace(__name__="restricted", Unpickler=_Unpickler, load=_load)


def read_weights(fpath: str | os.PathLike) -> dict[str, Any]:
    """Weights and epoch of a checkpoint of upstream Dassl, on the CPU.

    Returns:
        {"state_dict": {name: tensor}, "epoch": int, "foreign": True}; the rest of the file
        (optimiser, scheduler, results) is not read, so that training cannot resume from it.

    Raises:
        Refused: the file names something else than tensors and known objects, or has no weights.
        Exception: whatever a damaged file causes.
    """
    with open(fpath, "rb") as file:  # one and the same file is looked at and read
        _refuse_other_kinds(file)
        content = torch.load(file, "cpu", pickle_module=_PICKLE, weights_only=False)
    weights = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in weights.items()
    ):
        raise Refused("holds Python objects and no weights: it has no state_dict of tensors.")
    epoch = content.get("epoch")
    return {
        "state_dict": {key: value.detach() for key, value in weights.items()},
        "epoch": epoch if type(epoch) is int and epoch >= 0 else 0,
        "foreign": True,
    }


def _refuse_other_kinds(file: BinaryIO) -> None:
    """Refuse whole files that torch.load would hand to other readers than the unpickler."""
    if tarfile.is_tarfile(file):
        raise Refused(
            "is in the tar format of torch before 0.4: load and save it once with a torch that "
            "wrote it, if you trust the file."
        )
    file.seek(0)
    if is_script(file):
        raise Refused("is a TorchScript archive, a model with its code, not a checkpoint.")
    file.seek(0)
    if os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "").lower() in ("1", "y", "yes", "true"):
        raise Refused(
            "holds Python objects, and TORCH_FORCE_WEIGHTS_ONLY_LOAD keeps torch from leaving "
            "them out: unset this variable (nothing in the file is run without it either)."
        )


def is_script(file: BinaryIO) -> bool:
    """Whether torch takes a file for TorchScript, and would run it.

    Torch's own reader is asked: in a file with two directories Python's may see another archive.
    """
    try:
        return "constants.pkl" in torch._C.PyTorchFileReader(file).get_all_records()
    except RuntimeError:  # no archive
        return False
