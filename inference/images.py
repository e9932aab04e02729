"""Image files as a user names them, and batches of them."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from dassl.utils import UserError, progress, read_image
from datasets.files import is_image, is_visible

MOST_THREADS = 8
Problem = dict[str, str]  # image: its name; error: why it was left out
Named = tuple[str, Any]  # name of an image, and its path or picture


def find_images(words: Iterable[Any]) -> tuple[list[Named], list[Problem]]:
    """The images that files, folders, globs and pictures mean, each file once.

    Args:
        words: a path of an image; of a folder, whose images are told by their suffix, in its
            folders, too; a glob, as in `photos/**/*.jpg`; or a `PIL.Image`.

    Returns:
        Names with paths or pictures, in the order of the words (those of a folder sorted), and
        words that mean no image.
    """
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for place, word in enumerate(words):
        if isinstance(word, Image.Image):
            name = getattr(word, "filename", "") or f"image {place}"
            found[name if name not in found else f"{name} ({place})"] = word
            continue
        paths, problem = _paths(os.path.expanduser(os.fspath(word)))
        found |= {path: path for path in paths if path not in found}
        problems += [{"image": str(word), "error": problem}] if problem else []
    return list(found.items()), problems


def _paths(word: str) -> tuple[list[str], str]:
    """Paths of the images that a word means, or why there are none."""
    if os.path.isfile(word):
        return [word], ""
    if os.path.isdir(word):
        return _in_folder(word)
    if glob.has_magic(word):
        hits = sorted(glob.glob(word, recursive=True))
        paths = [path for path in hits if os.path.isfile(path) and is_image(os.path.basename(path))]
        return paths, "" if paths else "no image file fits"
    return [], "there is no such file or folder"


def _in_folder(folder: str) -> tuple[list[str], str]:
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if is_visible(name)]
        found += [os.path.join(place, name) for name in names if is_image(name)]
    found.sort()
    return found, "" if found else "the folder has no images (told by their suffix)"


def batches(
    images: Sequence[Named], transform: Callable[[Any], Tensor], size: int, problems: list[Problem]
) -> Iterator[tuple[list[str], Tensor]]:
    """Names and tensors (B, 3, R, R) of the images that can be read, `size` at a time.

    Args:
        images: as `find_images` gives them.
        transform: from a picture in RGB to a tensor (3, R, R).
        size: images that come together, fewer where some cannot be read; twice as many are in
            memory.
        problems: gets the images that cannot be read.
    """

    def read(image: Named) -> Tensor | str:
        name, what = image
        try:
            picture = what.convert("RGB") if isinstance(what, Image.Image) else read_image(what)
        except UserError as error:
            return _why(name, str(error))
        return transform(picture)

    threads = min(MOST_THREADS, os.cpu_count() or 1)
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    with ThreadPoolExecutor(threads) as pool, progress.bar(total=len(images), unit="image") as bar:
        ahead = [pool.map(read, part) for part in parts[:1]]
        for place, part in enumerate(parts):
            # the next batch is read while this one is computed
            ahead += [pool.map(read, later) for later in parts[place + 1 : place + 2]]
            names, tensors = [], []
            for (name, _), found in zip(part, ahead.pop(0), strict=True):
                if isinstance(found, str):
                    problems.append({"image": name, "error": found})
                else:
                    names.append(name)
                    tensors.append(found)
            if names:
                yield names, torch.stack(tensors)
            bar.update(len(part))


def _why(name: str, message: str) -> str:
    """What is wrong with an image, without its name and what a run would do."""
    told = message.removeprefix(f'"{name}" ').partition("; the run stops here")[0]
    return told.partition(" Restore the image")[0].replace("\n", " ")
