"""ImageNet (Deng et al. 2009) in the layout of the CoOp codebase."""

from __future__ import annotations

import os
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from datasets.common import Listed, data_root, few_shot_lists, subsample_classes
from datasets.errors import DatasetError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
LAYOUT = "expected DATA/imagenet/classnames.txt and DATA/imagenet/images/{train,val}/<wnid>/*.JPEG"


@DATASET_REGISTRY.register()
class ImageNet(DatasetBase):
    """Train images are `images/train`, test images `images/val`; there is no validation list.

    Classes are the folders' names (wnids) in sorted order; `classnames.txt` has a line
    `<wnid> <name>` for each. Files are listed in sorted order, so that shots do not depend on the
    file system.

    Raises:
        DatasetError: something is missing or does not fit; the message says what to do.
    """

    dataset_dir = "imagenet"

    def __init__(self, cfg: CfgNode):
        folder = data_root(cfg) / self.dataset_dir
        if not folder.is_dir():
            raise DatasetError(
                f"there is no ImageNet at {folder}: {LAYOUT}, where DATA is --root or the "
                "environment variable DATA of the scripts"
            )
        names = read_classnames(folder / "classnames.txt")
        train = _read_images(folder / "images" / "train", names)
        test = _read_images(folder / "images" / "val", names)
        train, _ = few_shot_lists(cfg, train, [])
        subset = cfg.DATASET.SUBSAMPLE_CLASSES
        train_x, test_x = subsample_classes(train, test, subset=subset)
        super().__init__(train_x=train_x, test=test_x)


def read_classnames(path: Path) -> dict[str, str]:
    """Names by wnid, from lines of `<wnid> <name>`.

    Raises:
        DatasetError: no such file, or a line without a name or with a wnid seen before.
    """
    if not path.is_file():
        raise DatasetError(f"there is no {path}: it names the classes, one `<wnid> <name>` a line")
    names: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        wnid, _, name = line.strip().partition(" ")
        if not name.strip():
            raise DatasetError(f"{path}, line {number}: expected `<wnid> <name>`, found {line!r}")
        if wnid in names:
            raise DatasetError(f"{path}, line {number}: {wnid} is there twice")
        names[wnid] = name.strip()
    if not names:
        raise DatasetError(f"{path} is empty: expected a line `<wnid> <name>` for each class")
    return names


def _read_images(folder: Path, names: dict[str, str]) -> list[Listed]:
    """All images of a split, classes and files in sorted order."""
    if not folder.is_dir():
        raise DatasetError(f"there is no {folder}: {LAYOUT}")
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        flat = any(p.suffix.lower() in IMAGE_SUFFIXES for p in folder.iterdir())
        why = "its images lie side by side, without class folders" if flat else "it is empty"
        raise DatasetError(
            f"{folder} has no class folders ({why}): move each image into a folder named by its "
            f"wnid; {LAYOUT}"
        )
    missing, extra = sorted(names.keys() - set(found)), sorted(set(found) - names.keys())
    if missing or extra:
        raise DatasetError(
            f"{folder} does not fit classnames.txt, and labels would shift: "
            f"{_some(missing, 'without a folder')}{'; ' if missing and extra else ''}"
            f"{_some(extra, 'not in classnames.txt')}"
        )
    items = []
    for label, wnid in enumerate(found):
        files = sorted(
            name
            for name in os.listdir(folder / wnid)
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        )
        if not files:
            raise DatasetError(f"{folder / wnid} ({names[wnid]}) has no images")
        items += [Listed(f"{folder}/{wnid}/{name}", label, names[wnid]) for name in files]
    return items


def _some(wnids: list[str], what: str) -> str:
    """A few of some wnids, for a message."""
    if not wnids:
        return ""
    shown = ", ".join(wnids[:5]) + (", ..." if len(wnids) > 5 else "")
    return f"{len(wnids)} {what} ({shown})"
