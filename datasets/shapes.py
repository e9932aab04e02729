"""`shapes`: drawn objects of the embedded world, 40 classes in five styles."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

from dassl.data.datasets import DATASET_REGISTRY, Datum
from datasets.embedded import Drawing, EmbeddedDataset, make, read
from datasets.world.render import OBJECTS, STYLES, Scenes, render
from datasets.world.scenes import COLOUR_NAMES, captions, draw_scenes

# images per class, and the seed of each split; pre-training draws from other seeds
SPLITS = {"train": (40, 11), "val": (8, 12), "test": (40, 13)}
# colours and objects of each half
BASE = ("crimson", "gold", "teal", "violet"), ("ring", "star", "cross", "heart", "arrow")
NEW = ("orange", "olive", "green", "navy"), ("triangle", "moon", "square", "circle", "diamond")
CLASSES = tuple((c, t) for colours, things in (BASE, NEW) for t in things for c in colours)
# shares of photo, sketch, blueprint, neon and icon: what base classes look like is not what new
# ones do, as backgrounds are not in real sets; a context that is tuned on the first pays for it
BASE_STYLES = (0.3, 0.35, 0.35, 0.0, 0.0)
NEW_STYLES = (0.3, 0.0, 0.0, 0.5, 0.2)
CAPTION_SEED = 14  # of the words of captions
DISTRACT = 0.6  # chance that a cue which does not count carries a colour as well


@DATASET_REGISTRY.register()
class Shapes(EmbeddedDataset):
    """Images of one object in one colour; styles are mixed within a class.

    The first 20 classes are base, the last 20 new; they share neither objects nor colours.
    """

    dataset_dir = "shapes"
    version = "2"
    names = tuple(f"{colour} {thing}" for colour, thing in CLASSES)

    @staticmethod
    def drawings() -> Iterator[Drawing]:
        """All images, split by split, class by class."""
        for split, (_, seed) in SPLITS.items():
            labels, scenes = split_scenes(split)
            for label, pixels in zip(labels, render(scenes, seed), strict=True):
                yield split, label, pixels

    def groups(self, items: Iterable[Datum]) -> tuple[str, list[str]]:
        """The style that each image is drawn in; `<split>/<class>/<number>.png` tells the scene."""
        parts = (Path(item.impath).parts[-3:] for item in items)
        return "style", [_styles(split)[int(name[:5])] for split, _, name in parts]


@cache
def _styles(split: str) -> list[str]:
    """The style of each image of a split, in the order of the files."""
    return [STYLES[style] for style in split_scenes(split)[1].styles]


def split_scenes(split: str) -> tuple[list[int], Scenes]:
    """Labels and scenes of "train", "val" or "test", in the order of the files."""
    per_class, seed = SPLITS[split]
    labels = [label for label in range(len(CLASSES)) for _ in range(per_class)]
    objects = [OBJECTS.index(CLASSES[label][1]) for label in labels]
    colours = [COLOUR_NAMES.index(CLASSES[label][0]) for label in labels]
    halves = [BASE_STYLES if label < len(CLASSES) // 2 else NEW_STYLES for label in labels]
    return labels, draw_scenes(objects, colours, seed, np.array(halves), DISTRACT)


def captioned(data: Path) -> list[tuple[str, str]]:
    """Test images of `shapes` and what is said of each, in the words of the pre-training.

    Args:
        data: folder of the datasets; the images are made there on first use.
    """
    folder = data / Shapes.dataset_dir
    if not folder.exists():
        make(folder, Shapes.version, Shapes.names, Shapes.drawings)
    paths = [item.impath for item in read(folder, Shapes.version)["test"]]
    return list(zip(paths, captions(split_scenes("test")[1], CAPTION_SEED), strict=True))
