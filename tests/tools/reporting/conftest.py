"""A real study of two methods, and pages of it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest

from tests.runs.short_runs import base2new
from tests.tools.reporting.pages import Page
from tools import gate, report
from tools.learned import gate_figures


@pytest.fixture(scope="session")
def real_study(data_root, tmp_path_factory) -> Path:
    """MoPD with predictions and a look at its gate, and CoOp without; not to be changed."""
    output = tmp_path_factory.mktemp("study")
    with contextlib.redirect_stdout(io.StringIO()), pytest.MonkeyPatch.context() as patch:
        run = base2new("MoPD", data_root, output, "TEST.PREDICTIONS", "True")
        base2new("CoOp", data_root, output)
        patch.setattr(gate_figures, "save", lambda *_: [])  # its own pictures are not needed
        gate.main(["--run", str(run), "--data", str(data_root)])
    return output / "base2new/shapes"


@pytest.fixture(scope="session")
def real_text(real_study, data_root, tmp_path_factory) -> str:
    """The page of the study, as it is in the file."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    with contextlib.redirect_stdout(io.StringIO()):
        report.main([str(real_study), "--out", str(out), "--data", str(data_root)])
    return out.read_text()


@pytest.fixture(scope="session")
def real_page(real_text) -> Page:
    """The same, read."""
    return Page(real_text)


@pytest.fixture
def page(tmp_path, capsys):
    """`page(DIR, flag, ...)`: the page of some folders."""

    def make(*words: object) -> Page:
        out = tmp_path / "page.html"
        report.main([*map(str, words), "--out", str(out)])
        capsys.readouterr()
        return Page(out.read_text())

    return make
