"""``metrics.jsonl``: one line per epoch and per evaluation, for programs to read."""

import json
import math
import os.path as osp
from collections.abc import Callable, Mapping
from typing import Any

from dassl.utils import GUARDS, atomic_open, errors_named

__all__ = ["MetricsLog"]


class MetricsLog:
    """Records with ``epoch`` (1-based; 0: untrained) and ``split``, one JSON object per line.

    Lines of epochs after ``start_epoch`` come from a run that was cut off; they are dropped at the
    start. A second record of the same epoch and split replaces the first. ``listener`` is called
    with each record that is written.
    """

    def __init__(
        self,
        folder: str,
        start_epoch: int,
        listener: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        self.path = osp.join(folder, "metrics.jsonl")
        self._listener = listener
        records = self._read()
        self._records = [record for record in records if record["epoch"] <= start_epoch]
        if len(self._records) != len(records):
            self._rewrite()

    def write(self, epoch: int, split: str, values: Mapping[str, Any]) -> None:
        """Add a record."""
        record = {"epoch": epoch, "split": split, **values}
        record.update(epoch=epoch, split=split)  # even if a loss term has such a name
        others = [r for r in self._records if (r["epoch"], r["split"]) != (epoch, split)]
        replaced = len(others) != len(self._records)
        self._records = [*others, record]
        if replaced:
            self._rewrite()
        else:
            for guard in GUARDS:
                guard()
            with errors_named(self.path), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if self._listener is not None:
            self._listener(record)

    def _read(self) -> list[dict[str, Any]]:
        if not osp.exists(self.path):
            return []
        with open(self.path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
        records = []
        for line in lines:
            try:
                record = json.loads(line)
                record["epoch"] + 0, record["split"]
            except (ValueError, LookupError, TypeError, RecursionError):
                record = {"epoch": math.inf}  # the last line of a run that was killed while writing
            records.append(record)
        return records

    def _rewrite(self) -> None:
        with atomic_open(self.path) as file:
            file.writelines(json.dumps(record) + "\n" for record in self._records)
