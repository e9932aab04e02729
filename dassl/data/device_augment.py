"""Training views that are made on the device, in batches, with the bits that Pillow gives.

The images are decoded once and stay on the device as uint8. Random numbers are drawn on the CPU, in
the order of the Pillow pipeline without workers. Pillow resizes with whole numbers: weights times
2**22, along one axis, rounded to 8 bits, then along the other. So do two matrix products for each
image.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from yacs.config import CfgNode

from dassl.utils import UserError

from .dataset_wrapper import DatasetWrapper
from .image_memory import MEBIBYTE, ImageMemory

__all__ = ["DeviceViews", "resize_as_pillow"]

CHOICES = ("random_resized_crop", "random_flip", "normalize")
SIZE_STEPS = (T.RandomResizedCrop, T.Resize)
PRECISION = 22  # bits of Pillow's weights after the point
SPLIT = 2**11  # halves of a weight, so that sums of float32 products are exact
PART = 256 * MEBIBYTE  # of padded images that are resized at once


class DeviceViews(DatasetWrapper):
    """Training images on a device: items are views that are drawn, `collate` makes the batch.

    Raises:
        UserError: a step of the pipeline is not one of `CHOICES`.
    """

    def __init__(
        self, cfg: CfgNode, data_source: Sequence[Any], transform: Any, device: torch.device
    ) -> None:
        _check_pipeline(cfg, transform)
        super().__init__(cfg, data_source, transform, is_train=True)
        self.device = device
        self.steps = transform.transforms

    def keep_images(self) -> None:
        """Decode all images onto the device, the first time; say how many.

        Raises:
            UserError: they do not fit into DATALOADER.MEMORY_MB.
            ImageError: an image cannot be decoded.
        """
        if self.memory is not None:
            return
        loaders = self.cfg.DATALOADER
        paths = list(dict.fromkeys(item.impath for item in self.data_source))
        _check_memory(paths, loaders.MEMORY_MB)
        self.memory = ImageMemory(paths, threads=max(1, loaders.NUM_WORKERS)).to(self.device)
        print(
            f"Keeping {len(paths)} decoded training images on {self.device} "
            f"({self.memory.nbytes / MEBIBYTE:.1f} MiB)"
        )

    def __getitem__(self, idx: int) -> dict[str, Any]:
        self.keep_images()
        item = self.data_source[idx]
        assert self.memory is not None
        pixels = self.memory.pixels(item.impath)
        assert pixels is not None
        image, flipped = pixels.permute(2, 0, 1), False
        for step in self.steps:
            if isinstance(step, T.RandomResizedCrop):
                box = step.get_params(image, list(step.scale), list(step.ratio))
                image = F.crop(image, *box)
            elif isinstance(step, T.RandomHorizontalFlip):
                flipped = bool(torch.rand(1) < step.p)
        return {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": idx,
            "view": (image, flipped),
        }

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch of items, with "img" (B, 3, H, W) on the device."""
        views = [item.pop("view") for item in items]
        batch = default_collate(items)
        batch["img"] = self._finish([image for image, _ in views], [flip for _, flip in views])
        return batch

    def _finish(self, images: list[torch.Tensor], flipped: list[bool]) -> torch.Tensor:
        """Resize, flip and normalise uint8 crops (3, h, w)."""
        resize = next(step for step in self.steps if isinstance(step, SIZE_STEPS))
        out = resize_as_pillow(images, resize.size, resize.interpolation)
        mirrored = _numbers(flipped, torch.bool, out.device)[:, None, None, None]
        # by a tensor: a GPU multiplies by the reciprocal of a number, which rounds otherwise
        out = torch.where(mirrored, out.flip(-1), out).float().div_(self._constants[0])
        for mean, std in self._constants[1]:
            out.sub_(mean).div_(std)  # as torchvision, which would look at std on the host
        return out

    @cached_property
    def _constants(self) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        """The largest level, and mean and deviation (3, 1, 1) of each normalisation."""
        steps = [step for step in self.steps if isinstance(step, T.Normalize)]
        normal = [
            [torch.tensor(v, dtype=torch.float32, device=self.device).view(-1, 1, 1) for v in pair]
            for pair in ((step.mean, step.std) for step in steps)
        ]
        return torch.tensor(255.0, device=self.device), normal


