"""The page of real runs: what it shows, that it needs nothing else, and that all can read it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from tests.tools.reporting.pages import Page, keep_metrics, keep_predictions
from tests.tools.results import calls
from tests.tools.results.results_tree import world, write_base2new, write_result
from tools.report import main
from tools.reporting.inline import SIDE

ROOT = Path(__file__).resolve().parents[3]
refused = partial(calls.refused, main)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_page_of_a_real_study_has_all_that_its_runs_tell(real_page, real_study):
    sections = [
        "Overview",
        *(
            f"base2new: {what}"
            for what in (
                *("accuracy", "pictures", "differences from CoOp", "other figures"),
                *("single runs", "settings", "time, memory, versions"),
            )
        ),
        "Runs in full",
    ]
    shown = real_page.text
    places = [shown.index(f" {name} ", shown.index("Skip")) for name in sections]
    assert places == sorted(places)
    assert "base2new: 4 tests of 2 runs, 2 rows, 1 seed, on Shapes." in shown
    assert "Training of MoPD embedded, 2 shots, seed 1: loss and accuracy by epoch." in shown
    for half in ("base", "new"):
        assert f"Shapes, {half} classes: classes, confusions, calibration" in shown
    assert "Load and entropy of the gate by epoch." in shown
    assert "The picked teacher tells" in shown
    found = json.loads((real_study / "MoPD/embedded/shots_2/seed1-gate/gate.json").read_text())
    for part in found["images"]:
        title = f"Shapes, {part['split']} images, {part['classes']} classes ({part['images']})"
        rows = {row["teacher"]: row for row in real_page.table(title)}
        assert rows.keys() == set(found["teachers"])
        for h, name in enumerate(found["teachers"]):
            assert rows[name]["weight"] == f"{part['weight'][h]:.3f}"
    # CoOp has kept none
    run = real_study / "CoOp/embedded/shots_2/seed1"
    for half in ("base", "new"):
        assert f"there is no {run / half / 'predictions.npz'}" in shown
        assert f"python -m tools.predictions make {run / half} --data" in shown


def test_classes_and_pairs_are_those_of_tools_predictions(real_page, real_study, capsys):
    from tools import predictions

    folder = real_study / "MoPD/embedded/shots_2/seed1/base"
    predictions.main(["show", str(folder), "classes", "confusion", "summary", "--most", "10"])
    told = " ".join(capsys.readouterr().out.split())
    for caption in ("Accuracy of each class, the lowest first", "Pairs that are confused most"):
        for row in real_page.table(caption)[:10]:
            assert " ".join(row.values()) in told
    (figures,) = real_page.table("Figures of this test")
    assert " ".join(figures.values()) in told


def test_the_page_loads_nothing(real_page, real_text):
    for tag, attributes in real_page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "srcset", "poster", "data", "action"):
                assert value.startswith("data:image/"), (tag, name)
            if name in ("href", "xlink:href"):
                assert value.startswith(("#", "data:image/")), (tag, name)
            assert "http:" not in (value or "") and "https:" not in (value or "")
    assert re.findall(r"@import|url\((?!#)", real_text) == []
    (policy,) = [m for m in real_page.all("meta") if m.get("http-equiv")]
    assert policy["content"].startswith("default-src 'none';")


def test_every_reference_on_the_page_has_its_place(real_page, real_text):
    ids = [a["id"] for _, a in real_page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|href="#)([^)"]+)', real_text)
    assert len(used) > 100 and set(used) <= set(ids)


def test_who_cannot_see_or_point_can_read_the_page(real_page):
    assert real_page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in real_page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    assert all(table.caption for table in real_page.tables) and len(real_page.tables) > 8
    assert {th.get("scope") for th in real_page.all("th")} == {"row", "col"}
    assert all(image["alt"] for image in real_page.all("img"))
    charts = real_page.all("svg")
    assert len(charts) >= 10 and all(c["role"] == "img" and c["aria-label"] for c in charts)
    scrolls = [d for d in real_page.all("div") if d.get("class") in ("scroll", "chart")]
    assert all(d["tabindex"] == "0" and d["aria-label"] for d in scrolls)
    links = [a["href"] for a in real_page.all("a")]
    assert links[0] == "#main" and "#runs" in links
    assert real_page.all("nav") == [{"aria-label": "Contents"}]


def test_example_images_are_small_and_stand_in_the_page(real_page):
    images = real_page.all("img")
    assert 12 <= len(images) <= 60
    for image in images:
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", image["src"]).groups()
        with Image.open(io.BytesIO(base64.b64decode(data))) as found:
            assert found.format.lower() == kind and max(found.size) <= SIDE
            assert found.size == (32, 32)  # as drawn: nothing is enlarged


def test_a_run_alone_is_shown_beside_it_and_stays_as_it_is(real_study, data_root, tmp_path, capsys):
    run = shutil.copytree(real_study / "MoPD/embedded/shots_2/seed1", tmp_path / "seed1")
    before = files(run)
    main([str(run), "--data", str(data_root)])
    path, size = re.fullmatch(r"(\S+) \((\d\.\d) MB\)\n", capsys.readouterr().out).groups()
    assert path == str(tmp_path / "seed1-report.html")
    text = Path(path).read_text()
    assert float(size) == pytest.approx(len(text.encode()) / 1e6, abs=0.051)
    assert files(run) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["seed1", "seed1-report.html"]
    found = Page(text)
    assert "There is one row, so that nothing differs." in found.text
    assert 'No differences: nothing to compare with "MoPD/' in found.text
    assert [d for d in found.all("details") if "open" in d] != []


def test_the_same_results_give_the_same_bytes_in_every_process(tmp_path):
    for tag in ("b0.5", "b0.0005", "b5"):  # the same numbers, if zeros do not count
        write_base2new(tmp_path / "tree", 60.0, 50.0, config=f"embedded-{tag}")
    pages = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.html"
        words = ["-m", "tools.report", str(tmp_path / "tree"), "--out", str(out)]
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        pages.append(out.read_bytes())
    assert pages[0] == pages[1]


HOSTILE = '<b>&"$x_1$</b><script>alert(1)</script>'


def test_names_are_shown_as_they_are(tmp_path, page):
    path = write_result(
        tmp_path / "tree", 70.0, protocol="fewshot", dataset=HOSTILE, config=HOSTILE, seed=1,
        settings={"DATASET.NAME": HOSTILE},
    )  # fmt: skip
    keep_predictions(path, tmp_path / "data", [f"{HOSTILE} {c}" for c in "abc"])
    keep_metrics(path.parent.parent)
    found = page(tmp_path / "tree", "--data", tmp_path / "data")
    assert not {"b", "script"} & {tag for tag, _ in found.elements}
    assert f"fewshot, {HOSTILE}" in found.text
    assert [row["class"] for row in found.table("Accuracy of each class, the lowest first")] == [
        f"{HOSTILE} {c}" for c in "abc"
    ]
    assert {image["alt"] for image in found.all("img")} == {
        f"Image of {HOSTILE} a, taken for {HOSTILE} b"
    }


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nothing", "{0}/nothing is not there: give a folder of runs, e.g. output/base2new"),
        ("file", "{0}/file is a file: give a folder of runs, e.g. output/base2new"),
        ("empty", "no results.json below {0}/empty: has a run finished there?"),
    ],
)
def test_a_folder_without_results_is_refused(tmp_path, capsys, what, message):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    before = files(tmp_path)
    assert refused(capsys, tmp_path / what) == message.format(tmp_path)
    assert files(tmp_path) == before


def test_what_cannot_be_written_is_said_and_nothing_is_left(tmp_path, capsys):
    world(tmp_path / "tree")
    (tmp_path / "folder").mkdir()
    told = refused(capsys, tmp_path / "tree", "--out", tmp_path / "folder")
    out = tmp_path / "folder"
    assert told == f"cannot write {out}: Is a directory; choose another file for --out"
    (tmp_path / "file").write_text("mine")
    told = refused(capsys, tmp_path / "tree", "--out", tmp_path / "file" / "page.html")
    assert told.startswith(f"cannot write {tmp_path}/file/page.html: ")
    assert told.endswith("; choose another file for --out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "tree"]
    assert list(out.iterdir()) == [] and (tmp_path / "file").read_text() == "mine"


def test_damaged_results_and_an_unknown_baseline_are_refused(tmp_path, capsys):
    world(tmp_path)
    told = refused(capsys, tmp_path, "--baseline", "CoOpp")
    assert told.startswith('no results of "CoOpp"; there are: CoOp, CoOp/embedded, ')
    path = write_result(tmp_path, 50.0, classes="new", seed=3)
    path.write_text("{")
    assert refused(capsys, tmp_path).startswith(f"{path} is damaged (")
    assert not tmp_path.with_name(f"{tmp_path.name}-report.html").exists()


def test_without_jinja_the_package_is_named(tmp_path, capsys, monkeypatch):
    world(tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    told = refused(capsys, tmp_path)
    assert told == "reports need jinja2: pip install -r requirements.txt"
