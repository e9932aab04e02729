"""A loader of training batches whose workers live as long as the training."""

import random
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

__all__ = ["TrainLoader"]


class TrainLoader(DataLoader):
    """A torch loader that starts its workers once, with the batches of one that starts them anew.

    torch seeds workers when they start, so that with its persistent workers a second epoch draws
    other views. Here each epoch's seed is drawn when torch would draw it, goes to the workers with
    the indices, and seeds them before their first item. Between epochs attributes of ``dataset``
    may be set anew; what lies deeper than that is copied when the workers start.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inside: DataLoader | None = None  # the loader with the persistent workers
        self._epochs = 0
        self._running: weakref.ref[_Epoch] | None = None
        self._workers_have: dict[str, Any] = {}

    def __iter__(self) -> Any:
        keep_images = getattr(self.dataset, "keep_images", None)
        if keep_images is not None:
            keep_images()  # before the workers start, which share them
        running = None if self._running is None else self._running()
        if self.num_workers == 0 or (running is not None and not running.done):
            return super().__iter__()  # a second pass beside the first needs workers of its own
        state = self._attributes()
        if state.keys() != self._workers_have.keys() or any(
            state[key] is not value for key, value in self._workers_have.items()
        ):
            self.close()
        if self._inside is None:
            self._start()
        assert self._inside is not None
        seed = torch.empty((), dtype=torch.int64).random_(generator=self.generator).item()
        self._epochs += 1
        self._inside.batch_sampler.tag = (self._epochs, seed)  # type: ignore[union-attr]
        epoch = _Epoch(iter(self._inside))
        self._running = weakref.ref(epoch)
        return epoch

    def _attributes(self) -> dict[str, Any]:
        return dict(getattr(self.dataset, "__dict__", {}))

    def _start(self) -> None:
        """Make the loader inside; its workers start when it is first iterated over."""
        self._workers_have = self._attributes()
        self._inside = DataLoader(
            _SeededItems(self.dataset, self.worker_init_fn),
            batch_sampler=_TaggedBatches(self.batch_sampler),
            num_workers=self.num_workers,
            collate_fn=self.collate_fn,
            pin_memory=self.pin_memory,
            timeout=self.timeout,
            multiprocessing_context=self.multiprocessing_context,
            prefetch_factor=self.prefetch_factor,
            persistent_workers=True,
            generator=torch.Generator(),  # what it draws itself must not shift the global one
        )

    def close(self) -> None:
        """End the workers; an epoch that runs ends with them. The next epoch starts new ones."""
        running = None if self._running is None else self._running()
        if running is not None:
            running.close()
        self._inside = self._running = None  # torch ends workers with their iterator
        self._workers_have = {}


class _Epoch:
    """The batches of one epoch."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self.done = False

    def __iter__(self) -> "_Epoch":
        return self

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __next__(self) -> Any:
        if self.done:
            raise StopIteration
        try:
            return next(self._batches)
        except StopIteration:
            self.close()
            raise
        except BaseException as error:
            # frames inside torch would keep the workers alive as long as the error is
            raise error.with_traceback(None)  # noqa: B904

    def close(self) -> None:
        """Yield no more."""
        self.done = True
        self._batches = iter(())


class _TaggedBatches:
    """Batches of indices, each with the tag of the epoch in front."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.tag = (0, 0)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self.batches:
            yield [self.tag, *batch]


class _SeededItems(Dataset):
    """A dataset that, in a worker, seeds all generators as torch does in one that starts."""

    def __init__(self, dataset: Any, worker_init_fn: Any) -> None:
        self.dataset = dataset
        self.worker_init_fn = worker_init_fn
        self.epoch = 0

    def __getitems__(self, tagged: list[Any]) -> list[Any]:
        (epoch, seed), *indices = tagged
        if epoch != self.epoch:
            self.epoch = epoch
            self._seed(seed)
        several = getattr(self.dataset, "__getitems__", None)
        return several(indices) if several else [self.dataset[index] for index in indices]

    def _seed(self, seed: int) -> None:
        info = get_worker_info()
        assert info is not None, "only workers read from this dataset"
        random.seed(seed + info.id)
        torch.manual_seed(seed + info.id)
        # the numbers that torch gives to numpy
        entropy = [info.id, seed & 0xFFFFFFFF, seed >> 32, 0]
        np.random.seed(np.random.SeedSequence(entropy).generate_state(4))
        if self.worker_init_fn is not None:
            self.worker_init_fn(info.id)
