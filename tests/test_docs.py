"""What the documentation shows works as it is written."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import yaml

import train
from dassl.engine import TRAINER_REGISTRY

ROOT = Path(__file__).resolve().parents[1]


def blocks(path: str, language: str) -> list[str]:
    """Code blocks of a page."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / path).read_text(), flags=re.DOTALL)


@pytest.fixture
def smooth_coop(monkeypatch, tmp_path):
    """The method of docs/own_method.md, as if its two files were there."""
    code, settings = (blocks("docs/own_method.md", kind)[0] for kind in ("python", "yaml"))
    module = types.ModuleType("trainers.smooth_coop")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, "docs/own_method.md", "exec"), module.__dict__)
    text = (ROOT / "configs/trainers/CoOp/embedded.yaml").read_text()
    content = yaml.safe_load(text) | yaml.safe_load(settings)
    path = tmp_path / "embedded.yaml"
    path.write_text(yaml.safe_dump(content))
    yield path
    TRAINER_REGISTRY._obj_map.pop("SmoothCoOp")


def test_the_method_of_the_page_trains_saves_and_tests(smooth_coop, data_root, tmp_path):
    def run(classes: str, *flags: str):
        return train.main(
            [
                *("--root", str(data_root), "--seed", "1", "--trainer", "SmoothCoOp"),
                *("--dataset-config-file", str(ROOT / "configs/datasets/shapes.yaml")),
                *("--config-file", str(smooth_coop), "--output-dir", str(tmp_path / "run")),
                *flags,
                *("DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "2"),
                *("DATASET.SUBSAMPLE_CLASSES", classes),
            ]
        )

    base = run("base")
    new = run("new", "--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "2")
    assert base["trainer"] == new["trainer"] == "SmoothCoOp"
    settings = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert settings["TRAINER.SMOOTHCOOP.SMOOTHING"] == 0.2


def test_pages_link_only_to_files_that_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    links = 0
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" in target:
                continue
            links += 1
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    assert links >= 5
