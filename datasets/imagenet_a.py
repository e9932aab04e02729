"""ImageNet-A (Hendrycks et al. 2021): test images only."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetVariant):
    """7,500 images that ResNets get wrong, 200 classes, tested among these 200."""

    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    layout = "classnames.txt\nimagenet-a/<wnid>/*.jpg"
    elsewhere = {"imagenet-a": ("imagenet-a", "imagenet-a/imagenet-a")}
