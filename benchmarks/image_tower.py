"""Images per second of the image tower in one precision, as it is or compiled.

    python -m benchmarks.image_tower --precision bf16
    python -m benchmarks.image_tower --precision bf16 --compile      # MODEL.COMPILE True

The last line is a JSON object: images of a batch, images per second, FLOP/s of a big matrix product
and the share of it that the tower reaches, and seconds of the first batch, which compiles.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks import flops, measure
from benchmarks.reference import SIZES, plain_clip
from runs import command
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import PRECISIONS, resolve_precision


def tower_speed(
    size: str, precision: str, compiled: bool, batch: int, device: str, seconds: float
) -> dict[str, Any]:
    """Measure a tower with random weights.

    Args:
        size: a key of `SIZES`.
        precision: one of `PRECISIONS`.
        compiled: as with MODEL.COMPILE.
        batch: images at once.
        device: where.
        seconds: no further batch after so many.
    """
    chosen = resolve_precision(precision, device)
    model: Any = plain_clip(**SIZES[size], dtype=chosen.dtype)
    clip = FrozenCLIP(model, chosen)
    clip.to(chosen.device)
    if compiled:
        clip.compile_image_tower()
    side = clip.resolution
    way = partial(clip.encode_image, torch.randn(batch, 3, side, side, device=device))
    first = measure.in_turn([way], 1, device=device).seconds(0)
    each = measure.in_turn([way], 50, seconds, device).seconds(0) / batch
    rate = flops.matmul_rate(chosen.dtype, device)
    share = flops.image_flops(clip.visual) / each / rate
    return {"images": batch, "rate": 1 / each, "matmul": rate, "share": share, "first": first}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = command.parser(__doc__, "benchmarks.image_tower")
    add = parser.add_argument
    add("--size", choices=tuple(SIZES), default="ViT-B/16")
    add("--precision", choices=PRECISIONS, default="auto")
    add("--compile", action="store_true", help="with torch.compile")
    add("--batch", type=int, default=16, help="images at once")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--seconds", type=float, default=6.0, help="no further batch after so many")
    args = parser.parse_args(argv)
    print(json.dumps(tower_speed(
        args.size, args.precision, args.compile, args.batch, args.device, args.seconds
    )))  # fmt: skip


if __name__ == "__main__":
    main()
