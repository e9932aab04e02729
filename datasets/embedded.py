"""Datasets that are made on first use: complete or absent, never half there."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase
from datasets.common import Listed, data_root, few_shot_lists, subsample_classes
from datasets.errors import DatasetError
from datasets.splits import PARTS, read_items

SPLIT_FILE = "split.json"
# one image: its split, its class label, its pixels (32, 32, 3) in uint8
Drawing = tuple[str, int, np.ndarray]


class EmbeddedDataset(DatasetBase):
    """Base of the datasets that the repository can make: PNG files and a split file.

    Class attributes:
        dataset_dir: folder below DATASET.ROOT.
        version: changes when the images change; an older folder is refused.
        names: class names, by label.
        test_only, reads_domains: as in `datasets.reader.Reader`.
    """

    version = ""
    test_only = reads_domains = False
    names: tuple[str, ...] = ()

    def __init__(self, cfg: CfgNode):
        folder = data_root(cfg) / self.dataset_dir
        if not folder.exists():
            make(folder, self.version, self.names, self.drawings)
        splits = read(folder, self.version)
        if self.test_only:  # always all classes; their names are taken from train_x
            (items,) = subsample_classes(splits["test"], subset="all")
            super().__init__(train_x=items, test=items)
            return
        train, val = few_shot_lists(cfg, splits["train"], splits["val"])
        train_x, val_x, test_x = subsample_classes(
            train, val, splits["test"], subset=cfg.DATASET.SUBSAMPLE_CLASSES
        )
        super().__init__(train_x=train_x, val=val_x, test=test_x)

    @staticmethod
    def drawings() -> Iterator[Drawing]:
        """All images of the dataset, the same ones on every machine."""
        raise NotImplementedError


def make(
    folder: Path,
    version: str,
    names: tuple[str, ...],
    drawings: Callable[[], Iterator[Drawing]],
) -> None:
    """Write a dataset beside its place and move it there: two processes do not disturb each other.

    Raises:
        DatasetError: the folder of the data cannot be written.
    """
    print(f"Making {folder} (once)")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise DatasetError(
            f"{folder} is not there and cannot be made ({error.strerror}): choose a folder that "
            "can be written with --root, or the environment variable DATA of the scripts"
        ) from error
    try:
        splits: dict[str, list] = {"train": [], "val": [], "test": []}
        for split, label, pixels in drawings():
            name = f"{split}/{names[label].replace(' ', '_')}/{len(splits[split]):05}.png"
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(draft / name)
            splits[split].append([name, label, names[label]])
        content = {"version": version, **splits}
        (draft / SPLIT_FILE).write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
        draft.chmod(0o755)
        os.rename(draft, folder)
    except OSError as error:
        if not (folder / SPLIT_FILE).is_file():  # else another process was faster
            raise DatasetError(f"cannot write {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def read(folder: Path, version: str) -> dict[str, list[Listed]]:
    """The lists of a dataset that was made before.

    Raises:
        DatasetError: another version, a damaged split file, or missing images.
    """
    fix = f"delete the folder {folder}, it is made again on the next run"
    try:
        found, kept = _lists((folder / SPLIT_FILE).read_text(encoding="utf-8"), str(folder))
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DatasetError(f"{folder / SPLIT_FILE} is missing or damaged: {fix}") from error
    if found != version:
        raise DatasetError(f"{folder} has version {found}, this code needs {version}: {fix}")
    splits = {part: list(items) for part, items in kept.items()}
    paths = [item.impath for items in splits.values() for item in items]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise DatasetError(
            f"{len(missing)} images are missing in {folder}, {missing[0]} first: {fix}"
        )
    return splits


@lru_cache(8)
def _lists(text: str, folder: str) -> tuple[Any, dict[str, list[Listed]]]:
    """Version and lists of a split file, of which jobs read the same again and again."""
    content = json.loads(text)
    return content["version"], {
        part: [
            item._replace(impath=os.path.join(folder, item.impath))
            for item in read_items(content[part], part)
        ]
        for part in PARTS
    }
