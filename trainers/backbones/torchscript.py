"""The weights of a TorchScript archive, as OpenAI published CLIP, read without running its code.

Such an archive holds a pickle of modules and tensors (`data.pkl`), their raw storages (`data/`)
and the source of their classes (`code/`). `torch.jit.load` runs what a class says in
`__setstate__`, and that can write files. Here the pickle may build tensors only, and of the source
only the names of parameters and buffers are looked up.
"""

import ast
import io
import pickle
import re
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ShortStorage": torch.int16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.BoolStorage": torch.bool,
}
# what makes values that are no weights: hooks, lists, typed containers
DROPPED = ("collections.OrderedDict", "torch.device", "torch.jit._pickle.")
MODULES = 10_000  # CLIP has hundreds; modules that contain themselves have no end


class NoWeights(pickle.UnpicklingError):
    """The archive needs its code to be read, or holds other things; the text says which."""


class _Module:
    """Takes the place of a module; its attributes lie in `state`."""

    __slots__ = ("state",)
    kept: list[str] = []  # names of its parameters and buffers

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Builds tensors and stand-ins of modules; what it names cannot be changed by the file."""

    def __init__(self, reader: Any):
        super().__init__(io.BytesIO(reader.get_record("data.pkl")))
        self.storage = cache(partial(_storage, reader))  # tensors may share one
        self.kept = cache(partial(_kept, reader))

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if f"{module}.".startswith("__torch__."):
            return type(name, (_Module,), {"__slots__": (), "kept": self.kept(module, name)})
        if full in DTYPES:
            return DTYPES[full]
        if full == "torch._utils._rebuild_tensor_v2":
            return partial(_tensor)
        if full.startswith(DROPPED):
            return partial(_nothing)
        raise NoWeights(f"names {full}, which CLIP's weights do not need")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, _ = pid  # the device is the one it was saved on
        return self.storage(key, dtype)


def open_archive(path: Path) -> Any:
    """Torch's own reader of an archive, which sees what torch reads; None where it is none."""
    try:
        return torch._C.PyTorchFileReader(str(path))
    except RuntimeError:
        return None


def is_script(reader: Any) -> bool:
    """Whether torch takes an archive for TorchScript."""
    return "constants.pkl" in reader.get_all_records()


def read_script(reader: Any) -> dict[str, Tensor]:
    """All parameters and buffers of a TorchScript archive, on the CPU, by name.

    Raises:
        NoWeights: the archive names something else than modules and tensors, or its modules are
            restored by their own code.
        Exception: whatever a damaged file causes.
    """
    weights: dict[str, Tensor] = {}
    todo, left = [("", _Unpickler(reader).load())], MODULES
    while todo:
        left -= 1
        if not left:
            raise NoWeights(f"holds more than {MODULES:,} modules")
        prefix, module = todo.pop()
        for name, value in module.state.items():
            if isinstance(value, _Module):
                todo.append((f"{prefix}{name}.", value))
            elif isinstance(value, Tensor) and name in module.kept:
                weights[f"{prefix}{name}"] = value
    return weights


def _kept(reader: Any, module: str, name: str) -> list[str]:
    """Names of the parameters and buffers of a class, from its source."""
    source = reader.get_record(f"code/{module.replace('.', '/')}.py").decode()
    # up to the next class
    body = re.search(rf"^class {re.escape(name)}\(.*?(?=^class |\Z)", source, re.M | re.S)
    if body is None or "def __setstate__(" in body[0]:
        raise NoWeights(f"holds {module}.{name}, which is restored by code of its own")
    lists = re.findall(r"^  __(?:parameters|buffers)__ = (\[.*\])$", body[0], re.M)
    return [key for names in lists for key in ast.literal_eval(names)]


def _storage(reader: Any, key: str, dtype: torch.dtype) -> Tensor:
    """All numbers of a storage."""
    content = bytearray(reader.get_record(f"data/{key}"))
    return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage; what does not lie in it is an error of torch's."""
    return storage.as_strided(size, stride, offset)


def _nothing(*_: Any) -> None:
    pass
