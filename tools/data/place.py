"""A dataset on the disk: what is missing or damaged, and how a download becomes it.

Nothing that is there is overwritten or deleted: a download is unpacked beside its place, and only
what is missing moves in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shlex import quote

from dassl.utils import UserError, atomic_open
from datasets.counts import is_published
from datasets.errors import DatasetError
from datasets.files import is_image
from datasets.imagenet import read_classnames
from datasets.splits import read_split
from tools.data import imagenet_archives, unpack
from tools.data.download import DamagedError, check_digest, check_space, fetch, in_bytes
from tools.data.imagenet_archives import is_flat
from tools.data.parts import Part, Source, is_split

DOWNLOADS = "downloads"  # folder below DATA; archives stay there
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
Say = Callable[[str], None]  # takes a line about what happens


class ByHand(UserError):
    """A part that nobody but the user can fetch; the text says from where and to which place."""


@dataclass(frozen=True)
class Place:
    """A dataset and the folder of all datasets that it is, or will be, in.

    Attributes:
        stem: name of the dataset.
        source: its parts.
        data: folder of all datasets.
    """

    stem: str
    source: Source
    data: Path

    @property
    def folder(self) -> Path:
        """Folder of the dataset."""
        return self.data / self.source.folder

    @property
    def downloads(self) -> Path:
        """Folder of its archives: downloaded, or put there by the user."""
        return self.data / DOWNLOADS / self.stem

    def small_files(self, part: Part) -> list[Path]:
        """Files that the reader takes: those of a part, or those that stand for them."""
        own = [self.folder / name for name in part.files]
        instead = self._instead(part)
        complete = bool(instead) and all(path.is_file() for path in instead)
        # a split file goes before annotations, and own files before those of others
        first = any(is_split(path.name) for path in instead)
        return instead if complete and (first or not all(path.is_file() for path in own)) else own

    def _instead(self, part: Part) -> list[Path]:
        return [Path(os.path.normpath(self.folder / name)) for name in part.instead]

    def missing(self, part: Part) -> list[str]:
        """What of a part is not there, in words; empty when it is complete."""
        folder = self.folder
        instead = self._instead(part)
        if instead and all(path.is_file() for path in instead):
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

    def damaged(self, part: Part) -> list[tuple[str, str]]:
        """Small files of a part that are there but cannot be used: what is wrong, and a fix."""
        used = (path for path in self.small_files(part) if path.is_file())
        reasons = ((path, self._why_damaged(part, path)) for path in used)
        return [
            (f"{path.name} is there but damaged ({why})", self.replace_command(path))
            for path, why in reasons
            if why
        ]

    def has(self, part: Part) -> bool:
        """Whether a part is complete, and none of its small files is damaged."""
        return not self.missing(part) and not self.damaged(part)

    @property
    def command(self) -> str:
        """The command that prepares the dataset."""
        return prepare_command(self.stem, self.data)

    def replace_command(self, path: Path) -> str:
        """The command that moves a damaged file away, to a free name, and gets a good one."""
        names = (Path(f"{path}.damaged{number or ''}") for number in count())
        aside = next(name for name in names if not os.path.lexists(name))
        return f"mv {quote(str(path))} {quote(str(aside))} && {self.command}"

    def find_download(self, file: str) -> Path | None:
        """A download that is there: of an earlier run, or put there by the user."""
        places = (self.downloads / file, self.folder / file)
        return next((place for place in places if place.is_file()), None)

    def linkable(self, part: Part) -> list[tuple[str, Path]]:
        """What other tools have put elsewhere below DATA, complete there and not in the folder.

        Returns:
            Name in the dataset's folder, and place, of each.
        """
        root = self.source.folder
        wholes = (*self.source.elsewhere.get("", ()), f"{root}/{root}")
        names = [*([part.images.folder] if part.images else []), *part.files]
        found = []
        for name in names:
            if os.path.lexists(self.folder / name):
                continue
            places = (*self.source.elsewhere.get(name, ()), *(f"{w}/{name}" for w in wholes))
            for place in (self.data / place for place in places):
                if part.images and name == part.images.folder:
                    there = count_images(place, part.images.depths) >= part.images.count
                else:
                    there = place.is_file() and not self._why_damaged(part, place)
                if there:
                    found.append((name, place))
                    break
        return found

    def lift_command(self, part: Part) -> str:
        """The command for images that lie one folder of the same name too deep; "" otherwise."""
        if not part.images:
            return ""
        root = self.folder / part.images.folder
        if count_images(root / root.name, part.images.depths) < part.images.count:
            return ""
        return f"mv {quote(str(root / root.name))}/* {quote(str(root))}/"

    def is_automatic(self, part: Part) -> bool:
        """Whether `complete` can do its work without a person."""
        if part.urls or part.how == "flower_names" or self.linkable(part):
            return True
        if part.how == "imagenet_val":
            have = is_flat(self.folder / part.title) or self.find_download(part.file) is not None
            return have and self.find_download(DEVKIT) is not None
        return self.find_download(part.file) is not None

    def advice(self, part: Part) -> str:
        """What a person does for a part that cannot be prepared without."""
        wanted = [part.file]
        if part.how == "imagenet_val":
            wanted = [DEVKIT] if is_flat(self.folder / part.title) else [part.file, DEVKIT]
        absent = [name for name in wanted if self.find_download(name) is None] or wanted
        return (
            f"get {' and '.join(absent)} from {part.by_hand}, put "
            f"{'them' if len(absent) > 1 else 'it'} into {self.downloads}, and run prepare_data "
            f"again{'. ' if part.note else ''}{part.note}"
        )

    def complete(self, part: Part, say: Say, repair: bool = False) -> None:
        """Make a part complete: link what is elsewhere below DATA, else download, unpack, move.

        Args:
            part: one of the source's parts.
            say: takes a line about what happens.
            repair: add images that the download has and the folder has not, though there are
                enough.

        Raises:
            ByHand: there is no address, and the user has not put the file there yet.
            UserError: the download failed, is damaged or does not have what it should have; or a
                small file that is there is damaged.
        """
        for name, place in self.linkable(part):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).symlink_to(os.path.relpath(place, (self.folder / name).parent))
            say(f"{name}: linked to {place}")
        damaged = self.damaged(part)
        if damaged:
            raise UserError(describe(damaged))
        if not self.missing(part) and not (repair and part.images):
            return
        lift = self.lift_command(part)
        if lift and not repair:
            raise ByHand(f"its images lie one folder too deep: {lift}")
        if not self.is_automatic(part):
            raise ByHand(self.advice(part))
        path = self.find_download(part.file)
        if part.how == "flower_names":
            _write_flower_names(self.folder / part.files[0])
        elif part.how == "imagenet_val" and is_flat(self.folder / part.title):
            self._sort_val(part, say)
        else:
            if path is None:
                path = self._download(part, say)
            else:
                say(f"{part.title}: taking {path}")
                check_digest(path, part.digest)
            self._put(part, path, say)
        lacking = self.missing(part)
        if lacking:
            raise UserError(
                f"{'; '.join(lacking)}, after all of {part.file} is in place: if it may be "
                "damaged, delete it and run the command again"
            )

    def _sort_val(self, part: Part, say: Say) -> None:
        say(f"{part.title}: sorting the images into class folders, by hard links")
        devkit = self.find_download(DEVKIT)
        if devkit is None:
            raise ByHand(self.advice(part))
        imagenet_archives.sort_val(self.folder / part.title, devkit)

    def _download(self, part: Part, say: Say) -> Path:
        """Fetch the file of a part into the folder of downloads."""
        path = self.downloads / part.file
        size = f" ({in_bytes(part.size)})" if part.size else ""
        say(f"{part.title}: downloading {part.file}{size}")
        try:
            fetch(part.urls, path, part.digest, part.copies)
        except UserError as error:
            raise UserError(f"{error}. By hand: {self.advice(part)}") from None
        return path

    def _put(self, part: Part, path: Path, say: Say) -> None:
        """Bring the content of a download to its place."""
        if part.how == "file":
            why = self._why_damaged(part, path)
            if why:
                raise UserError(f"{why}: delete it, and get it from {part.by_hand}")
            _copy(path, self.folder / part.files[0])
            return
        say(f"{part.title}: unpacking {path.name}")
        if part.how == "imagenet_train":
            imagenet_archives.unpack_train(path, self.folder / part.title)
        elif part.how == "imagenet_val":
            devkit = self.find_download(DEVKIT)
            if devkit is None:
                raise ByHand(self.advice(part))
            imagenet_archives.unpack_val(path, self.folder / part.title, devkit)
        else:
            check_space(self.folder, path.stat().st_size, f"unpacking {path.name}")
            with unpack.scratch(self.folder, part.file) as draft:
                unpack.unpack(path, draft, inner=part.inner)
                unpack.move(draft, part.moves, self.folder, path.name)

    def _why_damaged(self, part: Part, path: Path) -> str:
        """Why a small file is not what its name says, as far as that can be told; "" if it is."""
        try:
            if part.how == "file" and path.name == part.file:
                check_digest(path, part.digest)
            if is_split(path.name):
                split = read_split(path, self.folder)
                if is_published(self.source.reader, split) is False:
                    return f"{path} does not list the images of the published split"
            elif path.name == "classnames.txt":
                wnids = list(read_classnames(path))
                if len(wnids) != 1000 or wnids != sorted(wnids):
                    return f"{path} has {len(wnids)} classes, expected 1000, sorted by wnid"
            elif path.name == "cat_to_name.json":
                json.loads(path.read_text(encoding="utf-8-sig"))
        except (DatasetError, DamagedError) as error:
            return str(error)
        except (ValueError, RecursionError) as error:
            return f"{path} is not valid JSON: {error}"
        except OSError as error:
            return f"cannot read {path} ({error.strerror})"
        return ""


def prepare_command(stems: str, data: Path) -> str:
    """The command that prepares some datasets."""
    return f"python -m tools.prepare_data {stems} --data {quote(str(data))}"


def describe(damaged: list[tuple[str, str]]) -> str:
    """What to do about damaged files, in a line."""
    return "; ".join(f"{what}: move it away: {fix}" for what, fix in damaged)


def count_images(folder: Path, depths: tuple[int, ...]) -> int:
    """Images below a folder with so many folders in between; hidden files do not count."""
    count = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if 0 in depths and is_image(entry.name):
                    count += entry.is_file()
                elif max(depths) > 0 and not entry.name.startswith(".") and entry.is_dir():
                    deeper = tuple(depth - 1 for depth in depths if depth > 0)
                    count += count_images(Path(entry.path), deeper)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return count


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
