"""The image tower through torch.compile, for runs with many images (`MODEL.COMPILE True`)."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from trainers.errors import MethodError


class CompiledTower:
    """An image tower that is compiled for each batch size that is larger than all before.

    A smaller batch, such as the last one of a split, is filled up with zeros: it needs no
    compilation of its own. On a GPU the kernels are replayed as a CUDA graph.

    Args:
        tower: images (B, 3, R, R) -> features (B, D); each image for itself, without gradients.
        device: where the tower is.
    """

    def __init__(self, tower: nn.Module, device: torch.device):
        self._tower = tower
        self._mode = "reduce-overhead" if device.type == "cuda" else None
        self._sizes: set[int] = set()  # batch sizes that are compiled

    @cached_property
    def _call(self) -> Callable[[Tensor], Tensor]:
        return torch.compile(self._tower, dynamic=False, mode=self._mode)

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, D); on a GPU they are valid until the next call.

        Raises:
            MethodError: the machine cannot compile.
        """
        B = len(images)
        size = min((s for s in self._sizes if s >= B), default=B)
        if size > B:
            filler = images.new_zeros(size - B, *images.shape[1:])
            images = torch.cat([images, filler])
        try:
            features = self._call(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # whatever the compiler's parts raise
            if size in self._sizes:
                raise
            cause = getattr(error, "inner_exception", error)  # without torch's words around it
            reason = str(cause).strip().partition("\n")[0]
            raise MethodError(
                f"MODEL.COMPILE is True, but the image tower cannot be compiled here ({reason}): "
                "torch.compile needs a Python that it supports, and a C++ compiler such as g++; "
                "install them, or set MODEL.COMPILE False"
            ) from error
        self._sizes.add(size)
        return features[:B]
