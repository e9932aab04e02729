"""ImageNet-Sketch (Wang et al. 2019): test images only."""

from dassl.data.datasets import DATASET_REGISTRY
from datasets.imagenet import ImageNetVariant


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetVariant):
    """50,889 sketches of the 1000 classes; the archive names the image folder `sketch`."""

    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    layout = "classnames.txt\nimages/<wnid>/*.JPEG"
    elsewhere = {
        "": ("imagenet_sketch", "ImageNet-Sketch"),
        "images": ("imagenet-sketch/sketch", "sketch"),
    }
