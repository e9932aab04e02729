"""Benchmarks at sizes of a test: a small CLIP, and jobs in this process instead of fresh ones."""

from __future__ import annotations

import importlib
import io
import json
import time
from contextlib import redirect_stdout
from functools import partial

import pytest

from benchmarks import measure
from benchmarks.images import write_folder
from trainers.backbones.text_tower import TextTower


@pytest.fixture
def in_process(monkeypatch) -> None:
    """`measure.fresh_process` without the seconds of a fresh start."""

    def call(module: str, arguments, environment=None):
        shown, started = io.StringIO(), time.perf_counter()
        with redirect_stdout(shown):
            importlib.import_module(module).main(list(arguments))
        lines = shown.getvalue().strip().splitlines()
        seconds = time.perf_counter() - started
        try:
            return seconds, json.loads(lines[-1])
        except json.JSONDecodeError:
            return seconds, lines[-1]

    monkeypatch.setattr(measure, "fresh_process", call)


@pytest.fixture(scope="session")
def few_images(tmp_path_factory) -> list[str]:
    """Arguments for jobs on 4 classes of 2 training and 10 test images each."""
    folder = tmp_path_factory.mktemp("images")
    write_folder(folder, ["circle", "square", "star", "ring"], 2, 10, (48, 36))
    return ["--dataset", f"folder:{folder}", "--config", "embedded", "--shots", "2"]


@pytest.fixture
def wrong_tower(monkeypatch) -> None:
    """Our text tower gives every class the features of its neighbour."""
    right = TextTower.forward

    def forward(self, prefix, suffix, layout):
        return right(self, prefix, suffix, layout).roll(1, dims=-2)

    monkeypatch.setattr(TextTower, "forward", forward)


@pytest.fixture
def stopped(capsys):
    """Run a benchmark that must end with exit code 1; its message."""

    def run(main, *words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            partial(main, list(words))()
        assert isinstance(stop.value.code, str)  # Python prints it and exits with 1
        return stop.value.code

    return run
