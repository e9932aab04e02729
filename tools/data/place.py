"""A dataset on the disk: what is there, what is missing or damaged, and who can mend it how.

Looks only; what completes a part is in `tools.data.completion`.
"""

import os
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shlex import quote

from datasets.counts import is_published
from datasets.errors import DatasetError
from datasets.files import is_image, read_json
from datasets.imagenet import read_classnames
from datasets.splits import read_split
from tools.data.download import DamagedError, check_digest
from tools.data.imagenet_archives import is_flat
from tools.data.parts import Part, Source, is_split

DOWNLOADS = "downloads"  # folder below DATA; archives stay there
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


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
        # a split file goes before annotations, and own files before those of others
        first = any(is_split(path.name) for path in instead)
        return instead if instead and (first or not all(path.is_file() for path in own)) else own

    def _instead(self, part: Part) -> list[Path]:
        """Files that make a part needless; none unless all are there."""
        paths = [Path(os.path.normpath(self.folder / name)) for name in part.instead]
        return paths if all(path.is_file() for path in paths) else []

    def missing(self, part: Part) -> list[str]:
        """What of a part is not there, in words; empty when it is complete."""
        folder = self.folder
        if self._instead(part):
            return []
        lacking = [f"{name} is not there" for name in part.files if not (folder / name).is_file()]
        if part.images:
            found = count_images(folder / part.images.folder, part.images.depths)
            if found < part.images.count:
                line = f"{part.images.folder} has {found:,} of {part.images.count:,} images"
                if self.lies_flat(part):
                    line += " in class folders: they lie side by side"
                lacking.append(line)
        return lacking

    def damaged(self, part: Part) -> list[tuple[str, str]]:
        """Small files of a part that are there but cannot be used: what is wrong, and a fix."""
        used = (path for path in self.small_files(part) if path.is_file())
        reasons = ((path, self.why_damaged(part, path)) for path in used)
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
                    there = place.is_file() and not self.why_damaged(part, place)
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

    def lies_flat(self, part: Part) -> bool:
        """Whether ImageNet's validation images lie side by side, without class folders."""
        return part.how == "imagenet_val" and is_flat(self.folder / part.title)

    def _wanted(self, part: Part) -> list[str]:
        """Names of the downloads that a part is made of."""
        if part.how != "imagenet_val":
            return [part.file]
        return [DEVKIT] if self.lies_flat(part) else [part.file, DEVKIT]

    def is_automatic(self, part: Part) -> bool:
        """Whether a part that is not complete can be made so without a person."""
        if part.urls or part.how == "flower_names" or self.linkable(part):
            return True
        return all(self.find_download(name) for name in self._wanted(part))

    def by_hand(self, part: Part, repair: bool = False) -> str:
        """What a person does before a part can be completed; "" where nothing has to be done.

        Args:
            part: one of the source's parts, not complete.
            repair: images one folder too deep stay there, others are unpacked beside them.
        """
        lift = self.lift_command(part)
        if lift and not repair:
            return f"its images lie one folder too deep: {lift}"
        return "" if self.is_automatic(part) else self.advice(part)

    def remedy(self, part: Part) -> str:
        """The command, or what a person does, to complete a part that is not."""
        lift = self.lift_command(part)
        return lift or (self.command if self.is_automatic(part) else self.advice(part))

    def advice(self, part: Part) -> str:
        """What a person does for a part that cannot be prepared without."""
        wanted = self._wanted(part)
        absent = [name for name in wanted if self.find_download(name) is None] or wanted
        return (
            f"get {' and '.join(absent)} from {part.by_hand}, put "
            f"{'them' if len(absent) > 1 else 'it'} into {self.downloads}, and run prepare_data "
            f"again{'. ' if part.note else ''}{part.note}"
        )

    def why_damaged(self, part: Part, path: Path) -> str:
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
                read_json(path)
        except (DatasetError, DamagedError) as error:
            return str(error)
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
