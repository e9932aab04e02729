"""What a dataset needs, whether it is there, and how a download becomes it.

Nothing that is there is overwritten or deleted: a download is unpacked beside its place, and only
what is missing moves in.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dassl.utils import UserError, atomic_open
from tools import imagenet_archives, unpack
from tools.download import check_digest, check_space, fetch, in_bytes
from tools.imagenet_archives import is_flat

DOWNLOADS = "downloads"  # folder below DATA; archives stay there
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp"),
    *(".ppm", ".tif", ".tiff", ".gif"),
)
SPLITS = ("train", "val", "test")
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


@dataclass(frozen=True)
class Images:
    """Images that a dataset needs.

    Attributes:
        folder: path in the dataset's folder.
        count: fewest images, those that the lists name.
        depths: folders between `folder` and an image.
    """

    folder: str
    count: int
    depths: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Part:
    """One thing that a dataset needs, and how it gets there.

    Attributes:
        file: name of the download; who fetches by hand puts it under this name.
        images: images that must be there, or None.
        files: files that must be there, paths in the dataset's folder.
        instead: files that make the part needless when all of them are there.
        urls: addresses, best first; none: somebody has to fetch it by hand.
        size: bytes of the download, about; 0: not known.
        digest: "md5:<hex>" or "sha256:<hex>"; "" where none is published.
        how: what to do with the download. "file": it is `files[0]`; "archive": unpack and move.
        inner: an archive inside the archive that is the one to unpack.
        moves: path in the archive (several: the first that exists; "a/*": what is in a) -> path in
            the dataset's folder ("" is the folder itself).
        links: path in the dataset's folder -> places below DATA where other tools put the same.
        content: sha256 of what a split file says (see `tools.parts.split_content`), "" if unknown.
        by_hand: where a person gets it.
        note: what a person should know about it.
    """

    file: str
    images: Images | None = None
    files: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    size: int = 0
    digest: str = ""
    how: Literal["file", "archive", "imagenet_train", "imagenet_val", "flower_names"] = "archive"
    inner: str = ""
    moves: tuple[tuple[tuple[str, ...], str], ...] = ()
    links: tuple[tuple[str, tuple[str, ...]], ...] = ()
    content: str = ""
    by_hand: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """What the part is, for people: its folder of images, or its files."""
        return self.images.folder if self.images else ", ".join(self.files)

    @property
    def copies(self) -> int:
        """How many times its size the download takes on the disk, unpacking included."""
        return 1 if self.how == "file" else 3 if self.inner else 2


@dataclass(frozen=True)
class Source:
    """A dataset: its folder below DATA and its parts."""

    folder: str
    parts: tuple[Part, ...]


class ByHand(UserError):
    """A part that nobody but the user can fetch; the text says from where and to which place."""


def count_images(folder: Path, depths: tuple[int, ...]) -> int:
    """Images below a folder with so many folders in between; hidden files do not count."""
    count = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if 0 in depths and entry.name.lower().endswith(IMAGE_SUFFIXES):
                    count += entry.is_file()
                elif max(depths) > 0 and entry.is_dir():
                    deeper = tuple(depth - 1 for depth in depths if depth > 0)
                    count += count_images(Path(entry.path), deeper)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return count


def missing(part: Part, folder: Path) -> list[str]:
    """What of a part is not in the dataset's folder, in words; empty when it is complete."""
    if part.instead and all((folder / name).is_file() for name in part.instead):
        return []
    lacking = [f"{name} is not there" for name in part.files if not (folder / name).is_file()]
    if part.images:
        found = count_images(folder / part.images.folder, part.images.depths)
        if found < part.images.count:
            line = f"{part.images.folder} has {found:,} of {part.images.count:,} images"
            if part.how == "imagenet_val" and is_flat(folder / part.images.folder):
                line += " in class folders: they lie side by side"
            lacking.append(line)
    return lacking


def find_download(stem: str, file: str, data: Path, folder: Path) -> Path | None:
    """A download that is there: of an earlier run, or put there by the user."""
    places = (data / DOWNLOADS / stem / file, folder / file)
    return next((place for place in places if place.is_file()), None)


def linkable(part: Part, data: Path, folder: Path) -> list[tuple[str, Path]]:
    """What other tools have put elsewhere below DATA, complete there and not in the folder.

    Returns:
        Name in the dataset's folder, and place, of each.
    """
    found = []
    for name, places in part.links:
        if os.path.lexists(folder / name):
            continue
        for place in (data / place for place in places):
            if part.images and name == part.images.folder:
                there = count_images(place, part.images.depths) >= part.images.count
            else:
                there = place.exists()
            if there:
                found.append((name, place))
                break
    return found


def is_automatic(stem: str, part: Part, data: Path, folder: Path) -> bool:
    """Whether `complete` can do its work without a person."""
    if part.urls or part.how == "flower_names" or linkable(part, data, folder):
        return True
    if part.how == "imagenet_val":
        flat = is_flat(folder / part.title)
        have = flat or find_download(stem, part.file, data, folder) is not None
        return have and find_download(stem, DEVKIT, data, folder) is not None
    return find_download(stem, part.file, data, folder) is not None


