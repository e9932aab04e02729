"""Bases of the readers: from a folder below DATASET.ROOT to the lists of a run.

Nothing is written, neither below the data nor elsewhere: lists are read and drawn in seconds, so
that there is no cache that could be stale.
"""

import html
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum
from datasets.common import Listed, data_root, subsample_classes
from datasets.counts import differences, is_published
from datasets.errors import DatasetError
from datasets.files import some
from datasets.presence import check_images
from datasets.shots import few_shot_lists
from datasets.splits import (
    Split,
    check_split,
    cut_classes,
    cut_generator,
    list_classes,
    read_split,
)


class Reader(DatasetBase):
    """A dataset of files that the user has; subclasses say where they are and list them.

    Class attributes:
        dataset_dir: folder below DATASET.ROOT.
        layout: the tree that is expected, for messages and tools.
        elsewhere: for a folder below `dataset_dir` ("" is itself), places below DATASET.ROOT where
            other tools put it.
        test_only: there are no training images; the run must not train.
        reads_domains: DATASET.SOURCE_DOMAINS and TARGET_DOMAINS choose among its images.
    """

    layout = ""
    elsewhere: dict[str, tuple[str, ...]] = {}
    test_only = False
    reads_domains = False

    def __init__(self, cfg: CfgNode):
        split = self.read(data_root(cfg))
        for note in self.notes(split):
            print(f"Note: {note}")
        if self.test_only:  # always all classes; their names are taken from train_x
            (items,) = subsample_classes(_located(split, split.test), subset="all")
            super().__init__(train_x=items, test=items)
            return
        train_x, val_x, test_x = run_lists(cfg, split)
        super().__init__(train_x=train_x, val=val_x or None, test=test_x)

    @classmethod
    def read(cls, root: Path) -> Split:
        """The full lists, checked, of the dataset below the folder of all datasets.

        Raises:
            DatasetError: something is missing or wrong: where, what was expected, and what to do.
        """
        try:
            if not root.is_dir():
                raise DatasetError(f"there is no folder {root} for the datasets (DATA)")
            folder = root / cls.dataset_dir
            cls.find(folder)
            return cls.lists(folder)
        except DatasetError as error:
            raise DatasetError(f"{cls.__name__}: {error}\n{cls.help()}") from error

    @classmethod
    def lists(cls, folder: Path) -> Split:
        """The full lists of the dataset in its folder, checked."""
        raise NotImplementedError

    @classmethod
    def notes(cls, split: Split) -> list[str]:
        """What is unusual about lists that can be used."""
        return differences(cls.__name__, split)

    @classmethod
    def find(cls, folder: Path, name: str = "") -> Path:
        """A folder of the layout, `name` below `folder`.

        Raises:
            DatasetError: it is not there; the message tells where its content seems to be.
        """
        place = folder / name
        if place.is_dir():
            return place
        candidates = [(place, other) for other in cls.elsewhere.get(name, ())]
        if not name:  # nothing is there yet: its parts may be
            candidates += [(folder / part, o) for part, all_ in cls.elsewhere.items() for o in all_]
        candidates.append((place, f"{folder.name}/{folder.name}/{name}"))
        for wanted, other in candidates:
            found = folder.parent / other
            if found.is_dir():
                link = f"ln -s {shlex.quote(str(found))} {shlex.quote(str(wanted))}"
                if not wanted.parent.is_dir():
                    link = f"mkdir -p {shlex.quote(str(wanted.parent))} && {link}"
                raise DatasetError(
                    f"there is no {place}, but {found} is there. If it is the same, link it: {link}"
                )
        raise DatasetError(f"there is no {place}")

    @classmethod
    def stem(cls) -> str:
        """Name of the dataset on the command line: its file in configs/datasets."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def help(cls) -> str:
        """The layout, and the tools that help to get there."""
        tree = "\n".join(f"  DATA/{cls.dataset_dir}/{line}" for line in cls.layout.splitlines())
        return (
            f"Expected, where DATA is --root or the environment variable DATA of the scripts:\n"
            f"{tree}\n"
            f"`python -m tools.prepare_data {cls.stem()}` fetches what can be fetched and tells "
            f"where the rest is from; `python -m tools.doctor {cls.stem()}` checks the folder."
        )


class SplitReader(Reader):
    """A dataset with a split file of CoOp, `split_zhou_<Name>.json`, or lists derived without it.

    Class attributes:
        image_dir: folder of the images below `dataset_dir`; the lists' paths are relative to it.
        roots: folders below `image_dir` that hold the images, and may be links.
        has_split_file: False for a dataset whose official lists are used.
        ignored: class folders that are left out of a cut.
        renamed: class names of a cut, where they are not those of the folders.
    """

    image_dir = "images"
    roots: tuple[str, ...] = ("",)
    has_split_file = True
    ignored: tuple[str, ...] = ()
    renamed: dict[str, str] = {}

    @classmethod
    def split_file(cls, folder: Path) -> Path:
        """Path of the split file."""
        return folder / f"split_zhou_{cls.__name__}.json"

    @classmethod
    def lists(cls, folder: Path) -> Split:
        """The lists of the split file; without it, those that follow from the official files."""
        images = cls.find(folder, cls.image_dir)
        for name in cls.roots:
            cls.find(folder, f"{cls.image_dir}/{name}".strip("/"))
        path = cls.split_file(folder)
        if cls.has_split_file and path.is_file():
            split, source = read_split(path, images), f"{path}: "
        else:
            split, source = cls._derive(folder, images), ""
        try:
            check_split(split)
        except DatasetError as error:
            raise DatasetError(f"{source}{error}") from error
        check_images(split, cls.roots)
        return split

    @classmethod
    def _derive(cls, folder: Path, images: Path) -> Split:
        try:
            return Split(images, *cls.derive(folder), derived=True)
        except DatasetError as error:
            if not cls.has_split_file:
                raise
            raise DatasetError(
                f"there is no {cls.split_file(folder)}, and the split cannot be derived: {error}"
            ) from error

    @classmethod
    def derive(cls, folder: Path) -> tuple[list[Listed], list[Listed], list[Listed]]:
        """Train, val and test lists without a split file; paths are relative to the images.

        Unless a dataset has official lists, a cut of the class folders: not the published one,
        whose order is not known.
        """
        items = list_classes(folder / cls.image_dir, cls.ignored, cls.renamed)
        return cut_classes(items, cut_generator())

    @classmethod
    def notes(cls, split: Split) -> list[str]:
        """Other numbers than published, or other lists."""
        found = super().notes(split)
        published = is_published(cls.__name__, split)
        if published or not cls.has_split_file:
            return found
        file = f"split_zhou_{cls.__name__}.json"
        how = "are derived here" if split.derived else f"in {file}"
        if published is False:
            found.append(f"the lists {how} differ from the published ones: so do the shots")
        elif split.derived:
            found.append(f"the lists {how}, and may differ from the published ones in {file}")
        return found


def run_lists(cfg: CfgNode, split: Split) -> list[list[Datum]]:
    """Train, val and test list of a run: the shots that are drawn, and the class subset."""
    note_twins({item.label: item.classname for item in split.train or split.test}.values())
    train, val = few_shot_lists(cfg, split.train, split.val)
    return subsample_classes(
        *(_located(split, items) for items in (train, val, split.test)),
        subset=cfg.DATASET.SUBSAMPLE_CLASSES,
    )


def note_twins(names: Iterable[str]) -> None:
    """Say which class names CLIP reads as one prompt, as cat and CAT, or a_b and a b."""
    spellings: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        spellings.setdefault(words(name), []).append(name)
    twins = [" = ".join(same) for same in spellings.values() if len(same) > 1]
    if twins:
        print(f"Note: classes with one prompt, which cannot be told apart: {some(twins)}")


def words(name: str) -> tuple[str, ...]:
    """What CLIP's tokenizer makes tokens of: names with the same words have the same tokens."""
    import ftfy  # both slow to import, and CLIP needs them, too
    import regex

    text = ftfy.fix_text(name.replace("_", " "))
    text = html.unescape(html.unescape(text)).lower()
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
    return tuple(regex.findall(pattern, text))


def _located(split: Split, items: list[Listed]) -> list[Listed]:
    """Items with absolute paths; one that is absolute stays as it is."""
    return [item._replace(impath=os.path.join(split.root, item.impath)) for item in items]
