"""Make one part of a dataset complete: link it, or download, unpack and move it.

Nothing that is there is overwritten or deleted: a download is unpacked beside its place, and only
what is missing moves in.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from dassl.utils import UserError, atomic_open
from tools.data import imagenet_archives, unpack
from tools.data.download import check_digest, fetch
from tools.data.parts import Part
from tools.data.place import DEVKIT, Place, describe
from tools.data.sizes import check_space, in_bytes

Say = Callable[[str], None]  # takes a line about what happens


def complete(place: Place, part: Part, say: Say, repair: bool = False) -> None:
    """Make a part complete: link what is elsewhere below DATA, else download, unpack, move.

    Args:
        place: the dataset.
        part: one of the source's parts.
        say: takes a line about what happens.
        repair: add images that the download has and the folder has not, though there are enough.

    Raises:
        UserError: there is no address, and the user has not put the file there yet; or the
            download failed, is damaged or does not have what it should have; or a small file that
            is there is damaged.
    """
    for name, found in place.linkable(part):
        link = place.folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(found, link.parent))
        say(f"{name}: linked to {found}")
    damaged = place.damaged(part)
    if damaged:
        raise UserError(describe(damaged))
    if not place.missing(part) and not (repair and part.images):
        return
    told = place.by_hand(part, repair)
    if told:
        raise UserError(told)
    _fill(place, part, say)
    lacking = place.missing(part)
    if lacking:
        raise UserError(
            f"{'; '.join(lacking)}, after all of {part.file} is in place: if it may be damaged, "
            "delete it and run the command again"
        )


def _fill(place: Place, part: Part, say: Say) -> None:
    """Bring what a part lacks to its place, from where `Place.by_hand` has seen that it can be."""
    path = place.find_download(part.file)
    if part.how == "flower_names":
        _write(place.folder / part.files[0], _flower_names())
    elif place.lies_flat(part):
        say(f"{part.title}: sorting the images into class folders, by hard links")
        imagenet_archives.sort_val(place.folder / part.title, _devkit(place, part))
    elif path is None:
        _put(place, part, _download(place, part, say), say)
    else:
        say(f"{part.title}: taking {path}")
        check_digest(path, part.digest)
        _put(place, part, path, say)


def _devkit(place: Place, part: Part) -> Path:
    """ImageNet's development kit, which only the user can put there."""
    path = place.find_download(DEVKIT)
    if path is None:
        raise UserError(place.advice(part))
    return path


def _download(place: Place, part: Part, say: Say) -> Path:
    """Fetch the file of a part into the folder of downloads."""
    path = place.downloads / part.file
    size = f" ({in_bytes(part.size)})" if part.size else ""
    say(f"{part.title}: downloading {part.file}{size}")
    try:
        fetch(part.urls, path, part.digest or part.published, part.copies)
    except UserError as error:
        raise UserError(f"{error}. By hand: {place.advice(part)}") from None
    return path


def _put(place: Place, part: Part, path: Path, say: Say) -> None:
    """Bring the content of a download to its place."""
    if part.how == "file":
        why = place.why_damaged(part, path)
        if why:
            raise UserError(f"{why}: delete it, and get it from {part.by_hand}")
        _write(place.folder / part.files[0], path.read_bytes())
        return
    say(f"{part.title}: unpacking {path.name}")
    if part.how == "imagenet_train":
        imagenet_archives.unpack_train(path, place.folder / part.title)
    elif part.how == "imagenet_val":
        imagenet_archives.unpack_val(path, place.folder / part.title, _devkit(place, part))
    else:
        check_space(place.folder, path.stat().st_size, f"unpacking {path.name}")
        with unpack.scratch(place.folder, part.file) as draft:
            unpack.unpack(path, draft, inner=part.inner)
            unpack.move(draft, part.content, place.folder / part.target, path.name)


def _flower_names() -> bytes:
    """Class names of Flowers as CoOp has them: torchvision's, without one question mark."""
    from torchvision.datasets import Flowers102

    names = {str(i): name.rstrip("?") for i, name in enumerate(Flowers102.classes, start=1)}
    return (json.dumps(names, indent=4) + "\n").encode()


def _write(target: Path, content: bytes) -> None:
    """Write a small file where nothing is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(target, "wb") as file:
        file.write(content)
