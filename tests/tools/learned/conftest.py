"""Small runs to look at; what a test changes it copies first."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tools import protocol


@pytest.fixture(scope="session")
def trained(data_root, tmp_path_factory) -> Callable[..., Path]:
    """`trained(protocol, method, KEY, VALUE, ...)`: folder of a run of two epochs, made once."""
    output = tmp_path_factory.mktemp("learned")
    done: dict[tuple[str, ...], Path] = {}

    def run(name: str, method: str, *pairs: str) -> Path:
        key = (name, method, *pairs)
        if key not in done:
            flags = {"dg": ("--targets", "shapes_blurred")}.get(name, ())
            words = [
                *(name, "--trainer", method, "--dataset", "shapes", "--seed", "1", "--shots", "2"),
                *("--data", str(data_root), "--output", str(output / str(len(done))), *flags),
                *("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1", *pairs),
            ]
            with redirect_stdout(io.StringIO()):  # of the test that comes first
                protocol.main(words)
            (done[key],) = (path.parent for path in output.glob(f"{len(done)}/**/prompt_learner"))
        return done[key]

    return run


@pytest.fixture
def copied(tmp_path) -> Callable[[Path], Path]:
    """A copy of a run that may be changed."""

    def copy(run: Path) -> Path:
        return Path(shutil.copytree(run, tmp_path / "copy"))

    return copy