def _check_pipeline(cfg: CfgNode, transform: Any) -> None:
    """Refuse what cannot be done on the device."""
    other = [name for name in cfg.INPUT.TRANSFORMS if name not in CHOICES]
    if other:
        raise UserError(
            f"INPUT.DEVICE_AUGMENT cannot do {', '.join(other)} of INPUT.TRANSFORMS; it knows "
            f"{', '.join(CHOICES)}. Remove the others, or set INPUT.DEVICE_AUGMENT False"
        )
    for key, value in (("K_TRANSFORMS", 1), ("RETURN_IMG0", False)):
        if cfg.DATALOADER[key] != value:
            raise UserError(
                f"INPUT.DEVICE_AUGMENT makes one view of each image: DATALOADER.{key} is "
                f"{cfg.DATALOADER[key]}, expected {value}"
            )
    if cfg.INPUT.INTERPOLATION == "nearest":
        raise UserError(
            "INPUT.DEVICE_AUGMENT resizes bilinear or bicubic, but INPUT.INTERPOLATION is nearest"
        )
    steps = getattr(transform, "transforms", ())
    kinds = [type(step) for step in steps]
    order = (*SIZE_STEPS, T.RandomHorizontalFlip, T.ToTensor, T.Normalize)
    resizes = [step for step in steps if isinstance(step, SIZE_STEPS)]
    if (
        kinds != [kind for kind in order if kind in kinds]
        or T.ToTensor not in kinds
        or [step.interpolation in KERNELS and np.shape(step.size) for step in resizes] != [(2,)]
    ):
        raise UserError(
            "INPUT.DEVICE_AUGMENT needs a training transform of a crop or resize (bilinear or "
            "bicubic, to a height and width), a flip, a tensor and a normalisation, in this order, "
            f"but it is {transform}"
        )


def _check_memory(paths: list[str], limit: int) -> None:
    """Refuse images that need more than `limit` MiB; a damaged file is told when it is read."""
    needed = 0
    for path in paths:
        try:
            with Image.open(path) as image:
                needed += 3 * image.height * image.width
        except Exception:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ...
            continue
    if needed > limit * MEBIBYTE:
        raise UserError(
            f"INPUT.DEVICE_AUGMENT keeps all {len(paths)} training images on the device: they need "
            f"DATALOADER.MEMORY_MB {math.ceil(needed / MEBIBYTE)}, but it is {limit}. Raise it if "
            "the device has room, or run without INPUT.DEVICE_AUGMENT in another folder"
        )


