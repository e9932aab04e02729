"""Items of a loader: images of a list of `Datum`, transformed."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset
from torchvision import transforms as T
from yacs.config import CfgNode

from dassl.utils import UserError, read_image

from .image_memory import MEBIBYTE, ImageMemory, decoded
from .transforms import INTERPOLATION_MODES

__all__ = ["DatasetWrapper"]


class DatasetWrapper(Dataset):
    """A torch dataset over a list of `Datum` (Dassl API, section 3.4).

    Items are dicts: ``label``, ``domain``, ``impath``, ``index`` (position in the list), ``img``;
    with several transforms also ``img2``, ...; with RETURN_IMG0 also ``img0`` (resized only).
    """

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Any],
        transform: Any = None,
        is_train: bool = False,
    ) -> None:
        self.cfg = cfg
        self.data_source = data_source
        self.transform = transform
        self.is_train = is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise UserError(
                f"Cannot transform the image {self.k_tfm} times because transform is None"
            )
        interpolation = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        to_tensor = [T.Resize(cfg.INPUT.SIZE, interpolation=interpolation), T.ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            to_tensor.append(T.Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
        self.to_tensor = T.Compose(to_tensor)
        self.memory: ImageMemory | None = None

    def keep_images(self) -> None:
        """Decode training images once, as many as fit into DATALOADER.MEMORY_MB; say how many.

        A loader calls it before it starts workers. A subclass with items of its own keeps none.
        """
        limit = self.cfg.DATALOADER.MEMORY_MB * MEBIBYTE
        own_items = type(self).__getitem__ is not DatasetWrapper.__getitem__
        if self.memory is not None or limit <= 0 or own_items:
            return
        paths = {item.impath: None for item in self.data_source}
        memory = decoded(paths, limit, threads=max(1, self.cfg.DATALOADER.NUM_WORKERS))
        all_kept = len(memory) == len(paths)
        print(
            f"Keeping {len(memory)}{'' if all_kept else f' of {len(paths)}'} decoded training "
            f"images in memory ({memory.nbytes / MEBIBYTE:.1f} MiB)"
            + ("" if all_kept else "; the others are decoded each time (DATALOADER.MEMORY_MB)")
        )
        self.memory = memory

    def __len__(self) -> int:
        return len(self.data_source)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        item = self.data_source[idx]
        output: dict[str, Any] = {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": idx,
        }
        img0 = (read_image if self.memory is None else self.memory.read)(item.impath)
        if self.transform is None:
            output["img"] = img0
        elif isinstance(self.transform, (list, tuple)):
            for i, tfm in enumerate(self.transform):
                output["img" if i == 0 else f"img{i + 1}"] = self._transform_image(tfm, img0)
        else:
            output["img"] = self._transform_image(self.transform, img0)
        if self.return_img0:
            output["img0"] = self.to_tensor(img0)
        return output

    def _transform_image(
        self, tfm: Callable[[Any], torch.Tensor], img0: Any
    ) -> torch.Tensor | list[torch.Tensor]:
        views = [tfm(img0) for _ in range(self.k_tfm)]
        return views[0] if self.k_tfm == 1 else views
