"""What light commands do not load, and what is loaded on first use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dassl.data
import dassl.engine
import dassl.utils
import train
from benchmarks import start
from runs import run
from trainers.backbones.clip_model import load_clip

ROOT = Path(__file__).resolve().parents[1]
HEAVY = (
    *("torch", "torchvision", "clip", "sklearn", "scipy", "matplotlib", "tensorboard"),
    *("open_clip", "timm", "transformers", "submitit"),
)
# runs a module as `python -m` does, and tells on stderr what it has loaded
WATCH = """
import atexit, runpy, sys
heavy, sys.argv = sys.argv[1].split(","), sys.argv[2:]
found = lambda: sorted(name for name in heavy if name in sys.modules)
atexit.register(lambda: print("loaded:", *found(), file=sys.stderr))
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def loaded(*words: str, code: str = WATCH) -> tuple[set[str], str]:
    """Which heavy packages a command loads, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(HEAVY), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.rpartition("loaded:")[2].split()), done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --help", "--eval-only"),
        ("tools.tables {tree}", "77.5"),
        ("tools.plots --help", "usage"),
        ("tools.report --help", "usage"),
        ("tools.predictions --help", "make"),
        ("tools.gate --help", "usage"),
        ("tools.words --help", "usage"),
        ("tools.pools list", "paper"),
        ("tools.cache list", "entries"),
        ("tools.prepare_data --list --data {data}", "oxford_pets"),
        ("tools.doctor folder:{images}", "ok"),
        ("tools.study --help", "status"),
    ],
)
def test_a_command_that_needs_no_torch_does_not_load_it(tmp_path, words, said):
    places = {"tree": tmp_path / "tree", "data": tmp_path, "images": tmp_path / "images"}
    results(places["tree"])
    images(places["images"])
    found, shown = loaded(*words.format(**places).split())
    assert said in shown
    assert found == set()


def test_where_a_study_stands_is_told_without_the_image_libraries(tmp_path):
    words = ["status", "configs/studies/embedded_base2new.yaml", "--output", str(tmp_path)]
    found, shown = loaded("tools.study", *words)
    assert "to do" in shown
    assert found == {"torch"}  # the methods' knobs stand in their modules


@pytest.mark.parametrize(
    "words",
    [
        "train --root {data} --trainer CoOp",
        "tools.protocol base2new --trainer CoOp --dataset no_such_one --seed 1",
        "tools.study run {data}/no_such_study.yaml",
        "tools.gate --run {run}",
        "tools.words --run {run}",
    ],
)
def test_what_takes_long_to_load_is_said_first(tmp_path, words):
    run = tmp_path / "run"
    (run / "prompt_learner").mkdir(parents=True)
    (run / "prompt_learner/model.pth.tar-1").touch()
    keys = ("TRAINER.NAME", "MODEL.BACKBONE.NAME", "DATASET.NAME", "OPTIM.MAX_EPOCH")
    (run / "config.yaml").write_text("".join(f"{key}: no_such_one\n" for key in keys))
    command = ["-m", *words.format(data=tmp_path, run=run).split()]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert done.stdout == "Loading torch ...\n"


def test_openais_clip_is_loaded_without_open_clip():
    code = """
import atexit, sys
from trainers.backbones.clip_model import load_clip
from trainers.backbones.precision import resolve_precision
print(load_clip("assets/shapes_clip.pt", resolve_precision("fp32", "cpu")).resolution)
print("loaded:", *(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stderr)
"""
    found, shown = loaded(code=code)
    assert shown == "32\n"
    assert found == {"torch", "torchvision", "clip"}


def test_an_evaluation_needs_no_scikit_learn():
    code = """
import atexit, sys
import torch
from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator
evaluator = build_evaluator(get_cfg_default())
evaluator.process(torch.eye(3), torch.tensor([0, 1, 1]))
evaluator.evaluate()
print("loaded:", *(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stderr)
"""
    found, shown = loaded(code=code)
    assert "* macro_f1: 83.3%" in shown
    assert found == {"torch"}


def test_tensorboard_is_loaded_by_who_takes_its_writer():
    code = """
import sys
import dassl.engine.trainer
before = "tensorboard" in sys.modules
from dassl.engine.trainer import SummaryWriter
print(before, "tensorboard" in sys.modules, SummaryWriter.__module__)
print("loaded:", file=sys.stderr)
"""
    assert loaded(code=code)[1] == "False True torch.utils.tensorboard.writer\n"


@pytest.mark.parametrize("package", [dassl.data, dassl.engine, dassl.utils])
def test_every_public_name_of_a_package_is_there(package):
    assert [name for name in package.__all__ if not hasattr(package, name)] == []
    with pytest.raises(AttributeError, match=f"'{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_a_module_of_a_package_is_there_without_an_import_of_its_own():
    code = """
import sys
import dassl.engine, dassl.utils
print(dassl.utils.torchtools.__name__, dassl.engine.trainer.__name__)
print("loaded:", file=sys.stderr)
"""
    assert loaded(code=code)[1] == "dassl.utils.torchtools dassl.engine.trainer\n"


def test_the_benchmark_of_the_start_compares_every_tensor(monkeypatch, capsys):
    monkeypatch.setattr(start, "COMMANDS", ("tools.pools list",))
    monkeypatch.setattr(start, "IMPORTS", ("-c", "import decimal"))
    start.main(["--small", "--runs", "1"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.rsplit(maxsplit=3)[0].strip() for line in lines if line.endswith("x")]
    assert rows[0] == "python -m tools.pools list"
    assert rows[1:] == [
        "state dict, load_clip", "state dict, reading only",
        "archive, load_clip", "archive, reading only",
    ]  # fmt: skip

    def wrong(name, precision):
        clip = load_clip(name, precision)
        clip.text.text_projection[0, 0] += 1
        return clip

    monkeypatch.setattr(start, "load_clip", wrong)
    with pytest.raises(AssertionError):
        start.main(["--small", "--runs", "1"])


def test_too_little_memory_on_the_gpu_is_told_without_traceback(job, monkeypatch, refused):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(run, "build_trainer", full)
    message = refused(job("CoOp"))
    assert message == (
        "CUDA out of memory. Tried to allocate 2.00 GiB. A smaller DATALOADER.TRAIN_X.BATCH_SIZE "
        "or DATALOADER.TEST.BATCH_SIZE needs less memory."
    )


def test_an_error_of_ours_keeps_its_traceback(job, monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(run, "build_trainer", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        train.main(job("CoOp"))


def images(folder: Path) -> None:
    """Ten images of each of two classes."""
    from PIL import Image

    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name / f"{number}.png")


def results(folder: Path) -> None:
    """One run's results."""
    import json

    path = folder / "seed1/all/results.json"
    path.parent.mkdir(parents=True)
    content = {
        **{"protocol": "fewshot", "dataset": "Shapes", "classes": "all", "shots": 1, "seed": 1},
        **{"trainer": "CoOp", "config": "embedded", "accuracy": 77.5, "epoch": 1},
        **{"checkpoint": "0", "settings": {}},
    }
    path.write_text(json.dumps(content))
