"""ImageNet (Deng et al. 2009) in the layout of CoOp, and what its variants share with it."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import images, is_image, read_lines, some, subfolders
from datasets.reader import Reader
from datasets.splits import Split


@DATASET_REGISTRY.register()
class ImageNet(Reader):
    """Train images are `images/train`, test images `images/val`; there is no validation list.

    Classes are the folders' names (wnids) in sorted order; `classnames.txt` has a line
    `<wnid> <name>` for each. Files are listed in sorted order, so that shots do not depend on the
    file system.
    """

    dataset_dir = "imagenet"
    layout = "classnames.txt\nimages/{train,val}/<wnid>/*.JPEG"
    elsewhere = {
        "": ("ImageNet", "ILSVRC2012"),
        "images/train": ("imagenet/train", "imagenet/ILSVRC/Data/CLS-LOC/train"),
        "images/val": ("imagenet/val", "imagenet/ILSVRC/Data/CLS-LOC/val"),
    }

    @classmethod
    def lists(cls, folder: Path) -> Split:
        """All images of both folders; the folders must be those of classnames.txt, both times."""
        names = read_classnames(folder / "classnames.txt")
        lists = []
        for part in ("train", "val"):
            place = cls.find(folder, f"images/{part}")
            found = class_folders(place)
            _check_folders(place, found, names)
            lists.append(list_wnids(place, part, found, names))
        return Split(folder / "images", train=lists[0], val=[], test=lists[1])

    @classmethod
    def notes(cls, split: Split) -> list[str]:
        """Other numbers than published, and names that two classes share."""
        names = {item.label: item.classname for item in split.test}
        twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
        found = super().notes(split)
        if twice:
            found.append(f"two classes share a name, as in CoOp: {some(twice)}")
        return found


class ImageNetVariant(ImageNet):
    """Test images for models that were trained on ImageNet, always with all of their classes."""

    test_only = True
    image_dir = ""
    elsewhere: dict[str, tuple[str, ...]] = {}

    @classmethod
    def lists(cls, folder: Path) -> Split:
        """All images; labels number the folders that are there, in sorted order."""
        place = cls.find(folder, cls.image_dir)
        names = read_classnames(classnames_of(folder))
        found = class_folders(place)
        extra = [wnid for wnid in found if wnid not in names]
        if extra:
            raise DatasetError(f"{place} has {_some(extra, 'folders not in classnames.txt')}")
        return Split(place, train=[], val=[], test=list_wnids(place, "", found, names))


def classnames_of(folder: Path) -> Path:
    """classnames.txt of a variant, or that of ImageNet beside it."""
    own, imagenet = folder / "classnames.txt", folder.parent / "imagenet" / "classnames.txt"
    return imagenet if imagenet.is_file() and not own.is_file() else own


def read_classnames(path: Path) -> dict[str, str]:
    """Names by wnid, from lines of `<wnid> <name>`.

    Raises:
        DatasetError: no such file, or a line without a name or with a wnid seen before.
    """
    if not path.is_file():
        raise DatasetError(f"there is no {path}: it names the classes, one `<wnid> <name>` a line")
    names: dict[str, str] = {}
    for number, line in read_lines(path):
        wnid, _, name = line.partition(" ")
        if not name.strip():
            raise DatasetError(f"{path}, line {number}: expected `<wnid> <name>`, found {line!r}")
        if wnid in names:
            raise DatasetError(f"{path}, line {number}: {wnid} is there twice")
        names[wnid] = name.strip()
    if not names:
        raise DatasetError(f"{path} is empty: expected a line `<wnid> <name>` for each class")
    return names


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders.

    Raises:
        DatasetError: there are none.
    """
    found = subfolders(folder)
    if not found:
        flat = any(is_image(p.name) for p in folder.iterdir())
        why = "its images lie side by side, without class folders" if flat else "it is empty"
        raise DatasetError(
            f"{folder} has no class folders ({why}): move each image into a folder named by its "
            "wnid"
        )
    return found


def list_wnids(folder: Path, prefix: str, found: list[str], names: dict[str, str]) -> list[Listed]:
    """All images of wnid folders, labels by position; paths start with `prefix`.

    Raises:
        DatasetError: a folder has no images.
    """
    items = []
    for label, wnid in enumerate(found):
        files = images(folder / wnid)
        if not files:
            raise DatasetError(f"{folder / wnid} ({names[wnid]}) has no images")
        start = f"{prefix}/{wnid}" if prefix else wnid
        items += [Listed(f"{start}/{name}", label, names[wnid]) for name in files]
    return items


def _check_folders(folder: Path, found: list[str], names: dict[str, str]) -> None:
    missing, extra = sorted(names.keys() - set(found)), sorted(set(found) - names.keys())
    if missing or extra:
        raise DatasetError(
            f"{folder} does not fit classnames.txt, and labels would shift: "
            f"{_some(missing, 'without a folder')}{'; ' if missing and extra else ''}"
            f"{_some(extra, 'not in classnames.txt')}"
        )


def _some(wnids: list[str], what: str) -> str:
    """A few of some wnids, for a message."""
    return f"{len(wnids)} {what} ({some(wnids)})" if wnids else ""
