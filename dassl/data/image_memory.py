"""Decoded training images that are kept in memory."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from dassl.utils import read_image

__all__ = ["MEBIBYTE", "ImageMemory"]

MEBIBYTE = 2**20
# Images share few tensors: torch needs an open file for each one that it shares with a worker.
CHUNK = 64 * MEBIBYTE
BLOCK = 64  # images that are decoded before the limit is looked at


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
        todo = iter(dict.fromkeys(paths))
        filling: list[np.ndarray] = []
        filled = 0
        with ThreadPoolExecutor(threads) as pool:
            while block := list(islice(todo, BLOCK)):
                for path, image in zip(block, pool.map(read_image, block), strict=True):
                    size = 3 * image.height * image.width
                    cost = size + sum(len(v) for v in image.info.values() if isinstance(v, bytes))
                    if limit is not None and self.nbytes + cost > limit:
                        self._close_chunk(filling)
                        return
                    if filling and filled + size > CHUNK:
                        self._close_chunk(filling)
                        filled = 0
                    place = (len(self._chunks), filled, image.height, image.width)
                    self._places[path] = (*place, dict(image.info))
                    filling.append(np.asarray(image).reshape(-1))
                    filled += size
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
