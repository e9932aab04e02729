"""Listing and clearing the cache of features."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

import train
from tools import cache as tool
from trainers.features.cache import FeatureCache

DAY = 24 * 3600.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> FeatureCache:
    """Two entries of views, and one of images that was not used for ten days."""
    monkeypatch.setenv("MOPD_CACHE", str(tmp_path / "cache"))
    found = FeatureCache(tmp_path / "cache", 2.0**30)
    for n in (1, 2):
        key = {"kind": "views", "n": n}
        found.store(key, "ViT-B/16: DTD, seed 1", feature=np.zeros((512, 512), "float32"))
    found.store({"kind": "images"}, "ViT-B/16: DTD, test", feature=np.zeros(3))
    old = time.time() - 10 * DAY
    (images,) = (tmp_path / "cache" / "images").iterdir()
    os.utime(images, (old, old))
    return found


def test_list_shows_what_there_is(cache, capsys):
    tool.main(["list"])
    assert re.sub(r" +", " ", capsys.readouterr().out).splitlines() == [
        "kind of entries size last used",
        "------ --------------------- --------- ------- -----------",
        "images ViT-B/16: DTD, test 1 0.0 MiB 10 days ago",
        "views ViT-B/16: DTD, seed 1 2 2.0 MiB today",
        f"3 entries, 2.0 MiB in {cache.folder}",
    ]


@pytest.mark.parametrize(
    ("more", "left"),
    [
        ((), []),
        (("--kind", "views"), ["images"]),
        (("--unused-for", "7"), ["views", "views"]),
        (("--unused-for", "11"), ["images", "views", "views"]),
        (("--unused-for", "7", "--kind", "views"), ["images", "views", "views"]),
    ],
)
def test_clear_removes_what_is_asked_for(cache, capsys, more, left):
    tool.main(["clear", *more])
    assert [entry.kind for entry in cache.entries()] == left
    assert capsys.readouterr().out.startswith(f"removed {3 - len(left)} entries, ")


def test_damaged_entries_are_listed_and_removed(cache, capsys):
    (cache.folder / "views" / "x.npz").write_text("no archive")
    tool.main(["list", "--kind", "views"])
    assert re.search(r"views +damaged +1 ", capsys.readouterr().out)
    tool.main(["clear"])
    assert cache.entries() == []


def test_an_empty_or_missing_cache_is_no_mistake(tmp_path, capsys):
    for command in ("list", "clear"):
        tool.main([command, "--dir", str(tmp_path / "none")])
    assert f"0 entries, 0.0 MiB in {tmp_path / 'none'}" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_removed_is_told(cache, monkeypatch, capsys):
    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SystemExit) as stop:
        tool.main(["clear", "--kind", "images"])
    assert stop.value.code == 1
    assert re.fullmatch(
        r"error: .*/images/.*\.npz cannot be removed: Permission denied\n", capsys.readouterr().err
    )


def test_a_run_says_what_it_has_kept(job, tmp_path, capsys):
    folder = tmp_path / "cache"
    train.main(job("CoOp", "CACHE.DIR", str(folder), "CACHE.VIEWS", "True"))
    capsys.readouterr()
    tool.main(["list", "--dir", str(folder)])
    shown = re.sub(r" +", " ", capsys.readouterr().out)
    assert "images assets/shapes_clip.pt: Shapes, base classes, test 1 " in shown
    assert "views assets/shapes_clip.pt: Shapes, base classes, 2 shots, seed 1 2 " in shown
