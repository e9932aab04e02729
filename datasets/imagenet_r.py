"""ImageNet-R (Hendrycks et al. 2021): test images only."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetVariant):
    """30,000 renditions (paintings, toys, ...), 200 classes, tested among these 200."""

    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    layout = "classnames.txt\nimagenet-r/<wnid>/*.jpg"
    elsewhere = {"imagenet-r": ("imagenet-r", "imagenet-r/imagenet-r")}