def resize_as_pillow(
    images: Sequence[torch.Tensor], size: Sequence[int], mode: InterpolationMode
) -> torch.Tensor:
    """Resize images with the arithmetic of Pillow, on their device.

    Args:
        images: B images (3, h, w), uint8, of any sizes.
        size: height and width of the result.
        mode: bilinear or bicubic.

    Returns:
        uint8 (B, 3, height, width).
    """
    done: dict[int, torch.Tensor] = {}
    groups: dict[bool, list[int]] = {False: [], True: []}
    for index, image in enumerate(images):
        groups[_height_first(image, size)].append(index)
    for height_first, members in groups.items():
        height, width = (max((images[i].shape[d] for i in members), default=1) for d in (1, 2))
        part = max(1, PART // (3 * 4 * height * width))
        for start in range(0, len(members), part):
            some = members[start : start + part]
            resized = _resize_padded([images[i] for i in some], size, mode, height_first)
            done |= zip(some, resized, strict=True)
    return torch.stack([done[i] for i in range(len(images))])


def _numbers(
    values: Sequence[float], dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    """Numbers on a device; the host does not wait until they are there."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.tensor(values, dtype=dtype, pin_memory=on_gpu).to(device, non_blocking=True)


def _height_first(image: torch.Tensor, size: Sequence[int]) -> bool:
    """Whether Pillow resizes the height of this image before its width."""
    fewer_rows, fewer_columns = image.shape[1] - size[0], image.shape[2] - size[1]
    return _pillow_chooses_order() and fewer_rows > 2 * max(fewer_columns, 0)


@cache
def _pillow_chooses_order() -> bool:
    """Whether this Pillow starts with the height of tall images; 13.0 does, 12.0 does not."""
    tall = Image.frombytes("L", (4, 64), bytes(i * i % 256 for i in range(256)))
    whole = tall.resize((8, 8), Image.Resampling.BICUBIC)
    height = tall.resize((4, 8), Image.Resampling.BICUBIC)
    return whole.tobytes() == height.resize((8, 8), Image.Resampling.BICUBIC).tobytes()


def _resize_padded(
    images: list[torch.Tensor], size: Sequence[int], mode: InterpolationMode, height_first: bool
) -> torch.Tensor:
    """Resize images (3, h, w) that are padded to one size, with two products; uint8."""
    heights = [image.shape[1] for image in images]
    widths = [image.shape[2] for image in images]
    pixels = torch.zeros(len(images), 3, max(heights), max(widths), device=images[0].device)
    for place, image in zip(pixels, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    rows = ("bchw,brh->bcrw", _weights(heights, size[0], KERNELS[mode], pixels.device))
    columns = ("bchw,bsw->bchs", _weights(widths, size[1], KERNELS[mode], pixels.device))
    for equation, weights in (rows, columns) if height_first else (columns, rows):
        pixels = _weigh(equation, pixels, weights)
    return pixels.to(torch.uint8)


def _weigh(equation: str, pixels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum pixels with whole-number weights, round to 8 bits; float32.

    Exact where at most 64 pixels count for one; beyond that a last bit may differ.
    """
    high = (weights / SPLIT).round()
    low = weights - SPLIT * high
    total = torch.einsum(equation, pixels, high.float()).int() * SPLIT
    total += torch.einsum(equation, pixels, low.float()).int()
    return ((total + 2 ** (PRECISION - 1)) >> PRECISION).clamp_(0, 255).float()


def _weights(
    lengths: list[int],
    out: int,
    kernel: Callable[[torch.Tensor], torch.Tensor],
    device: torch.device,
) -> torch.Tensor:
    """Pillow's weights (B, out, n) in units of 2**-22, for B lengths of at most n pixels."""
    length = _numbers(lengths, torch.float64, device)[:, None, None]
    pixel = torch.arange(max(lengths), dtype=torch.float64, device=device)
    target = torch.arange(out, dtype=torch.float64, device=device)[:, None]
    scale = length / torch.full_like(length, out)  # a GPU divides by numbers less exactly
    centre = (target + 0.5) * scale
    distance = (pixel - centre + 0.5) * (1 / scale.clamp(min=1))
    weight = kernel(distance.abs()) * (pixel < length)
    weight = weight / weight.sum(-1, keepdim=True) * 2**PRECISION
    return torch.trunc(weight + torch.copysign(torch.full_like(weight, 0.5), weight))


def _triangle(x: torch.Tensor) -> torch.Tensor:
    return (1 - x).clamp(min=0)


def _cubic(x: torch.Tensor) -> torch.Tensor:
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * -0.5
    # a product: torch.where would copy a number to a GPU, and the host would wait
    return torch.where(x < 1, inner, outer * (x < 2))


KERNELS = {InterpolationMode.BILINEAR: _triangle, InterpolationMode.BICUBIC: _cubic}
