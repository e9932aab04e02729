"""`digits`: real handwritten digits (scikit-learn), a domain shift for the embedded CLIP."""

import random
from collections.abc import Iterator

import numpy as np
from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY
from datasets.embedded import Drawing, EmbeddedDataset

# images of each class, in the order of the collection; the rest is the test split
TRAIN, VAL = 60, 10
SIDE = 32


@DATASET_REGISTRY.register()
class Digits(EmbeddedDataset):
    """The 1797 images of 8x8 grey pixels, dark on light, enlarged to 32x32."""

    dataset_dir = "digits"
    version = "1"
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    @staticmethod
    def drawings() -> Iterator[Drawing]:
        """All images: of each class the first 60 train, 10 val, the others test."""
        state = random.getstate()
        from sklearn.datasets import load_digits  # slow to import, needed once

        digits = load_digits()
        random.setstate(state)  # what it imports may draw a number; a run that makes data may not
        for label in range(10):
            images = digits.images[digits.target == label]  # (n, 8, 8), 0..16
            for i, image in enumerate(images):
                split = "train" if i < TRAIN else "val" if i < TRAIN + VAL else "test"
                grey = Image.fromarray((255 - image * 255 / 16).astype(np.uint8))
                large = grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB")
                yield split, label, np.asarray(large)
