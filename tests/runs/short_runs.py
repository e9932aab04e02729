"""Short runs of a protocol, for the tests of what stands beside results."""

from __future__ import annotations

from pathlib import Path

from tools import protocol


def base2new(trainer: str, data: Path, output: Path, *opts: str) -> Path:
    """The folder of a run of two epochs with two shots."""
    words = ["base2new", "--trainer", trainer, "--dataset", "shapes", "--seed", "1", "--shots", "2"]
    words += ["--data", str(data), "--output", str(output), "OPTIM.MAX_EPOCH", "2", *opts]
    protocol.main(words)
    return output / f"base2new/shapes/{trainer}/embedded/shots_2/seed1"
