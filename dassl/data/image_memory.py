"""Decoded training images that are kept in memory."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from PIL import Image

from dassl.utils import read_image

__all__ = ["MEBIBYTE", "ImageMemory", "decoded", "keep_last"]

MEBIBYTE = 2**20
# Images share few tensors: torch needs an open file for each one that it shares with a worker.
CHUNK = 64 * MEBIBYTE
_last: dict[tuple[Any, ...], "ImageMemory"] | None = None  # None: not kept


def keep_last() -> None:
    """From now on `decoded` keeps its images until it is asked for others."""
    global _last
    _last = _last or {}


def decoded(paths: Iterable[str], limit: int | None = None, threads: int = 1) -> "ImageMemory":
    """As `ImageMemory`, which see; it may be that of an earlier call, if no file has changed."""
    paths = list(paths)
    if _last is None:
        return ImageMemory(paths, limit, threads)
    stamps = tuple(_stamp(path) for path in paths)
    if (limit, stamps) not in _last:
        _last.clear()  # before the others are there
        _last[limit, stamps] = ImageMemory(paths, limit, threads)
    return _last[limit, stamps]


def _stamp(path: str) -> tuple[Any, ...]:
    """A file with what tells whether it is still the same; one that is gone is told when read."""
    try:
        status = os.stat(path)
    except OSError:
        return (path,)
    return path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class ImageMemory:
    """The first images of a list, decoded, as long as they fit; never changed afterwards.

    Loader workers do not copy it: forked ones share the pages of their parent, and for others
    torch moves the tensors to shared memory.

    Args:
        paths: image files; one that comes twice is kept once.
        limit: bytes; None keeps all.
        threads: how many decode at once.

    Raises:
        MissingFileError: a file is gone.
        ImageError: a file cannot be decoded.
    """

    def __init__(self, paths: Iterable[str], limit: int | None = None, threads: int = 1) -> None:
        self.nbytes = 0
        self._chunks: list[torch.Tensor] = []
        # of each image: chunk, offset, height, width, and what its file says beside the pixels
        self._places: dict[str, tuple[int, int, int, int, dict[Any, Any]]] = {}
        filling: list[np.ndarray] = []
        filled = 0
        for path, pixels, info in _decode(dict.fromkeys(paths), threads):
            cost = pixels.nbytes + sum(len(v) for v in info.values() if isinstance(v, bytes))
            if limit is not None and self.nbytes + cost > limit:
                break
            if filling and filled + pixels.nbytes > CHUNK:
                self._close_chunk(filling)
                filled = 0
            self._places[path] = (len(self._chunks), filled, *pixels.shape[:2], info)
            filling.append(pixels.reshape(-1))
            filled += pixels.nbytes
            self.nbytes += cost
        self._close_chunk(filling)

    def _close_chunk(self, filling: list[np.ndarray]) -> None:
        if filling:
            self._chunks.append(torch.from_numpy(np.concatenate(filling)))
            filling.clear()

    def __len__(self) -> int:
        return len(self._places)

    def to(self, device: torch.device) -> "ImageMemory":
        """Move the pixels to a device and return self."""
        self._chunks = [chunk.to(device) for chunk in self._chunks]
        return self

    def pixels(self, path: str) -> torch.Tensor | None:
        """Return an image as uint8 (height, width, 3), a view; None where it is not kept."""
        if path not in self._places:
            return None
        chunk, offset, height, width, _ = self._places[path]
        flat = self._chunks[chunk][offset : offset + 3 * height * width]
        return flat.view(height, width, 3)

    def read(self, path: str) -> Image.Image:
        """Return what `read_image` returns, without decoding again where the image is kept."""
        pixels = self.pixels(path)
        if pixels is None:
            return read_image(path)
        image = Image.fromarray(pixels.numpy())
        image.info = dict(self._places[path][-1])
        return image


Decoded = tuple[np.ndarray, dict[Any, Any]]  # pixels (height, width, 3), and the picture's info


def _decode(paths: Iterable[str], threads: int) -> Iterator[tuple[str, np.ndarray, dict[Any, Any]]]:
    """Decode images in their order, at most one for each thread ahead."""

    def decode(path: str) -> Decoded:
        image = read_image(path)
        return np.asarray(image), dict(image.info)

    ahead: deque[tuple[str, Future[Decoded]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for path in paths:
            ahead.append((path, pool.submit(decode, path)))
            if len(ahead) > threads:
                first, decoded = ahead.popleft()
                yield first, *decoded.result()
        for first, decoded in ahead:
            yield first, *decoded.result()
