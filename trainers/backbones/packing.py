"""How the tokens of many prompts are laid out for the text tower: packed, then in rows.

All prompts of a list start alike (start token, shared context) and go on by themselves. The start
stands once, at the head of the first row, and the classes fill that row and the others, several in
each; a mask keeps them apart. All rows are equally long, so that the tower computes a batch of them
with the same kernels for any list, almost without padding.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from itertools import accumulate, pairwise
from math import ceil
from typing import Any

import torch
from torch import Tensor

# places of a row that is one of several: shorter ones take more copies of the start's keys, longer
# ones attend to more that they must not see
PLACES = 64
LINEAR = 1024  # places that a place could attend to at the cost of its matrix products
ALIGNED = 8  # strides of a mask that fused attention takes as it is


@dataclass(frozen=True)
class Rows:
    """R rows of L places: the P tokens of the shared start, then the tokens of classes.

    The keys of a row are the start's and its own, those of a single row its own alone.

    Attributes:
        count: R.
        source: (R * L - P,) which of the T packed tokens stands at each place after the start; what
            stands at padding is read by nobody.
        position: (R * L,) of the token in its own prompt.
        ends: (C,) places of the end tokens among all R * L, in the order of the classes.
        bias: (R, 1, L, keys or a few more), added to attention: 0 where a query may see a key, else
            -inf; more columns than keys, so that strides are multiples of `ALIGNED`.
    """

    count: int
    source: Tensor
    position: Tensor
    ends: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Layout:
    """How the own tokens of C classes lie packed: one class after another.

    Attributes:
        lengths: tokens of each class, at least 1.
    """

    lengths: tuple[int, ...]
    _rows: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _parts: dict[tuple[str, int], list[tuple[slice, Layout]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Layout:
        """The layout for classes of these lengths (each at least 1)."""
        return cls(tuple(lengths))

    def parts(self, most: int) -> list[tuple[slice, Layout]]:
        """Neighbours of at most `most` tokens together, one class at least: tokens and own layout.

        As few parts as fit, of about the same size: the largest decides about memory. Made once, as
        they keep their rows.
        """
        key = ("tokens", most)
        if key not in self._parts:
            self._parts[key] = self._cut(self._stops(most))
        return self._parts[key]

    def few(self, most: int) -> list[tuple[slice, Layout]]:
        """Neighbours, at most so many classes together: tokens and own layout; made once."""
        key = ("classes", most)
        if key not in self._parts:
            C = len(self.lengths)
            self._parts[key] = self._cut([*range(most, C, most), C])
        return self._parts[key]

    def _stops(self, most: int) -> list[int]:
        """The class after each of the `parts`."""
        starts = list(accumulate(self.lengths, initial=0))
        count = ceil(starts[-1] / max(most, 1))
        most = min(most, ceil(starts[-1] / count) + max(self.lengths) - 1)
        stops = [0]
        while stops[-1] < len(self.lengths):
            first = stops[-1]
            stops.append(max(first + 1, bisect_right(starts, starts[first] + most) - 1))
        return stops[1:]

    def _cut(self, stops: Sequence[int]) -> list[tuple[slice, Layout]]:
        """Parts that end before these classes: tokens and own layout."""
        starts = list(accumulate(self.lengths, initial=0))
        return [
            (slice(starts[first], starts[stop]), Layout(self.lengths[first:stop]))
            for first, stop in pairwise([0, *stops])
        ]

    def padded(self, shared: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Every prompt at full length, for P shared tokens; made once.

        Returns:
            (C, length) which of the P shared, then T packed tokens, then one of padding stands at
            each place; (C,) the places of the end tokens.
        """
        key = (shared, length, device)
        if key not in self._rows:
            rows, first, padding = [], shared, shared + sum(self.lengths)
            for own in self.lengths:
                row = [*range(shared), *range(first, first + own)]
                rows.append(row + [padding] * (length - len(row)))
                first += own
            ends = [shared + own - 1 for own in self.lengths]
            self._rows[key] = torch.tensor(rows).to(device), torch.tensor(ends).to(device)
        return self._rows[key]

    def rows(self, shared: int, device: torch.device, dtype: torch.dtype) -> Rows:
        """The rows for P shared tokens; made once, as to copy them makes a GPU wait."""
        key = (shared, device, dtype)
        if key not in self._rows:
            self._rows[key] = _make_rows(self.lengths, shared, device, dtype)
        return self._rows[key]


def _make_rows(lengths: tuple[int, ...], P: int, device: torch.device, dtype: torch.dtype) -> Rows:
    """See `Layout.rows`."""
    C, own = len(lengths), torch.tensor(lengths)
    R, L, row, offset = _places(lengths, P)
    first = torch.tensor(row) * L + torch.tensor(offset)  # (C,) place of each first own token
    owner = torch.arange(C).repeat_interleave(own, output_size=sum(lengths))  # (T,)
    number = torch.arange(len(owner)) - (own.cumsum(0) - own)[owner]  # (T,) within its class
    place = first[owner] + number
    source, position = torch.zeros(2, R * L, dtype=torch.long)
    source[place] = torch.arange(len(owner))
    position[:P] = torch.arange(P)
    position[place] = P + number
    start, padding = C, C + 1  # like classes of their own
    whose = torch.full((R * L,), padding)
    whose[place], whose[:P] = owner, start
    queries, keys = whose.view(R, L, 1), whose.view(R, 1, L)
    seen = ((queries == keys) | (keys == start)).tril()  # (R, L, L)
    if R > 1:  # the first row has the start among its own
        others = (torch.arange(R) > 0).view(R, 1, 1).expand(R, L, P)
        seen = torch.cat([others, seen], dim=2)
    width = ceil(seen.shape[2] / ALIGNED) * ALIGNED
    bias = torch.zeros(R, 1, L, width, dtype=dtype)
    bias[..., : seen.shape[2]].masked_fill_(~seen[:, None], float("-inf"))
    return Rows(R, *(t.to(device) for t in (source[P:], position, first + own - 1, bias)))


def _places(lengths: tuple[int, ...], P: int) -> tuple[int, int, list[int], list[int]]:
    """Rows R and their places L, the row of each class, and the place in it where the class begins.

    No row need be longer than the start, a class or `PLACES`, if these are more. Of up to a third
    fewer rows, the number that costs least: every place costs `LINEAR` places seen, and L.
    """
    most = max(1, (P + sum(lengths)) // max(PLACES, P, *lengths))
    found = [_filled(lengths, P, R) for R in range(ceil(most * 2 / 3), most + 1)]
    return min(found, key=lambda rows: rows[0] * rows[1] * (LINEAR + rows[1]))


def _filled(lengths: tuple[int, ...], P: int, R: int) -> tuple[int, int, list[int], list[int]]:
    """As `_places` for R rows: the longest class first, each into the emptiest row."""
    row, offset = [0] * len(lengths), [0] * len(lengths)
    rows = [(0, r) for r in range(1, R)] + [(P, 0)]
    heapify(rows)
    for c in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        offset[c], row[c] = rows[0]
        heapreplace(rows, (offset[c] + lengths[c], row[c]))
    return R, max(filled for filled, _ in rows), row, offset
