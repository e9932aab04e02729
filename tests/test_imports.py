"""Imports go one way through the house (docs/architecture.md), and nobody imports a command."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# room -> the rooms that it may import; a room is a package, or one file of the project's top level
MAY_IMPORT = {
    "dassl": set(),
    "datasets": {"dassl"},
    "trainers.errors": set(),
    "trainers.yaml_files": set(),
    "trainers.settings": {"trainers.errors"},
    "trainers.backbones": {"trainers.errors"},
    "trainers.prompts": {"trainers.errors", "trainers.yaml_files", "trainers.backbones"},
    "trainers.features": {"trainers.errors", "trainers.backbones", "dassl"},
    "trainers": {"trainers.*", "dassl"},
    "runs": {
        *("trainers", "trainers.errors", "trainers.yaml_files", "trainers.settings"),
        *("trainers.backbones", "trainers.prompts", "trainers.features", "datasets", "dassl"),
    },
    "train": {"runs"},
    "inference": {
        *("trainers", "trainers.errors", "trainers.backbones", "runs", "datasets", "dassl"),
    },
    "tools.data": {"runs", "datasets", "dassl"},
    "tools.results": {"runs", "trainers.errors", "dassl"},
    "tools.studies": {
        *("tools.results", "runs", "datasets", "dassl", "trainers.errors", "trainers.settings"),
    },
    "tools.learned": {
        *("tools.results", "runs", "dassl"),
        *("trainers", "trainers.backbones", "trainers.prompts", "trainers.features"),
    },
    "tools.reporting": {"tools.results", "tools.learned", "runs", "dassl"},
    "tools.world": {
        *("tools.results", "tools.studies", "runs", "datasets", "dassl"),
        *("trainers.backbones", "trainers.prompts"),
    },
    "tools": {
        *("tools.data", "tools.results", "tools.studies", "tools.world", "tools.learned"),
        "tools.reporting",
        *("inference", "runs", "dassl"),
        *("trainers.errors", "trainers.settings", "trainers.backbones", "trainers.prompts"),
        "trainers.features",
    },
    "benchmarks": {
        *("train", "tools.studies", "runs", "dassl"),
        *("trainers", "trainers.backbones", "trainers.prompts", "trainers.features"),
    },
    "tests": set(),  # nothing imports them
}
SOURCES = [
    ROOT / "train.py",
    *(
        path
        for top in sorted({room.partition(".")[0] for room in MAY_IMPORT} - {"train", "tests"})
        for path in sorted((ROOT / top).rglob("*.py"))
    ),
]


def module_of(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The innermost room that a module is in; "" if it is none of the project's."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in MAY_IMPORT), "")


def imported(module: str, source: str, is_package: bool = False) -> set[str]:
    """The project's modules that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = module.split(".")
            home = home[: len(home) - node.level + is_package] if node.level else []
            base = ".".join([*home, *([node.module] if node.module else [])])
            # a name of a package may be a module of it
            paths = {alias.name: ROOT / base.replace(".", "/") / alias.name for alias in node.names}
            inner = {n for n, p in paths.items() if p.with_suffix(".py").exists() or p.is_dir()}
            found |= {f"{base}.{name}" for name in inner}
            found |= {base} if inner != paths.keys() else set()
        elif isinstance(node, ast.Call) and node.args:
            # importlib.import_module("a.b"), and dassl.lazy's load("a.b")
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            name = getattr(node.args[0], "value", None)
            if called in ("import_module", "load") and isinstance(name, str):
                found.add(name)
    return {name for name in found if room_of(name)}


def forbidden(module: str, source: str, is_package: bool = False) -> list[str]:
    """The imports of a source that its room may not have."""
    room = room_of(module)
    allowed = {room, *MAY_IMPORT[room]}
    wrong = []
    for target in sorted(imported(module, source, is_package)):
        there = room_of(target)
        welcome = there in allowed or f"{there.partition('.')[0]}.*" in allowed and "." in there
        # a file directly in tools/ is a command, for people only
        command = target.startswith("tools.") and there == "tools"
        if not welcome or command:
            wrong.append(f"{module} imports {target}")
    return wrong


def test_every_import_goes_the_way_of_the_house():
    assert len(SOURCES) > 120
    found = [
        line
        for path in SOURCES
        for line in forbidden(module_of(path), path.read_text(), path.name == "__init__.py")
    ]
    assert found == []


def test_every_import_that_is_allowed_is_made():
    made = {room: set() for room in MAY_IMPORT}
    for path in SOURCES:
        module = module_of(path)
        names = imported(module, path.read_text(), path.name == "__init__.py")
        made[room_of(module)] |= {room_of(name) for name in names} - {room_of(module)}
    star = {room for room in MAY_IMPORT if room.startswith("trainers.")}
    for room, allowed in MAY_IMPORT.items():
        expected = (allowed - {"trainers.*"}) | (star if "trainers.*" in allowed else set())
        assert made[room] == expected, room


@pytest.mark.parametrize(
    ("module", "source", "target"),
    [
        ("dassl.engine.trainer", "from trainers.errors import MethodError", "trainers.errors"),
        ("datasets.dtd", "import trainers.coop", "trainers.coop"),
        ("trainers.coop", "def late():\n    import datasets.counts", "datasets.counts"),
        ("trainers.coop", "from runs.config import REPOSITORY", "runs.config"),
        ("trainers.backbones.tokens", "from ..prompts import pool", "trainers.prompts.pool"),
        ("trainers.features.cache", "from trainers.base import X", "trainers.base"),
        ("runs.jobs", "import train", "train"),
        ("runs.run", "from tools.results import summary", "tools.results.summary"),
        ("train", "from tools import tables", "tools.tables"),
        ("tools.data.place", "from tools.doctor import check", "tools.doctor"),
        ("tools.study", "from tools import tables", "tools.tables"),
        ("benchmarks.job", "from tools import protocol", "tools.protocol"),
        ("runs.run", 'importlib.import_module("tools.tables")', "tools.tables"),
        ("dassl.lazy", 'load("trainers.base")', "trainers.base"),
        ("runs.run", "from tests.golden import tiny_clip", "tests.golden.tiny_clip"),
    ],
)
def test_a_forbidden_import_is_found(module, source, target):
    assert forbidden(module, source) == [f"{module} imports {target}"]


def test_allowed_imports_are_not_told():
    source = (
        "import torch\nfrom dassl.engine import TrainerX\nfrom trainers.backbones import tokens"
    )
    assert forbidden("trainers.base", source) == []
    assert imported("trainers.base", source) == {"dassl.engine", "trainers.backbones.tokens"}


def test_the_engine_knows_nothing_of_clip_and_prompts():
    names = set()
    for path in (ROOT / "dassl").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names |= {getattr(node, key, None) for key in ("id", "attr", "name", "arg", "module")}
    words = {word for name in names if name for word in name.lower().replace(".", "_").split("_")}
    assert "trainer" in words
    assert not words & {"clip", "prompt", "prompts", "ctx", "gate", "teacher", "teachers"}
