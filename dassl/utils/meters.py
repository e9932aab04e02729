"""Running averages of what the training loop prints."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["AverageMeter", "MetricMeter"]


def _number(value: Any) -> float:
    return value.item() if isinstance(value, torch.Tensor) else value


class AverageMeter:
    """Last value ``val``, average ``avg``, ``sum`` and ``count`` of a series.

    With ``ema`` the average is ``0.9 * avg + 0.1 * val``, started at 0.
    """

    def __init__(self, ema: bool = False) -> None:
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.val: float = 0
        self.avg: float = 0
        self.sum: float = 0
        self.count: int = 0

    def update(self, val: Any, n: int = 1) -> None:
        """Add ``val`` (number or 1-element tensor) with weight ``n``."""
        self.val = _number(val)
        self.sum += self.val * n
        self.count += n
        self.avg = self.avg * 0.9 + self.val * 0.1 if self.ema else self.sum / self.count


class MetricMeter:
    """One `AverageMeter` per name; ``str()`` gives ``loss 2.5000 (2.0000) acc 4.0000 (3.0000)``."""

    def __init__(self, delimiter: str = " ") -> None:
        self.meters: defaultdict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: Mapping[str, Any] | None) -> None:
        """Add one value per name; ``None`` is ignored.

        Raises:
            TypeError: the input is not a mapping.
        """
        if input_dict is None:
            return
        if not isinstance(input_dict, Mapping):
            raise TypeError("Input to MetricMeter.update() must be a dictionary")
        for name, value in input_dict.items():
            self.meters[name].update(value)

    def averages(self) -> dict[str, float]:
        """Return the mean of each name."""
        return {name: float(meter.avg) for name, meter in self.meters.items()}

    def __str__(self) -> str:
        parts = (f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
        return self.delimiter.join(parts)
