"""Orders in which a loader visits the items."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Sampler
from torch.utils.data.sampler import RandomSampler, SequentialSampler

from dassl.utils import UserError

__all__ = [
    "SAMPLERS",
    "RandomClassSampler",
    "RandomDomainSampler",
    "SeqDomainSampler",
    "build_sampler",
]


class _DrawnSampler(Sampler[int]):
    """A sampler whose order is drawn anew for each epoch; its length is that of the next order."""

    def __init__(self) -> None:
        self._next: list[int] | None = None

    def draw(self) -> list[int]:
        """Return the indices of one epoch."""
        raise NotImplementedError

    def __len__(self) -> int:
        # The length depends on the draw, so the order is fixed as soon as somebody asks.
        if self._next is None:
            self._next = self.draw()
        return len(self._next)

    def __iter__(self) -> Iterator[int]:
        order = self.draw() if self._next is None else self._next
        self._next = None
        return iter(order)


def _indices_by(data_source: Sequence[Any], attribute: str) -> dict[int, list[int]]:
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for index, item in enumerate(data_source):
        groups[getattr(item, attribute)].append(index)
    return dict(sorted(groups.items()))


class RandomDomainSampler(_DrawnSampler):
    """Batches of ``n_domain`` random domains with equally many unused items of each.

    Ends when a picked domain has too few items left. ``n_domain <= 0`` means all domains.
    """

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_domain: int) -> None:
        super().__init__()
        self.groups = _indices_by(data_source, "domain")
        self.n_domain = n_domain if n_domain > 0 else len(self.groups)
        if self.n_domain > len(self.groups) or batch_size % self.n_domain != 0:
            raise UserError(
                f"N_DOMAIN is {self.n_domain}, but the data has {len(self.groups)} domains "
                f"and a batch has {batch_size} items, which must be a multiple of N_DOMAIN"
            )
        self.per_domain = batch_size // self.n_domain

    def pick(self) -> list[int]:
        """Return the domains of one batch."""
        return random.sample(list(self.groups), self.n_domain)

    def draw(self) -> list[int]:
        """Return the indices of one epoch."""
        unused = {domain: random.sample(items, len(items)) for domain, items in self.groups.items()}
        order: list[int] = []
        while True:
            domains = self.pick()
            if any(len(unused[domain]) < self.per_domain for domain in domains):
                return order
            for domain in domains:
                order.extend(unused[domain][: self.per_domain])
                del unused[domain][: self.per_domain]


class SeqDomainSampler(RandomDomainSampler):
    """As `RandomDomainSampler`, with all domains in sorted order in each batch."""

    def __init__(self, data_source: Sequence[Any], batch_size: int) -> None:
        super().__init__(data_source, batch_size, n_domain=0)

    def pick(self) -> list[int]:
        """Return all domains."""
        return list(self.groups)


class RandomClassSampler(_DrawnSampler):
    """Batches of ``batch_size // n_ins`` random classes with ``n_ins`` items of each.

    A class with fewer items is drawn with replacement.
    """

    def __init__(self, data_source: Sequence[Any], batch_size: int, n_ins: int) -> None:
        super().__init__()
        self.groups = _indices_by(data_source, "label")
        self.n_ins = n_ins
        self.n_classes = batch_size // n_ins
        if not 1 <= self.n_classes <= len(self.groups):
            raise UserError(
                f"A batch of {batch_size} items with N_INS {n_ins} holds {self.n_classes} classes, "
                f"but must hold between 1 and {len(self.groups)}"
            )

    def draw(self) -> list[int]:
        """Return the indices of one epoch."""
        chunks: dict[int, list[list[int]]] = {}
        for label, items in self.groups.items():
            if len(items) < self.n_ins:
                items = np.random.choice(items, size=self.n_ins, replace=True).tolist()
            items = random.sample(items, len(items))
            whole = len(items) - len(items) % self.n_ins
            chunks[label] = [items[i : i + self.n_ins] for i in range(0, whole, self.n_ins)]
        order: list[int] = []
        while len(chunks) >= self.n_classes:
            for label in random.sample(list(chunks), self.n_classes):
                order.extend(chunks[label].pop(0))
                if not chunks[label]:
                    del chunks[label]
        return order


# name -> maker, which is given the items, and the size, domains and items per class of a batch
SAMPLERS: dict[str, Callable[[Any, int, int, int], Sampler[int]]] = {
    "RandomSampler": lambda items, *_: RandomSampler(items),
    "SequentialSampler": lambda items, *_: SequentialSampler(items),
    "RandomDomainSampler": lambda items, size, domains, _: RandomDomainSampler(
        items, size, domains
    ),
    "SeqDomainSampler": lambda items, size, *_: SeqDomainSampler(items, size),
    "RandomClassSampler": lambda items, size, _, per_class: RandomClassSampler(
        items, size, per_class
    ),
}


def build_sampler(
    sampler_type: str,
    cfg: Any = None,
    data_source: Any = None,
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler[int]:
    """Build a sampler by name.

    Raises:
        UserError: unknown name.
    """
    if sampler_type not in SAMPLERS:
        raise UserError(f"Unknown sampler type: {sampler_type}")
    return SAMPLERS[sampler_type](data_source, batch_size, n_domain, n_ins)
