"""Pools of a test's own, and what is told about them."""

import pytest

from trainers.errors import MethodError
from trainers.prompts.pool import load_pool


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder; call it with file name and text to write a file there."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def mistake(name, dataset="OxfordPets"):
    with pytest.raises(MethodError) as caught:
        load_pool(name, dataset)
    return str(caught.value)
