"""Studies that tests write."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tools.studies.file import read_study


@pytest.fixture
def write(tmp_path):
    """Write a study, given as keys or as text."""

    def file(content=None, **keys) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(content if content is not None else yaml.safe_dump(keys, sort_keys=False))
        return path

    return file


@pytest.fixture
def read(write, data_root, tmp_path):
    """The study of some keys, or of a text."""
    return lambda content=None, **keys: read_study(
        write(content, **keys), data_root, tmp_path / "out"
    )