def advice(stem: str, part: Part, data: Path, folder: Path) -> str:
    """What a person does for a part that cannot be prepared without."""
    wanted = [part.file]
    if part.how == "imagenet_val":
        wanted = [DEVKIT] if is_flat(folder / part.title) else [part.file, DEVKIT]
    absent = [name for name in wanted if find_download(stem, name, data, folder) is None]
    place = data / DOWNLOADS / stem
    return (
        f"get {' and '.join(absent or wanted)} from {part.by_hand}, put "
        f"{'them' if len(absent) > 1 else 'it'} into {place}, and run prepare_data again"
        f"{'. ' if part.note else ''}{part.note}"
    )


def complete(
    stem: str, source: Source, part: Part, data: Path, say: Callable[[str], None], repair: bool
) -> None:
    """Make a part complete: link what is elsewhere below DATA, else download, unpack, move.

    Args:
        stem: name of the dataset.
        source: the dataset; its folder is `data / source.folder`.
        part: one of its parts.
        data: folder of all datasets.
        say: takes a line about what happens.
        repair: add images that the download has and the folder has not, though there are enough.

    Raises:
        ByHand: there is no address, and the user has not put the file there yet.
        UserError: the download failed, is damaged or does not have what it should have.
    """
    folder = data / source.folder
    for name, place in linkable(part, data, folder):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(os.path.relpath(place, (folder / name).parent))
        say(f"{name}: linked to {place}")
    if not missing(part, folder) and not (repair and part.images):
        return
    if not is_automatic(stem, part, data, folder):
        raise ByHand(advice(stem, part, data, folder))
    devkit = find_download(stem, DEVKIT, data, folder)
    path = find_download(stem, part.file, data, folder)
    if part.how == "flower_names":
        _write_flower_names(folder / part.files[0])
    elif part.how == "imagenet_val" and devkit and is_flat(folder / part.title):
        say(f"{part.title}: sorting the images into class folders, by hard links")
        imagenet_archives.sort_val(folder / part.title, devkit)
    else:
        if path is None:
            path = _download(stem, part, data, folder, say)
        else:
            say(f"{part.title}: taking {path}")
            check_digest(path, part.digest)
        _place(part, path, folder, devkit, say)
    lacking = missing(part, folder)
    if lacking:
        raise UserError(f"{'; '.join(lacking)}, after all of {part.file} is in place")


def split_content(path: Path) -> str:
    """sha256 of what a split file says: a line `<path> TAB <label> LF` for each image, in order.

    Raises:
        UserError: it is not a split file.
    """
    digest = hashlib.sha256()
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
        for split in SPLITS:
            for impath, label, _ in lists[split]:
                digest.update(f"{impath}\t{label}\n".encode())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a split file: expected JSON with train, val and test, each a list of "
            f"[path, label, name] ({type(error).__name__}: {error}). Delete it and try again"
        ) from None
    return digest.hexdigest()


def _download(stem: str, part: Part, data: Path, folder: Path, say: Callable[[str], None]) -> Path:
    """Fetch the file of a part into the folder of downloads."""
    path = data / DOWNLOADS / stem / part.file
    size = f" ({in_bytes(part.size)})" if part.size else ""
    say(f"{part.title}: downloading {part.file}{size}")
    try:
        fetch(part.urls, path, part.digest, part.copies)
    except UserError as error:
        raise UserError(f"{error}. By hand: {advice(stem, part, data, folder)}") from None
    return path


def _place(
    part: Part, path: Path, folder: Path, devkit: Path | None, say: Callable[[str], None]
) -> None:
    """Bring the content of a download to its place."""
    if part.how == "file":
        _check_content(part, path)
        _copy(path, folder / part.files[0])
        return
    say(f"{part.title}: unpacking {path.name}")
    if part.how == "imagenet_train":
        imagenet_archives.unpack_train(path, folder / part.title)
    elif part.how == "imagenet_val":
        assert devkit
        imagenet_archives.unpack_val(path, folder / part.title, devkit)
    else:
        check_space(folder, path.stat().st_size, f"unpacking {path.name}")
        with unpack.scratch(folder, part.file) as draft:
            unpack.unpack(path, draft, inner=part.inner)
            unpack.move(draft, part.moves, folder, path.name)


def _check_content(part: Part, path: Path) -> None:
    """Refuse a file that is not what its name says.

    Raises:
        UserError: saying what it is.
    """
    if path.name.startswith("split_zhou_"):
        found = split_content(path)
        if part.content and found != part.content:
            raise UserError(
                f"{path} does not list the images of the published split (sha256 of its lists is "
                f"{found}, expected {part.content}): delete it, and get it from {part.by_hand}"
            )
    elif path.name == "classnames.txt":
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        wnids = [line.split(" ")[0] for line in text.splitlines() if line.strip()]
        if len(wnids) != 1000 or wnids != sorted(set(wnids)):
            raise UserError(
                f"{path} has {len(set(wnids))} classes, expected 1000 lines `<wnid> <name>`, "
                f"sorted: delete it, and get it from {part.by_hand}"
            )


def _copy(path: Path, target: Path) -> None:
    """Copy a small file to a place where nothing is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(target, "wb") as file:
        file.write(path.read_bytes())


def _write_flower_names(target: Path) -> None:
    """Class names of Flowers as CoOp has them: torchvision's, without one question mark."""
    from torchvision.datasets import Flowers102

    names = {str(i): name.rstrip("?") for i, name in enumerate(Flowers102.classes, start=1)}
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(target) as file:
        file.write(json.dumps(names, indent=4) + "\n")
