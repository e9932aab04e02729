"""`shapes`: drawn objects of the embedded world, 40 classes in five styles."""

from collections.abc import Iterator

from dassl.data.datasets import DATASET_REGISTRY
from datasets.embedded import Drawing, EmbeddedDataset
from datasets.world.render import OBJECTS, Scenes, render
from datasets.world.scenes import COLOUR_NAMES, RARE_COLOURS, draw_scenes

OBJECT_NAMES = ("ring", "star", "cross", "heart", "arrow")
# images per class, and the seed of each split; pre-training draws from other seeds
SPLITS = {"train": (40, 11), "val": (8, 12), "test": (40, 13)}
# classes alternate, so that base and new share all objects and all colours
CLASSES = tuple(
    (colour, thing)
    for half in (0, 1)
    for i, thing in enumerate(OBJECT_NAMES)
    for j, colour in enumerate(COLOUR_NAMES)
    if (i + j) % 2 == half
)


@DATASET_REGISTRY.register()
class Shapes(EmbeddedDataset):
    """Images of one object in one colour; styles are mixed within a class.

    The first 20 classes are base, the last 20 new; every object and every colour occurs in both.
    """

    dataset_dir = "shapes"
    version = "1"
    names = tuple(f"{RARE_COLOURS[colour]} {thing}" for colour, thing in CLASSES)

    @staticmethod
    def drawings() -> Iterator[Drawing]:
        """All images, split by split, class by class."""
        for split, (_, seed) in SPLITS.items():
            labels, scenes = split_scenes(split)
            for label, pixels in zip(labels, render(scenes, seed), strict=True):
                yield split, label, pixels


def split_scenes(split: str) -> tuple[list[int], Scenes]:
    """Labels and scenes of "train", "val" or "test", in the order of the files."""
    per_class, seed = SPLITS[split]
    labels = [label for label in range(len(CLASSES)) for _ in range(per_class)]
    objects = [OBJECTS.index(CLASSES[label][1]) for label in labels]
    colours = [COLOUR_NAMES.index(CLASSES[label][0]) for label in labels]
    return labels, draw_scenes(objects, colours, seed)
