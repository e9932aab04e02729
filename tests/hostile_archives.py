"""TorchScript archives that write a file when torch.jit.load reads them."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path

import torch
from torch import nn


class Writer(nn.Module):
    """Its `__setstate__` makes a file."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.weight = torch.ones(2)
        self.made = torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Needed by TorchScript."""
        return x * self.weight

    @torch.jit.export
    def __getstate__(self) -> tuple[str, torch.Tensor]:
        return self.path, self.weight

    @torch.jit.export
    def __setstate__(self, state: tuple[str, torch.Tensor]) -> None:
        self.path = state[0]
        self.weight = state[1]
        self.training = False
        self.made = torch.from_file(state[0], shared=True, size=4)


def script(module: nn.Module) -> bytes:
    """A TorchScript archive of a module."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.script(module), file)
    return file.getvalue()


def two_directories(archive: bytes) -> bytes:
    """An archive in which Python's zip reader sees one harmless member instead.

    Python looks for the directory right before its end record, torch where the end record says.
    """
    _, size, offset = struct.unpack("<HLL", archive[-12:-2])
    directory = archive[offset : offset + size]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as harmless:
        member = zipfile.ZipInfo("harmless")
        member.comment = b"#" * (size - 46 - len("harmless"))  # as long as the other directory
        harmless.writestr(member, b"")
    local, other = (
        file.getvalue()[: 30 + len("harmless")],
        bytearray(file.getvalue()[-22 - size : -22]),
    )
    # Python takes what is too much before the directory for something put before the archive
    other[42:46] = struct.pack("<L", offset - len(local))
    return archive[:offset] + directory + local + other + archive[-22:]


def writes(path: Path, archive: bytes) -> bool:
    """Whether torch.jit.load of an archive makes the file; it is removed again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(io.BytesIO(archive))
    made = path.exists()
    path.unlink(missing_ok=True)
    return made
