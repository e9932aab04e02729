"""Files, seeds, images and small checks."""

import difflib
import json
import os
import os.path as osp
import random
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import numpy as np
import PIL
from PIL import Image

from .errors import FolderError, ImageError, MissingFileError, UserError

__all__ = [
    "GUARDS",
    "atomic_open",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "download_url",
    "errors_named",
    "get_most_similar_str_to_a_from_b",
    "listdir_nohidden",
    "mkdir_if_missing",
    "read_image",
    "read_json",
    "set_random_seed",
    "tolist_if_not",
    "write_json",
]


# called before a file appears under its name; one that raises keeps it from that
GUARDS: list[Callable[[], None]] = []


def mkdir_if_missing(dirname: str | os.PathLike) -> None:
    """Create a folder and its parents unless it exists.

    Raises:
        FileNotFoundError: the name is empty.
        FolderError: the folder cannot be created.
    """
    try:
        os.makedirs(dirname, exist_ok=True)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise FolderError(
            f'Cannot create the folder "{dirname}": {error.strerror}. '
            "Choose another folder or change its permissions."
        ) from error


def check_isfile(fpath: str | os.PathLike) -> bool:
    """Return whether ``fpath`` is a file; warn if it is not."""
    found = osp.isfile(fpath)
    if not found:
        warnings.warn(f'No file found at "{fpath}"', stacklevel=2)
    return found


@contextmanager
def errors_named(path: str | os.PathLike) -> Iterator[None]:
    """Let errors of the system that name no file, such as those of a full disk, name ``path``."""
    try:
        yield
    except (OSError, RuntimeError) as raised:
        # torch.save cannot end its archive after an error, and tells only that
        error = raised if isinstance(raised, OSError) else raised.__context__
        if not isinstance(error, OSError):
            raise
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise error from None


@contextmanager
def atomic_open(path: str | os.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing that appears under its name only when it is complete.

    It is written beside ``path``, flushed and renamed; after an error ``path`` is as it was.
    """
    temporary = f"{os.fspath(path)}.tmp-{os.getpid()}"
    text: dict[str, Any] = (
        {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace"}
    )
    try:
        with errors_named(path), open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        for guard in GUARDS:
            guard()
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.remove(temporary)
        raise


def read_json(fpath: str | os.PathLike) -> Any:
    """Return the content of a JSON file."""
    with open(fpath, encoding="utf-8-sig") as file:
        return json.load(file)


def write_json(obj: Any, fpath: str | os.PathLike) -> None:
    """Write ``obj`` as JSON (indent 4), atomically; the parent folder is created.

    Raises:
        FileNotFoundError: ``fpath`` has no folder part (as upstream).
    """
    mkdir_if_missing(osp.dirname(fpath))
    with atomic_open(fpath) as file:
        json.dump(obj, file, indent=4, separators=(",", ": "))


def set_random_seed(seed: int) -> None:
    """Seed Python, numpy, torch and all CUDA devices."""
    import torch  # slow to import, and most callers of this module need none

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def read_image(path: str | os.PathLike) -> Image.Image:
    """Return the image file as an RGB picture of 8 bits a channel.

    Grey values of 12 or 16 bits are scaled to 8. Palettes and CMYK become RGB, an alpha channel is
    left out, and a rotation that EXIF asks for is not done, as in the code of CoOp.

    Raises:
        MissingFileError: there is no such file.
        ImageError: the file is not a complete image, has more pixels than Pillow opens, or values
            whose range it does not tell. It is never replaced by another one.
    """
    if not osp.exists(path):
        raise MissingFileError(
            f'No file exists at "{path}". Restore the image, or rebuild the dataset without it.'
        )
    try:
        with Image.open(path) as image:
            return _in_8_bits(image).convert("RGB")
    except Image.DecompressionBombError as error:
        raise ImageError(
            f'"{path}" has too many pixels ({error}): scale it down, or set '
            "PIL.Image.MAX_IMAGE_PIXELS higher"
        ) from error
    except ImageError as error:
        raise ImageError(f'"{path}" {error}') from None
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ImageError(
            f'"{path}" is not a readable image ({type(error).__name__}: {error}); '
            "the run stops here. Replace the file by a good copy, or remove it from the dataset."
        ) from error


def _in_8_bits(image: Image.Image) -> Image.Image:
    """An image whose values Pillow converts as they are: it would cut larger ones off at 255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        tags = getattr(image, "tag_v2", {})  # of a TIFF file; 258: bits, 262: 0 where white is 0
        most = 2 ** tags.get(258, (16,))[0] - 1
        values = np.asarray(image).astype(np.uint32)  # 0 to most
        grey = ((values * 255 + most // 2) // most).astype(np.uint8)
        return Image.fromarray(255 - grey if tags.get(262) == 0 else grey)
    if image.mode in ("I", "F"):
        kind = "whole numbers of 32 bits" if image.mode == "I" else "decimal numbers"
        raise ImageError(
            f"has pixels that are {kind}, whose range the file does not tell: save it with 8 or 16 "
            "bits for each channel"
        )
    return image


def listdir_nohidden(path: str | os.PathLike, sort: bool = False) -> list[str]:
    """Return the names that do not start with a dot, in file-system order unless ``sort``."""
    items = [name for name in os.listdir(path) if not name.startswith(".")]
    return sorted(items) if sort else items


def get_most_similar_str_to_a_from_b(a: str, b: Sequence[str]) -> str | None:
    """Return the string of ``b`` that is most similar to ``a`` (the last one of equals)."""
    best, best_ratio = None, 0.0
    for candidate in b:
        ratio = difflib.SequenceMatcher(None, a, candidate).ratio()
        if ratio >= best_ratio:
            best, best_ratio = candidate, ratio
    return best


def check_availability(requested: str, available: Sequence[str]) -> None:
    """Raise `UserError` that proposes the nearest name unless ``requested`` is available."""
    if requested not in available:
        nearest = get_most_similar_str_to_a_from_b(requested, available)
        raise UserError(
            f"The requested one is expected to belong to {list(available)}, "
            f"but got [{requested}] (do you mean [{nearest}]?)"
        )


def tolist_if_not(x: Any) -> list:
    """Return ``x`` if it is a list, else ``[x]`` (a tuple is wrapped too)."""
    return x if isinstance(x, list) else [x]


def collect_env_info() -> str:
    """Return torch's report of the environment, plus Pillow's version."""
    from torch.utils.collect_env import get_pretty_env_info

    return f"{get_pretty_env_info()}\n        Pillow ({PIL.__version__})"


def download_url(url: str, dst: str | os.PathLike) -> None:
    """Download ``url`` to ``dst`` with progress on stdout; after an error ``dst`` is as it was."""
    print(f"* url={url}")
    print(f"* destination={dst}")
    start = time.time()

    def report(count: int, block_size: int, total_size: int) -> None:
        done = count * block_size
        seconds = max(time.time() - start, 1e-6)
        percent = f"{min(100 * done // total_size, 100)}%" if total_size > 0 else "?%"
        megabytes = done / 1024**2
        sys.stdout.write(
            f"\r...{percent}, {megabytes:.0f} MB, {megabytes / seconds:.1f} MB/s, {seconds:.0f} s"
        )
        sys.stdout.flush()

    partial = f"{os.fspath(dst)}.part"
    try:
        urllib.request.urlretrieve(url, partial, report)
        os.replace(partial, dst)
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)
    sys.stdout.write("\n")
