"""From lists of `Datum` to loaders of batches."""

from collections.abc import Callable, Sequence
from typing import Any

from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from dassl.utils import UserError, get_device

from .dataset_wrapper import DatasetWrapper
from .datasets import Datum, build_dataset
from .device_augment import DeviceViews
from .samplers import build_sampler
from .train_loader import TrainLoader
from .transforms import build_transform

__all__ = ["DataManager", "DatasetWrapper", "build_data_loader"]


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Any] | None = None,
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Any = None,
    is_train: bool = True,
    dataset_wrapper: Callable[..., Dataset] | None = None,
) -> DataLoader:
    """Build a loader (Dassl API, section 3.5).

    In training an incomplete last batch is dropped, unless it is the only one, and workers live
    as long as the loader. With INPUT.DEVICE_AUGMENT training batches are made on the device.

    Raises:
        UserError: there is no item, the batch size is not positive, or the device cannot do what
            is configured.
    """
    if not data_source:
        raise UserError(
            f"The {'training' if is_train else 'test'} data of "
            f"{cfg.DATASET.NAME or 'the dataset'} is empty"
        )
    if batch_size < 1:
        raise UserError(f"The batch size must be at least 1, but got {batch_size}")
    sampler = build_sampler(sampler_type, cfg, data_source, batch_size, n_domain, n_ins)
    drop_last = is_train and len(data_source) >= batch_size
    device = get_device(cfg.USE_CUDA)
    if is_train and cfg.INPUT.DEVICE_AUGMENT:
        if dataset_wrapper is not None:
            raise UserError(
                "INPUT.DEVICE_AUGMENT makes the batches itself: it does not go with a "
                "dataset_wrapper"
            )
        views = DeviceViews(cfg, data_source, tfm, device)
        return DataLoader(
            views, batch_size, sampler=sampler, drop_last=drop_last, collate_fn=views.collate
        )
    return (TrainLoader if is_train else DataLoader)(
        (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=drop_last,
        pin_memory=device.type == "cuda",
    )


class DataManager:
    """The dataset of a configuration with its transforms and loaders.

    ``train_loader_x`` is None for a test-only dataset; ``train_loader_u`` and ``val_loader`` are
    None without such data.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Any = None,
        custom_tfm_test: Any = None,
        dataset_wrapper: Callable[..., Dataset] | None = None,
    ) -> None:
        dataset = build_dataset(cfg)
        if custom_tfm_train is None:
            tfm_train = build_transform(cfg, is_train=True)
        else:
            print("* Using custom transform for training")
            tfm_train = custom_tfm_train
        if custom_tfm_test is None:
            tfm_test = build_transform(cfg, is_train=False)
        else:
            print("* Using custom transform for testing")
            tfm_test = custom_tfm_test

        def train_loader(source: Sequence[Datum] | None, node: CfgNode) -> DataLoader | None:
            if not source:
                return None
            return build_data_loader(
                cfg,
                sampler_type=node.SAMPLER,
                data_source=source,
                batch_size=node.BATCH_SIZE,
                n_domain=node.N_DOMAIN,
                n_ins=node.N_INS,
                tfm=tfm_train,
                is_train=True,
                dataset_wrapper=dataset_wrapper,
            )

        def test_loader(source: Sequence[Datum] | None) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=cfg.DATALOADER.TEST.SAMPLER,
                data_source=source,
                batch_size=cfg.DATALOADER.TEST.BATCH_SIZE,
                tfm=tfm_test,
                is_train=False,
                dataset_wrapper=dataset_wrapper,
            )

        loaders = cfg.DATALOADER
        self.train_loader_x = train_loader(dataset.train_x, loaders.TRAIN_X)
        self.train_loader_u = train_loader(
            dataset.train_u, loaders.TRAIN_X if loaders.TRAIN_U.SAME_AS_X else loaders.TRAIN_U
        )
        self.val_loader = test_loader(dataset.val) if dataset.val else None
        self.test_loader = test_loader(dataset.test)
        self._dataset = dataset
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def dataset(self) -> Any:
        """The dataset."""
        return self._dataset

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self._dataset.num_classes

    @property
    def num_source_domains(self) -> int:
        """Number of source domains."""
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        """Class name by label."""
        return self._dataset.lab2cname

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print a table of what there is."""
        dataset = self._dataset
        table: list[list[Any]] = [["Dataset", cfg.DATASET.NAME]]
        if cfg.DATASET.SOURCE_DOMAINS:
            table.append(["Source", cfg.DATASET.SOURCE_DOMAINS])
        if cfg.DATASET.TARGET_DOMAINS:
            table.append(["Target", cfg.DATASET.TARGET_DOMAINS])
        table.append(["# classes", f"{self.num_classes:,}"])
        table.append(["# train_x", f"{len(dataset.train_x or ()):,}"])
        if dataset.train_u:
            table.append(["# train_u", f"{len(dataset.train_u):,}"])
        if dataset.val:
            table.append(["# val", f"{len(dataset.val):,}"])
        table.append(["# test", f"{len(dataset.test):,}"])
        print(tabulate(table))
