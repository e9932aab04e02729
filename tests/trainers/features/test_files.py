"""Digests of files are those of their bytes, whatever names, sizes and times say."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from trainers.features import files
from trainers.features.cache import FeatureCache
from trainers.features.files import FileDigests, list_digest


class Item:
    def __init__(self, path: Path, label: int):
        self.impath, self.label = str(path), label


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache", 2**20)


@pytest.fixture
def paths(tmp_path):
    """Three files of the same size."""
    for name in "abc":
        (tmp_path / name).write_text(name * 5)
    return [str(tmp_path / name) for name in "abc"]


@pytest.fixture
def settled(monkeypatch):
    """Files count as old enough to be known again by what the file system says of them."""
    monkeypatch.setattr(files, "SETTLED_NS", -(10**15))


@pytest.fixture
def read(monkeypatch):
    """The files that were read since the last look."""
    found: list[str] = []
    digest = files._digest
    monkeypatch.setattr(files, "_digest", lambda path: (found.append(path), digest(path))[1])

    def names() -> str:
        names = "".join(sorted(Path(path).name for path in found))
        found.clear()
        return names

    return names


def sha(paths: list[str]) -> np.ndarray:
    whole = b"".join(hashlib.sha256(Path(path).read_bytes()).digest() for path in paths)
    return np.frombuffer(whole, np.uint8).reshape(-1, 32)


def look(paths, cache) -> FileDigests:
    """As a run does, which must find what the bytes are now."""
    found = FileDigests(paths, cache)
    assert (found.digests == sha(paths)).all()
    return found


def test_files_that_nobody_touched_are_not_read_again(paths, cache, settled, read):
    look(paths, cache).keep()
    assert read() == "abc"
    assert look(paths, cache).changed == [] and read() == ""
    assert look(paths[::-1], cache).changed == [] and read() == "abc"  # another list


def in_place(path: Path) -> None:
    path.write_text("other")


def replaced(path: Path) -> None:
    path.with_name("new").write_text("other")
    os.replace(path.with_name("new"), path)


def linked(path: Path) -> None:
    path.with_name("new").write_text("other")
    path.unlink()
    path.symlink_to("new")


@pytest.mark.parametrize("way", [in_place, replaced, linked])
def test_a_file_with_the_same_size_and_time_but_other_bytes_is_read(
    paths, cache, settled, read, way
):
    look(paths, cache).keep()
    read()
    status = os.stat(paths[1])
    way(Path(paths[1]))
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert os.stat(paths[1]).st_size == status.st_size
    found = look(paths, cache)
    assert found.changed == [paths[1]] and read() == "b"
    assert look(paths, cache).changed == [paths[1]]  # it was not kept
    found.keep()
    read()
    assert look(paths, cache).changed == [] and read() == ""


def test_a_file_with_the_same_bytes_has_not_changed(paths, cache, settled, read):
    look(paths, cache).keep()
    os.utime(paths[0], (5, 5))
    read()
    assert look(paths, cache).changed == [] and read() == "a"


def test_a_file_written_a_moment_ago_is_read_again(paths, cache, read, monkeypatch):
    """It could change once more without another time."""
    monkeypatch.setattr(files, "SETTLED_NS", 10**15)
    look(paths, cache).keep()
    read()
    assert look(paths, cache).changed == [] and read() == "abc"


def test_a_damaged_entry_is_read_anew(paths, cache, settled, read, capsys):
    look(paths, cache).keep()
    (entry,) = cache.entries()
    assert entry.kind == "files"
    entry.path.write_bytes(entry.path.read_bytes()[:-9])
    read()
    look(paths, cache)
    assert read() == "abc" and "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("limit", [None, 0])
def test_without_a_cache_all_is_read(paths, tmp_path, read, limit, capsys):
    nowhere = None if limit is None else FeatureCache(tmp_path / "cache", limit)
    for _ in range(2):
        look(paths, nowhere).keep()
        assert read() == "abc"
    assert capsys.readouterr().out == "" and not (tmp_path / "cache").exists()


def test_many_files_are_said_to_be_read(paths, cache, monkeypatch, capsys):
    monkeypatch.setattr(files, "MANY", 2)
    look(paths, cache)
    assert capsys.readouterr().out == (
        "Reading 3 images once, to know them again by their content\n"
    )


def test_a_missing_file_is_named(paths, cache):
    os.unlink(paths[2])
    with pytest.raises(FileNotFoundError) as error:
        FileDigests(paths, cache)
    assert error.value.filename == paths[2]


def test_the_digest_of_a_list_tells_bytes_labels_and_order_but_not_places(tmp_path):
    one, two, copy = tmp_path / "one", tmp_path / "two", tmp_path / "copy"
    one.write_text("x")
    two.write_text("y")
    copy.write_text("x")
    lists = [
        [Item(one, 0), Item(two, 1)],
        [Item(two, 1), Item(one, 0)],
        [Item(one, 1), Item(two, 1)],
        [Item(one, 0)],
        [Item(one, 0), Item(copy, 1)],
    ]
    digests = [list_digest(items, None) for items in lists]
    assert len(set(digests)) == 5 and "" not in digests
    assert list_digest([Item(copy, 0), Item(two, 1)], None) == digests[0]
    two.unlink()
    assert list_digest(lists[0], None) == list_digest([], None) == list_digest(None, None) == ""
    assert list_digest([Item(Path("a\0b"), 0)], None) == ""
