"""The cache of features: what is stored comes back, or nothing does."""

from __future__ import annotations

import io
import multiprocessing
import os
import time
from contextlib import redirect_stdout
from itertools import product
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import pytest

from runs.config import default_cfg
from trainers.errors import MethodError
from trainers.features.cache import DEFAULT_FOLDER, FeatureCache, cache_folder

KEY = {"kind": "images", "weights": "abc", "images": "1234"}
GIB = 2.0**30


def arrays(N: int = 6, D: int = 4) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {"feature": generator.normal(size=(N, D)).astype("float32"), "label": np.arange(N)}


def same(found: dict[str, np.ndarray] | None, expected: dict[str, np.ndarray]) -> bool:
    return (
        found is not None
        and found.keys() == expected.keys()
        and all(
            found[k].dtype == expected[k].dtype and np.array_equal(found[k], expected[k])
            for k in expected
        )
    )


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache", GIB)


def files(cache: FeatureCache) -> list[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


def test_stored_arrays_come_back_and_other_keys_find_nothing(cache):
    assert cache.load(KEY) is None
    cache.store(KEY, "six images", **arrays())
    assert same(cache.load(KEY), arrays())
    assert cache.load({**KEY, "weights": "abd"}) is None
    assert cache.load({**KEY, "kind": "prompts"}) is None
    assert same(cache.load(dict(reversed(KEY.items()))), arrays())  # in any order
    assert len(files(cache)) == 1 and files(cache)[0].parent.name == "images"


def test_a_damaged_byte_is_never_read_as_features(cache):
    cache.store(KEY, "six images", **arrays())
    (path,) = files(cache)
    whole = path.read_bytes()
    refused = 0
    for at, flip in product(range(len(whole)), (1, 112, 255)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        with redirect_stdout(io.StringIO()):
            found = cache.load(KEY)
        # some bytes of an archive, such as dates, mean nothing
        assert found is None or same(found, arrays()), (at, flip)
        refused += found is None
    assert refused > len(whole)


@pytest.mark.parametrize("length", [0, 1, 100, -1])
def test_a_truncated_file_is_computed_anew(cache, capsys, length):
    cache.store(KEY, "six images", **arrays())
    (path,) = files(cache)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.load(KEY) is None
    assert "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_others_may_read_what_they_may_read_of_other_files(cache, mask):
    before = os.umask(mask)
    try:
        cache.store(KEY, "six images", **arrays())
    finally:
        os.umask(before)
    (path,) = files(cache)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_file_under_the_name_of_another_key_is_not_used(cache, capsys):
    other = {**KEY, "images": "5678"}
    cache.store(KEY, "a", **arrays())
    cache.store(other, "b", **arrays(3))
    mine, theirs = cache._path(KEY), cache._path(other)
    os.replace(theirs, mine)
    assert cache.load(KEY) is None
    assert "another key" in capsys.readouterr().out


def test_the_longest_unused_entries_go_first(tmp_path):
    size = 1000 * 1000 * 4
    cache = FeatureCache(tmp_path, 3.5 * size)
    keys = [{**KEY, "images": str(i)} for i in range(5)]
    for i, key in enumerate(keys[:3]):
        cache.store(key, f"{i}", feature=np.zeros((1000, 1000), "float32"))
        os.utime(cache._path(key), (1000 + i, 1000 + i))
    assert cache.load(keys[0]) is not None  # so that 1 is now the oldest
    cache.store(keys[3], "3", feature=np.zeros((1000, 1000), "float32"))
    assert [cache.load(key) is not None for key in keys] == [True, False, True, True, False]


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path, capsys):
    cache = FeatureCache(tmp_path, 1000)
    cache.store(KEY, "base test", feature=np.zeros((100, 100), "float32"))
    assert cache.load(KEY) is None and files(cache) == []
    said = capsys.readouterr().out
    assert said.startswith("Note: base test: 0.00 GiB are more than CACHE.LIMIT_GB")


def test_half_written_files_of_killed_processes_go_after_a_day(cache):
    cache.store(KEY, "a", **arrays())
    folder = cache.folder / "images"
    old, young = folder / "old.part", folder / "young.part"
    for path in (old, young):
        path.write_bytes(b"half")
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    cache.store({**KEY, "images": "x"}, "b", **arrays())
    assert not old.exists() and young.exists()
    assert len(cache.entries()) == 2


def test_a_folder_that_cannot_be_written_does_not_stop_a_run(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "cache", GIB)
    assert cache.load(KEY) is None  # nothing there, and no word of damage
    cache.store(KEY, "a", **arrays())
    cache.store(KEY, "a", **arrays())
    assert cache.load(KEY) is None
    assert capsys.readouterr().out.splitlines() == [
        f"Note: {tmp_path}/file/cache cannot be written (Not a directory): nothing is kept there; "
        "choose a folder with CACHE.DIR or MOPD_CACHE"
    ]


def write_and_read(folder: Path, told: Queue) -> None:
    cache = FeatureCache(folder, GIB)
    for i in range(200):
        cache.store({"kind": "images", "n": i % 3}, "x", feature=np.full((50, 64), 7, "float32"))
        found = cache.load({"kind": "images", "n": (i + 1) % 3})
        assert found is None or (found["feature"] == 7).all()
    told.put(cache._told)


def test_processes_that_write_the_same_entries_never_see_half_of_one(tmp_path):
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    processes = [context.Process(target=write_and_read, args=(tmp_path, told)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [told.get(timeout=1) for _ in processes] == [False, False, False]
    assert len(list((tmp_path / "images").iterdir())) == 3


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("MOPD_CACHE", str(tmp_path / "variable"))
    assert cache_folder("given") == Path("given")
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.setenv("MOPD_CACHE", "~/features")
    assert cache_folder() == Path.home() / "features"
    monkeypatch.delenv("MOPD_CACHE")
    assert cache_folder() == DEFAULT_FOLDER


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_limit_that_keeps_nothing_is_refused(limit):
    cfg = default_cfg()
    cfg.CACHE.LIMIT_GB = limit
    with pytest.raises(MethodError, match="CACHE.LIMIT_GB is .*, expected a number above 0"):
        FeatureCache.of(cfg)
    cfg.CACHE.FEATURES = False
    assert FeatureCache.of(cfg) is not None  # as the message says
    cfg.CACHE.VIEWS = True
    with pytest.raises(MethodError, match="CACHE.LIMIT_GB"):
        FeatureCache.of(cfg)
    del cfg["CACHE"]  # as on upstream Dassl
    assert FeatureCache.of(cfg) is None
