"""ImageNetV2 (Recht et al. 2019), matched frequency: test images only."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from datasets.common import Listed
from datasets.errors import DatasetError
from datasets.files import images, some
from datasets.imagenet import ImageNetVariant, class_folders, classnames_of, read_classnames
from datasets.splits import Split


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetVariant):
    """10 images of each of the 1000 classes; folders are numbers (0..999) or wnids."""

    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    layout = "classnames.txt\nimagenetv2-matched-frequency-format-val/<0..999 or wnid>/*"
    elsewhere = {
        "": ("ImageNetV2", "imagenet-v2"),
        "imagenetv2-matched-frequency-format-val": (
            "imagenetv2-matched-frequency-format-val",
            "imagenetv2/imagenetv2-matched-frequency",
            "ImageNetV2-matched-frequency",
        ),
    }

    @classmethod
    def lists(cls, folder: Path) -> Split:
        """Numbered folders count the lines of classnames.txt, which must be in sorted order."""
        place = cls.find(folder, cls.image_dir)
        found = class_folders(place)
        if not all(name.isdecimal() for name in found):
            return super().lists(folder)
        path = classnames_of(folder)
        names = read_classnames(path)
        wnids = list(names)
        if wnids != sorted(wnids):
            raise DatasetError(
                f"{path} is not sorted by wnid, but {place} numbers its folders in that order"
            )
        if sorted(map(int, found)) != list(range(len(names))):
            strangers = sorted(set(found) ^ {str(i) for i in range(len(names))})
            raise DatasetError(
                f"{place}: expected folders 0 to {len(names) - 1}, one for each line of {path}; "
                f"missing or too many: {some(strangers)}"
            )
        items = []
        for number in sorted(found, key=int):
            files = images(place / number)
            label = int(number)
            if not files:
                raise DatasetError(f"{place / number} ({names[wnids[label]]}) has no images")
            items += [Listed(f"{number}/{name}", label, names[wnids[label]]) for name in files]
        return Split(place, train=[], val=[], test=items)
