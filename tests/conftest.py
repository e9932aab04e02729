"""Fixtures that several packages' tests use."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

import train
import trainers
from benchmarks.reference import plain_clip
from dassl.engine import TrainerX
from tests.trainers.cpu_graphs import Graphs
from trainers import graphs
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision
from trainers.features.cache import VARIABLE

# tests have the figures and messages of a CPU, where there is a GPU as well: see tests/gpu
if not os.environ.get("MOPD_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# a shell lets ignore it what it starts with &
signal.signal(signal.SIGINT, signal.default_int_handler)
# torch's own choice would be all cores, for each of the tests that run side by side
torch.set_num_threads(int((os.environ.get("OMP_NUM_THREADS") or "1").split(",")[0]))
# shared by all tests, subprocesses included, and gone after them
_cache = tempfile.TemporaryDirectory()
os.environ[VARIABLE] = _cache.name
# a machine that is slow or busy is no failure
settings.register_profile("slow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("slow")
trainers.register()  # tests are parametrised over the registry
CONFIGS = Path(__file__).resolve().parents[1] / "configs"


@pytest.fixture(scope="session")
def small_clip() -> torch.nn.Module:
    """OpenAI's CLIP with random weights: text width 128 (2 heads), 3 text layers, float32."""
    return plain_clip(
        embed_dim=96, text_width=128, text_layers=3, resolution=32, patch=8, width=64, layers=1
    )


@pytest.fixture(scope="session")
def frozen_clip(small_clip: torch.nn.Module) -> FrozenCLIP:
    """The same weights in our towers."""
    return FrozenCLIP(small_clip, resolve_precision("fp32", "cpu"))


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder; embedded datasets are made in it on first use."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def open_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small open_clip model of a family, see `tests.tiny_models`."""
    from tests.tiny_models import write_model  # open_clip takes long to load

    root, made = tmp_path_factory.mktemp("open_clip"), {}

    def find(family: str) -> Path:
        if family not in made:
            made[family] = write_model(root / family, family)
        return made[family]

    return find


@pytest.fixture
def job(data_root: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments of train.py for a short run on the base classes of `shapes`.

    `job("MoPD", "KEY", "VALUE", "--flag", ...)`: flags and pairs in any order; the output folder
    is `tmp_path / "run"` unless given.
    """

    def arguments(trainer: str, *more: str, output: Path | None = None) -> list[str]:
        flags, pairs = [], []
        rest = list(more)
        while rest:
            item = rest.pop(0)
            if item == "--eval-only":
                flags.append(item)
            else:
                (flags if item.startswith("--") else pairs).extend((item, rest.pop(0)))
        return [
            *("--root", str(data_root), "--seed", "1", "--trainer", trainer),
            *("--dataset-config-file", str(CONFIGS / "datasets" / "shapes.yaml")),
            *("--config-file", str(CONFIGS / "trainers" / trainer / "embedded.yaml")),
            *("--output-dir", str(output or tmp_path / "run")),
            *flags,
            *("DATASET.NUM_SHOTS", "2", "DATASET.SUBSAMPLE_CLASSES", "base"),
            *("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"),
            *pairs,
        ]

    return arguments


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of steps are read later, as on a GPU."""
    monkeypatch.setattr(TrainerX, "holds_back", True)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch, held_back: None) -> Graphs:
    """Steps are captured on the CPU, and their figures are read later."""
    found = Graphs()
    monkeypatch.setattr(graphs, "has_graphs", lambda device: True)
    monkeypatch.setattr(graphs, "capture", found)
    return found


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Run train.py with arguments that it must refuse; the message that the user sees."""

    def run(arguments: list[str]) -> str:
        with pytest.raises(SystemExit) as stop:
            train.main(arguments)
        shown = capsys.readouterr()
        assert stop.value.code == 1
        assert "Traceback" not in shown.err + shown.out
        _, found, message = shown.err.partition("error: ")
        assert found, shown.err
        return message.strip()

    return run
