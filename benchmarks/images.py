"""JPEG files as heavy as photographs: detail at every scale, neither noise nor flat."""

import io
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 375)  # width and height in pixels, as most images of Caltech101, Pets or ImageNet
QUALITY = 90


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """An image whose detail falls with its scale as in photographs, the same for the same seed.

    Args:
        seed: any number of at least 0.
        size: width and height in pixels.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    pixels = np.zeros((height, width, 3), np.float32)
    cells = 2
    while cells <= max(size):  # each octave is twice as fine, and weaker
        shape = (max(2, cells * height // width), cells, 3)
        coarse = rng.standard_normal(shape).astype(np.float32)
        coarse = 0.75 * coarse.mean(axis=-1, keepdims=True) + 0.25 * coarse  # mostly brightness
        for channel in range(3):
            plane = Image.fromarray(coarse[..., channel]).resize(size, Image.Resampling.BICUBIC)
            pixels[..., channel] += np.asarray(plane) * cells**-0.35
        cells *= 2
    pixels = (pixels - pixels.mean()) / pixels.std() * 55 + 120
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_folder(
    folder: Path,
    names: list[str],
    train: int,
    test: int,
    size: tuple[int, int] = SIZE,
    distinct: int | None = None,
) -> Path:
    """Write a dataset for `folder:PATH`: so many training and test images of every class.

    Args:
        folder: where; train/ and test/ are made in it.
        names: class names.
        train: images per class, also of `test`.
        size: width and height in pixels.
        distinct: images that are drawn; the others are copies of them, as heavy to decode. None:
            all are.

    Returns:
        The folder.
    """
    drawn: list[bytes] = []
    numbers = count()
    for name in names:
        for part, images in (("train", train), ("test", test)):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(images):
                seed = next(numbers)
                if distinct is None or seed < distinct:
                    file = io.BytesIO()
                    picture(seed, size).save(file, "JPEG", quality=QUALITY)
                    drawn.append(file.getvalue())
                (place / f"{number:05}.jpg").write_bytes(drawn[seed % len(drawn)])
    return folder
