"""Shots of a dataset as a run draws them, for other code."""

import os
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.common import Listed, data_root
from datasets.own import split_name
from datasets.shots import shots_lines
from runs.config import check_name, dataset_cfg
from runs.jobs import dataset_names, reader_of

__all__ = ["PARTS", "shots_lines", "shots_of"]
PARTS = {"train": "train_x", "val": "val"}


def shots_of(dataset: str, data: Path, shots: int, seed: int, part: str) -> list[Listed]:
    """The images that a run trains on, or validates on; paths are below the folder of the data."""
    if not split_name(dataset):
        check_name(dataset, dataset_names(), "dataset")
    cfg = dataset_cfg(*reader_of(dataset), data, shots, seed)
    with redirect_stdout(StringIO()) as said:
        found = build_dataset(cfg)
        items = None if getattr(found, "test_only", False) else getattr(found, PARTS[part])
    print(said.getvalue(), end="", file=sys.stderr)
    if not items:
        raise UserError(f"{dataset} has no {part} images")
    root = data_root(cfg)
    return [Listed(_below(item.impath, root), item.label, item.classname) for item in items]


def _below(impath: str, root: Path) -> str:
    found = os.path.relpath(impath, root)
    return impath if found.startswith("..") else Path(found).as_posix()
