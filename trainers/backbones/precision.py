"""Which dtype the frozen towers compute in. Learned parameters and losses are always fp32."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from trainers.errors import MethodError

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "amp")


@dataclass(frozen=True)
class Precision:
    """A precision that fits its device.

    Attributes:
        name: one of `PRECISIONS`, never "auto".
        device: where the towers live.
        dtype: dtype of the towers' weights and activations.
    """

    name: str
    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager:
        """The context in which towers are called: torch's autocast for `amp`, else nothing."""
        if self.name != "amp":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self._amp_dtype)

    def scaler(self) -> torch.amp.GradScaler | None:
        """A gradient scaler where gradients pass through fp16 and could vanish, else None."""
        computes = self._amp_dtype if self.name == "amp" else self.dtype
        if computes is not torch.float16:
            return None
        # torch's start, 2**16, overflows with CLIP's logit scale of 100: the first steps are lost
        return torch.amp.GradScaler(self.device.type, init_scale=2.0**10)

    @property
    def _amp_dtype(self) -> torch.dtype:
        return torch.float16 if self.device.type == "cuda" else torch.bfloat16


def resolve_precision(name: str, device: torch.device | str, node: str = "") -> Precision:
    """Turn the knob `PREC` into a precision for `device`.

    `auto` is fp16 on CUDA (OpenAI's weights are fp16, and so are the published runs) and
    fp32 on CPU. `amp` keeps fp32 weights and lets autocast choose per operation.

    Args:
        name: one of `PRECISIONS`.
        device: where the towers will live.
        node: config node of the method, for messages, e.g. "TRAINER.MOPD".

    Raises:
        MethodError: unknown name, or fp16 on a CPU.
    """
    device = torch.device(device)
    key = f"{node}.PREC" if node else "PREC"
    if name not in PRECISIONS:
        raise MethodError(f'{key} is "{name}", expected one of: {", ".join(PRECISIONS)}')
    if name == "auto":
        name = "fp16" if device.type == "cuda" else "fp32"
    if name == "fp16" and device.type == "cpu":
        raise MethodError(
            f"{key} is fp16, but this run is on the CPU, where half precision is slow and "
            f"inexact: use {key} auto (fp32 here, fp16 on a GPU), fp32 or bf16"
        )
    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16}
    return Precision(name, device, dtypes.get(name, torch.float32))
