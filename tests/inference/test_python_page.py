"""The example of docs/python.md runs as it is written, on short training and own folders."""

from __future__ import annotations

import re
import shutil

import matplotlib

from tests.inference.conftest import ROOT


def test_the_example_trains_tests_classifies_exports_and_plots(
    data_root, images, tmp_path, monkeypatch, capsys
):
    matplotlib.use("Agg")
    page = (ROOT / "docs/python.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    photos = tmp_path / "photos"
    photos.mkdir()
    for place in (0, 1):
        shutil.copy(images[place].impath, photos / f"{place}.png")
    (photos / "2.png").write_text("no image")
    short = {
        '"--root", "data"': f'"--root", {str(data_root)!r}',
        '"output/': f'"{tmp_path}/',
        '"photos"': repr(str(photos)),
        '"DATASET.NUM_SHOTS", "16"': '"DATASET.NUM_SHOTS", "1", "OPTIM.MAX_EPOCH", "2"',
    }
    for text, other in short.items():
        assert text in code
        code = code.replace(text, other)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "docs/python.md", "exec"), {"__name__": "example"})
    shown = capsys.readouterr().out
    assert re.search(r"^base \d+\.\d, new \d+\.\d$", shown, re.MULTILINE)
    assert f"{photos}/1.png " in shown and f"{photos}/2.png is not a readable image" in shown
    assert (tmp_path / "python/figure.png").stat().st_size > 1000
