"""Pipelines of image transforms; which steps is configured, in which order is fixed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torchvision import transforms as T
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode
from yacs.config import CfgNode

from dassl.utils import ChoiceError

from .names import AVAI_CHOICES, INTERPOLATIONS

__all__ = [
    "AVAI_CHOICES",
    "INTERPOLATION_MODES",
    "Cutout",
    "GaussianNoise",
    "InstanceNormalization",
    "Random2DTranslation",
    "build_transform",
]


class _Modes(dict[str, InterpolationMode]):
    def __missing__(self, name: str) -> InterpolationMode:
        raise ChoiceError(f"INPUT.INTERPOLATION must be one of {list(self)}, but got {name}")


INTERPOLATION_MODES = _Modes({name: InterpolationMode(name) for name in INTERPOLATIONS})


class Random2DTranslation:
    """With probability ``p`` enlarge to 9/8 of the size and crop at random, else resize."""

    def __init__(
        self,
        height: int,
        width: int,
        p: float = 0.5,
        interpolation: InterpolationMode = InterpolationMode.BILINEAR,
    ) -> None:
        self.p = p
        self.size = (height, width)
        self.interpolation = interpolation
        self.resize = T.Resize((height, width), interpolation=interpolation)
        larger = (round(height * 1.125), round(width * 1.125))
        self.enlarge_and_crop = T.Compose(
            [T.Resize(larger, interpolation=interpolation), T.RandomCrop((height, width))]
        )

    def __call__(self, img: Any) -> Any:
        return self.resize(img) if torch.rand(1).item() > self.p else self.enlarge_and_crop(img)

    def __repr__(self) -> str:
        name, mode = type(self).__name__, self.interpolation.value
        return f"{name}(size={self.size}, p={self.p}, interpolation={mode})"


class InstanceNormalization:
    """Bring each channel of an image (3, H, W) to mean 0 and standard deviation 1."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        mean = img.mean(dim=(1, 2), keepdim=True)
        std = img.std(dim=(1, 2), keepdim=True)
        return (img - mean) / (std + self.eps)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(eps={self.eps})"


class Cutout:
    """Set ``n_holes`` squares of side ``length`` at random centres of an image (3, H, W) to 0."""

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes = n_holes
        self.length = length

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        height, width = img.shape[-2:]
        img = img.clone()
        for _ in range(self.n_holes):
            y = int(torch.randint(height, (1,)))
            x = int(torch.randint(width, (1,)))
            half = self.length // 2
            img[..., max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return img

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_holes={self.n_holes}, length={self.length})"


