"""Small trees in the layouts of the real datasets; images are empty files, mostly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from datasets.errors import DatasetError
from datasets.splits import Split
from runs.config import default_cfg

Entry = list  # [path, label, class name], as split files have it
GOLDEN = Path(__file__).resolve().parents[1] / "golden/fewshot.json"
# folder below DATA, image folder in it, where the images of a class lie
PLACES = {
    "Caltech101": ("caltech-101", "101_ObjectCategories", "class_{}/"),
    "OxfordPets": ("oxford_pets", "images", "class_{}_"),
    "StanfordCars": ("stanford_cars", "", "cars_train/{}"),
    "OxfordFlowers": ("oxford_flowers", "jpg", "image_{}"),
    "Food101": ("food-101", "images", "class_{}/"),
    "SUN397": ("sun397", "SUN397", "a/class_{}/indoor/sun_"),
    "DescribableTextures": ("dtd", "images", "class_{}/"),
    "EuroSAT": ("eurosat", "2750", "class_{}/"),
    "UCF101": ("ucf101", "UCF-101-midframes", "Class_{}/v_Class"),
}
CLASSES = 3


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """What CoOp's own code drew and cut."""
    return json.loads(GOLDEN.read_text())


def settings(root: Path, subset: str = "all", shots: int = -1, seed: int = 1) -> CfgNode:
    """A configuration as the readers see it."""
    cfg = default_cfg()
    cfg.DATASET.ROOT, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), subset
    cfg.DATASET.NUM_SHOTS, cfg.SEED = shots, seed
    return cfg


@pytest.fixture
def load(tmp_path) -> Callable[..., Any]:
    """Build a dataset from the tree in `tmp_path`: `load("UCF101", subset="base", shots=4)`."""

    def build(name: str, root: Path | None = None, **more) -> Any:
        return DATASET_REGISTRY.get(name)(settings(root or tmp_path, **more))

    return build


def touch(folder: Path, paths: Iterable[str]) -> None:
    """Make empty files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


def write_split(path: Path, split: dict[str, Sequence[Sequence]]) -> None:
    """Write a split file as CoOp does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(split, indent=4, separators=(",", ": ")))


def entries(items: Sequence[Any], folder: Path) -> list[Entry]:
    """Items of a dataset as a split file has them, paths relative to a folder."""
    return [[str(Path(i.impath).relative_to(folder)), i.label, i.classname] for i in items]


def write_mat_annotations(path: Path, rows: Sequence[tuple[int, str]]) -> None:
    """Annotations of Stanford Cars: class from 1 and file name, beside a box."""
    content = np.zeros((1, len(rows)), dtype=[("bbox_x1", "O"), ("class", "O"), ("fname", "O")])
    for i, (label, name) in enumerate(rows):
        content[0, i] = (np.uint16(7), np.uint8(label), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"annotations": content})


def write_mat_names(path: Path, names: Sequence[str]) -> None:
    """Names of Stanford Cars' models."""
    content = np.empty((1, len(names)), dtype=object)
    content[0, :] = names
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"class_names": content})


class Tree:
    """A dataset with a split file, and what a test does to it."""

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        folder, images, self.start = PLACES[name]
        self.folder = root / folder
        self.images = self.folder / images
        self.file = self.folder / f"split_zhou_{name}.json"
        self.split = {
            part: [
                [f"{self.start.format(label)}{part[:2]}{i}.jpg", label, f"class {label}"]
                for label in range(CLASSES)
                for i in range(count)
            ]
            for part, count in (("train", 4), ("val", 2), ("test", 3))
        }
        touch(self.images, [path for part in self.split.values() for path, *_ in part])
        if name == "StanfordCars":
            (self.folder / "cars_test").mkdir()
        self.write()

    def write(self) -> None:
        write_split(self.file, self.split)

    def read(self) -> Split:
        return DATASET_REGISTRY.get(self.name).read(self.root)

    def refusal(self) -> str:
        with pytest.raises(DatasetError) as error:
            self.read()
        message = str(error.value)
        assert message.startswith(f"{self.name}: ")
        assert f"DATA/{self.folder.name}/" in message, "the layout is told"
        assert "python -m tools.prepare_data" in message and "python -m tools.doctor" in message
        return message


@pytest.fixture(params=sorted(PLACES))
def tree(request, tmp_path) -> Tree:
    return Tree(tmp_path, request.param)


@pytest.fixture
def textures(tmp_path) -> Tree:
    return Tree(tmp_path, "DescribableTextures")


def derived(root: Path, name: str) -> str:
    """What is told of a dataset that is read without a split file."""
    with pytest.raises(DatasetError) as error:
        DATASET_REGISTRY.get(name).read(root)
    return str(error.value)
