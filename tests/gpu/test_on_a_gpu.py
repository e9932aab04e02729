"""What only a GPU can show: `make test-gpu`. Without one these tests are skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import train
from inference import load_prompt
from inference.exporting import export
from tests.trainers.cpu_graphs import METHODS, TAKEN
from trainers import graphs
from trainers.features.ahead import on_device

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="make test-gpu, with a GPU")
MEASURED = {"seconds", "memory"}
CUDA = torch.device("cuda")


def results(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "base/results.json").read_text())
    return {key: value for key, value in found.items() if key not in MEASURED}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "amp"])
@pytest.mark.parametrize("method", METHODS)
def test_graphs_give_the_checkpoints_of_steps_without(job, tmp_path, capsys, method, precision):
    key = f"TRAINER.{method.upper()}.PREC"
    for mode in ("auto", "off"):
        # batches of two sizes
        pairs = (key, precision, "TRAIN.CUDA_GRAPH", mode, "DATALOADER.TRAIN_X.BATCH_SIZE", "7")
        train.main(job(method, *pairs, "OPTIM.MAX_EPOCH", "3", output=tmp_path / mode))
        assert (TAKEN in capsys.readouterr().out.splitlines()) == (mode == "auto")
    assert results(tmp_path / "auto") == results(tmp_path / "off")


def test_a_capture_that_fails_leaves_random_numbers_and_later_captures():
    def step() -> list[torch.Tensor | None]:
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()
        return [torch.ones(3, device=CUDA) * 2]

    torch.manual_seed(3)
    expected = torch.rand(3, device=CUDA)
    torch.manual_seed(3)
    with pytest.raises(RuntimeError) as error:
        graphs.capture(step)
    assert "captur" in graphs.first_line(error.value)
    assert torch.equal(torch.rand(3, device=CUDA), expected)
    numbers = torch.ones(3, device=CUDA)
    (doubled,), replay = graphs.capture(lambda: [numbers * 2])
    numbers.fill_(4)
    replay()
    assert doubled is not None and doubled.tolist() == [8.0] * 3


@pytest.mark.parametrize("pairs", [(), ("INPUT.DEVICE_AUGMENT", "True")])
def test_a_run_gives_the_same_twice(job, tmp_path, pairs):
    for name in ("one", "two"):
        train.main(job("MoPD", *pairs, "CACHE.FEATURES", "False", output=tmp_path / name))
    assert results(tmp_path / "one") == results(tmp_path / "two")


@pytest.mark.parametrize("method", ["CoOp", "CoCoOp", "MoPD"])
def test_a_run_is_used_on_a_cpu_and_exported(job, tmp_path, monkeypatch, method):
    train.main(job(method))
    export(tmp_path / "run", tmp_path / "export")
    images = torch.rand(8, 3, 32, 32)
    found = []
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        for folder in ("run", "export"):
            prompt = load_prompt(tmp_path / folder)
            assert prompt.trainer.device.type == ("cuda" if there else "cpu")
            found.append(prompt.logits(images).float().cpu())
    assert all((one - found[0]).norm() < 0.01 * found[0].norm() for one in found)


def test_copies_hold_the_numbers():
    data = [{"img": torch.rand(3, 64, 64), "label": i} for i in range(64)]
    loader = DataLoader(data, batch_size=4, pin_memory=True)
    expected = [batch["img"].sum() for batch in loader]
    found = [(batch["img"].sum(), batch["img"].device.type) for batch in on_device(loader, CUDA)]
    assert {kind for _, kind in found} == {"cuda"}
    sums = torch.stack([total for total, _ in found]).cpu()
    assert torch.allclose(sums, torch.stack(expected))
