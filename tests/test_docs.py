"""What the documentation shows works as it is written."""

from __future__ import annotations

import re
import sys
import tomllib
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
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    links = 0
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" in target:
                continue
            links += 1
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    assert links >= 60


def test_the_index_lists_every_page_once():
    links = re.findall(r"\]\(([\w.]+\.md)\)", (ROOT / "docs/index.md").read_text())
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert sorted(links) == sorted(pages)


def test_what_the_page_on_architecture_names_is_where_it_says():
    page = (ROOT / "docs/architecture.md").read_text()
    where = page.partition("## Where it is")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in where.splitlines() if "](" in line]
    for row in rows:
        for names, path in re.findall(r"([^(\[]*)\[[^]]*\]\(\.\./([^)]+)\)", row):
            source = (ROOT / path).read_text()
            for name in re.findall(r"`(\w+)`", names):
                assert re.search(rf"^ *(?:def |class )?{name}\b", source, re.MULTILINE), (
                    path,
                    name,
                )
    assert len(rows) >= 10
    for name in set(re.findall(r"`((?:\w+/)+[\w.]*)`", page)):
        assert (ROOT / name).exists(), name


def test_the_workflow_calls_targets_that_there_are():
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())
    steps = [step.get("run", "") for step in workflow["jobs"]["tests"]["steps"]]
    targets = [
        name for step in steps for name in re.findall(r"^make ([\w-]+)$", step, re.MULTILINE)
    ]
    assert targets == ["lint", "test", "demo"]
    makefile = (ROOT / "Makefile").read_text()
    contributing = re.findall(r"`make ([\w-]+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(contributing) >= 4
    for target in {*targets, *contributing}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_citation_file_names_the_version_of_the_project():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert found["version"] == project["version"] and found["license"] == "MIT"
    assert found["preferred-citation"]["url"].endswith("2412.19087")
