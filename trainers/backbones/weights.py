"""Files of weights: found by name or path, told apart by content, read without running them."""

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.backbones.paths import REPOSITORY
from trainers.backbones.torchscript import NoWeights, is_script, open_archive, read_script
from trainers.errors import MethodError, meant

CACHE = Path("~/.cache/clip")
_last: dict[tuple[object, ...], dict[str, Tensor]] | None = None  # None: not kept
# names that every `clip` knows; to ask it for them would load torchvision, which is slow
NAMES = (
    *("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"),
    *("ViT-B/32", "ViT-B/16", "ViT-L/14"),
)


def find_weights(name: str) -> Path:
    """The file of a backbone; a name that `clip` knows is downloaded to ~/.cache/clip first.

    Raises:
        MethodError: no such name or file, or the download failed.
    """
    if _is_known(name):
        from clip.clip import _download  # `clip` loads torchvision, which is slow

        folder, url = Path(os.path.expanduser(CACHE)), _known()[name]
        try:
            return Path(_download(url, str(folder)))
        except (OSError, RuntimeError) as error:
            raise MethodError(
                f"the weights of {name} could not be downloaded ({error}): fetch {url} "
                f"on a machine with a connection and put the file into {folder}"
            ) from error
    for base in (Path(), REPOSITORY):
        path = base / os.path.expanduser(name)
        if path.is_file():
            return path
    hint = meant(name, _known(), cutoff=0.5) or "."
    raise MethodError(
        f'MODEL.BACKBONE.NAME is "{name}"{hint} It is neither a file nor one of: '
        f"{', '.join(_known())}"
    )


def weights_digest(name: str) -> str:
    """Twelve hex digits of a weights file, read once; a name that `clip` knows stands for itself.

    Raises:
        MethodError: no such name or file.
    """
    if _is_known(name):
        return name
    return file_digest(find_weights(name))


def file_digest(path: Path) -> str:
    """Twelve hex digits of a file, see `file_sha256`."""
    return file_sha256(path)[:12]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits, read once as long as nobody touches it."""
    return _digest(*_stamp(path))


def _stamp(path: Path) -> tuple[Path, int, int, int, int]:
    """A file with its size, times and inode, which tell whether it is still the same."""
    path = path.resolve()
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@cache
def _digest(path: Path, *_: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known() -> Mapping[str, str]:
    """The names that `clip` knows, with their addresses."""
    from clip.clip import _MODELS  # `clip` loads torchvision, which is slow

    return _MODELS


def _is_known(name: str) -> bool:
    # none of the names has a suffix, and a file's name can be told without loading `clip`
    return name in NAMES or (not Path(name).suffix and name in _known())


def keep_last() -> None:
    """From now on `read_weights` keeps what it reads until it is asked for another file."""
    global _last
    _last = _last or {}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict or TorchScript archive, or MethodError; the file runs nothing.

    Whoever gets them copies them, as `load_clip` does: they may be kept, see `keep_last`.
    """
    if _last is None:
        return _read(path)
    stamp = _stamp(path)
    if stamp not in _last:
        _last.clear()  # before the others are there
        _last[stamp] = _read(path)
    return dict(_last[stamp])


def _read(path: Path) -> dict[str, Tensor]:
    """As `read_weights`, from the file."""
    try:
        # state dicts of torch before 1.6 are no archives
        reader = open_archive(path)
        if reader and is_script(reader):
            weights: Any = read_script(reader)
        else:
            weights = torch.load(path, "cpu", weights_only=True, mmap=reader is not None)
    except NoWeights as error:
        raise MethodError(
            f"{path} {error}, and no code in a file is run: get the published file again, or save "
            "the model's state_dict() where you trust it"
        ) from error
    except Exception as error:  # torch's readers raise anything on damaged bytes
        raise MethodError(
            f"{path} cannot be read as weights (truncated, or not a state dict or TorchScript "
            f"archive): {type(error).__name__}"
        ) from error
    if isinstance(weights, Mapping) and "state_dict" in weights:
        weights = weights["state_dict"]
    if not isinstance(weights, Mapping):
        raise MethodError(f"{path} holds a {type(weights).__name__}, expected a state dict")
    sizes = ("input_resolution", "context_length", "vocab_size")  # numbers in OpenAI's archives
    return {key: value for key, value in weights.items() if key not in sizes}