class GaussianNoise:
    """With probability ``p`` add normal noise to an image (3, H, W)."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean = mean
        self.std = std
        self.p = p

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        if torch.rand(1).item() > self.p:
            return img
        return img + torch.randn_like(img) * self.std + self.mean

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mean={self.mean}, std={self.std}, p={self.p})"


def build_transform(
    cfg: CfgNode, is_train: bool = True, choices: Sequence[str] | None = None
) -> Callable[[Any], torch.Tensor] | None:
    """Build the training or test pipeline (Dassl API, section 3.3) and print its steps.

    Args:
        cfg: the configuration.
        is_train: with augmentation, or resize and centre crop only.
        choices: names of steps; default ``cfg.INPUT.TRANSFORMS``. Their order does not matter.

    Returns:
        A function from an RGB image to a tensor (3, H, W), or None with NO_TRANSFORM.

    Raises:
        ChoiceError: an unknown name, or a blur that is larger than the images.
    """
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    if choices is None:
        choices = cfg.INPUT.TRANSFORMS
    for choice in choices:
        if choice not in AVAI_CHOICES:
            raise ChoiceError(
                f'INPUT.TRANSFORMS has "{choice}"; the known names are {AVAI_CHOICES}'
            )
    if is_train and "gaussian_blur" in choices and min(cfg.INPUT.SIZE) <= cfg.INPUT.GB_K // 2:
        raise ChoiceError(
            f"INPUT.GB_K is {cfg.INPUT.GB_K}, too large to blur images of {min(cfg.INPUT.SIZE)} "
            f"pixels (INPUT.SIZE): expected at most {2 * min(cfg.INPUT.SIZE) - 1}"
        )
    print(f"Building transform_{'train' if is_train else 'test'}")
    steps = _train_steps(cfg, choices) if is_train else _test_steps(cfg, choices)
    for _, text in steps:
        print(f"+ {text}")
    return T.Compose([step for step, _ in steps])


Step = tuple[Callable[[Any], Any], str]


def _train_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    """Return the training steps with the line to print for each."""
    inp = cfg.INPUT
    size, mode = inp.SIZE, INTERPOLATION_MODES[inp.INTERPOLATION]
    n, m = inp.RANDAUGMENT_N, inp.RANDAUGMENT_M

    def random_ops() -> T.TrivialAugmentWide:  # one operation, its strength drawn too
        return T.TrivialAugmentWide(interpolation=mode)

    # Name of the choice, how to build the step, its line. The order is that of the pipeline.
    spatial: list[tuple[str, Callable[[], Any], str]] = [
        (
            "random_translation",
            lambda: Random2DTranslation(size[0], size[1], 0.5, mode),
            "random translation",
        ),
        (
            "random_crop",
            lambda: T.RandomCrop(size, padding=inp.CROP_PADDING),
            f"random crop (padding = {inp.CROP_PADDING})",
        ),
        (
            "random_resized_crop",
            lambda: T.RandomResizedCrop(size, scale=inp.RRCROP_SCALE, interpolation=mode),
            f"random resized crop (size={size}, scale={inp.RRCROP_SCALE})",
        ),
        ("random_flip", T.RandomHorizontalFlip, "random flip"),
    ]
    colour: list[tuple[str, Callable[[], Any], str]] = [
        (
            "imagenet_policy",
            lambda: T.AutoAugment(AutoAugmentPolicy.IMAGENET, mode),
            "imagenet policy",
        ),
        (
            "cifar10_policy",
            lambda: T.AutoAugment(AutoAugmentPolicy.CIFAR10, mode),
            "cifar10 policy",
        ),
        ("svhn_policy", lambda: T.AutoAugment(AutoAugmentPolicy.SVHN, mode), "svhn policy"),
        (
            "randaugment",
            lambda: T.RandAugment(n, m, interpolation=mode),
            f"randaugment (n={n}, m={m})",
        ),
        (
            "randaugment_fixmatch",
            lambda: T.Compose([random_ops() for _ in range(n)]),
            f"randaugment_fixmatch (n={n})",
        ),
        (
            "randaugment2",
            lambda: T.Compose([T.RandomApply([random_ops()], p=0.6) for _ in range(n)]),
            f"randaugment2 (n={n})",
        ),
        (
            "colorjitter",
            lambda: T.ColorJitter(
                inp.COLORJITTER_B, inp.COLORJITTER_C, inp.COLORJITTER_S, inp.COLORJITTER_H
            ),
            f"color jitter (brightness={inp.COLORJITTER_B}, contrast={inp.COLORJITTER_C}, "
            f"saturation={inp.COLORJITTER_S}, hue={inp.COLORJITTER_H})",
        ),
        (
            "randomgrayscale",
            lambda: T.RandomGrayscale(inp.RGS_P),
            f"random gray scale (p={inp.RGS_P})",
        ),
        (
            "gaussian_blur",
            lambda: T.RandomApply([T.GaussianBlur(inp.GB_K)], p=inp.GB_P),
            f"gaussian blur (kernel={inp.GB_K}, p={inp.GB_P})",
        ),
    ]
    steps: list[Step] = []
    if "random_crop" not in choices and "random_resized_crop" not in choices:
        steps.append((T.Resize(size, interpolation=mode), f"resize to {size[0]}x{size[1]}"))
    steps += [(make(), text) for name, make, text in spatial + colour if name in choices]
    return steps + _tensor_steps(cfg, choices, is_train=True)


def _test_steps(cfg: CfgNode, choices: Sequence[str]) -> list[Step]:
    """Return the test steps with the line to print for each."""
    size, mode = cfg.INPUT.SIZE, INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
    if cfg.INPUT.get("RESIZE") == "squash":
        squash: Step = (T.Resize(size, interpolation=mode), f"resize to {size[0]}x{size[1]}")
        return [squash, *_tensor_steps(cfg, choices, is_train=False)]
    steps: list[Step] = [
        (T.Resize(max(size), interpolation=mode), f"resize the smaller edge to {max(size)}"),
        (T.CenterCrop(size), f"{size[0]}x{size[1]} center crop"),
    ]
    return steps + _tensor_steps(cfg, choices, is_train=False)


def _tensor_steps(cfg: CfgNode, choices: Sequence[str], is_train: bool) -> list[Step]:
    """Return the conversion to a tensor and all steps after it."""
    inp = cfg.INPUT
    steps: list[Step] = [(T.ToTensor(), "to torch tensor of range [0, 1]")]
    if is_train and "cutout" in choices:
        text = f"cutout (n_holes={inp.CUTOUT_N}, length={inp.CUTOUT_LEN})"
        steps.append((Cutout(inp.CUTOUT_N, inp.CUTOUT_LEN), text))
    if "normalize" in choices:
        text = f"normalization (mean={inp.PIXEL_MEAN}, std={inp.PIXEL_STD})"
        steps.append((T.Normalize(mean=inp.PIXEL_MEAN, std=inp.PIXEL_STD), text))
    if is_train and "gaussian_noise" in choices:
        text = f"gaussian noise (mean={inp.GN_MEAN}, std={inp.GN_STD})"
        steps.append((GaussianNoise(inp.GN_MEAN, inp.GN_STD), text))
    if "instance_norm" in choices:
        steps.append((InstanceNormalization(), "instance normalization"))
    return steps
