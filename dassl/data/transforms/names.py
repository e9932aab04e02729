"""What a configuration may name of this package; torchvision, which is slow, is not loaded."""

import sys

__all__ = ["AVAI_CHOICES", "INTERPOLATIONS", "interpolations"]

AVAI_CHOICES = [
    "random_flip",
    "random_resized_crop",
    "normalize",
    "instance_norm",
    "random_crop",
    "random_translation",
    "center_crop",
    "cutout",
    "imagenet_policy",
    "cifar10_policy",
    "svhn_policy",
    "randaugment",
    "randaugment_fixmatch",
    "randaugment2",
    "gaussian_noise",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
]
INTERPOLATIONS = ["bilinear", "bicubic", "nearest"]
RESIZES = ["shortest", "squash"]  # of test images


def interpolations() -> list[str]:
    """Return the keys of ``INTERPOLATION_MODES``; who adds one has loaded its module."""
    module = sys.modules.get(f"{__package__}.transforms")
    return list(module.INTERPOLATION_MODES) if module else INTERPOLATIONS
