"""A run of base2new that keeps its predictions, for the tests of what stands beside results."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.short_runs import base2new


@pytest.fixture(scope="session")
def kept_run(data_root, tmp_path_factory) -> Path:
    """CoOp with predictions of both halves; not to be changed."""
    output = tmp_path_factory.mktemp("kept")
    return base2new("CoOp", data_root, output, "TEST.PREDICTIONS", "True")
