"""What is in image files: digests of their bytes, read once as long as nobody touches a file.

Size and times of a file do not tell its content: it can be replaced, a link can lead elsewhere, a
copy can keep the times. So whatever is bound to images is bound to their bytes. To read all of
them again would take as long as an evaluation; the cache keeps, for each list of files, their
digests with what the file system says of a file, and a file is read again when any of it changed.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from trainers.features.cache import FeatureCache

READERS = 8  # threads: a disk is waited for, and hashlib lets others compute meanwhile
MANY = 10_000  # files that take long enough to say so
# a file that changed so shortly before can change again within one tick of the file system's clock
SETTLED_NS = 2 * 10**9


class FileDigests:
    """SHA-256 of the bytes of N files, in their order.

    Attributes:
        digests: (N, 32) bytes.
        changed: the files whose bytes are not those of the last time that the list was kept.

    Args:
        paths: the files.
        cache: where digests are kept; None: nowhere.

    Raises:
        OSError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[str], cache: FeatureCache | None):
        self._paths = paths
        self._cache = cache = cache if cache and cache.limit > 0 else None
        names = hashlib.sha256(b"\0".join(map(os.fsencode, paths))).hexdigest()
        self._key = {"kind": "files", "names": names}
        kept = cache.load(self._key) if cache and paths else None
        self._marks = _marks(paths)
        self.digests = np.zeros((len(paths), 32), np.uint8)
        same = np.zeros(len(paths), bool)
        if kept is not None:
            same = (kept["mark"] == self._marks).all(axis=1)
            self.digests[same] = kept["digest"][same]
        self._read(np.flatnonzero(~same))
        differ = () if kept is None else (kept["digest"] != self.digests).any(axis=1).nonzero()[0]
        self.changed = [paths[i] for i in differ]
        self._news = not same.all()

    def keep(self) -> None:
        """Keep what was read, so that the next one reads only what has changed since."""
        if self._cache and self._news:
            folder = os.path.dirname(self._paths[0])
            about = f"{len(self._paths)} files, the first in {folder}"
            about = about.encode(errors="backslashreplace").decode()
            self._cache.store(self._key, about, mark=self._marks, digest=self.digests)
            self._news = False

    def _read(self, places: np.ndarray) -> None:
        if len(places) > MANY:
            print(f"Reading {len(places):,} images once, to know them again by their content")
        started = time.time_ns()
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(_digest, (self._paths[i] for i in places))
            for i, digest in zip(places, found, strict=True):
                self.digests[i] = np.frombuffer(digest, np.uint8)
        unsettled = self._marks[places, 0] > started - SETTLED_NS
        self._marks[places[unsettled]] = 0  # matches no file


def list_digest(items: Any, cache: FeatureCache | None) -> str:
    """Digest of a list of `Datum`: bytes and label of each; "" for no list, or if a file is gone.

    Where the images are and how they are called makes no difference.
    """
    if not items:
        return ""
    try:
        files = FileDigests([item.impath for item in items], cache)
    except (OSError, ValueError):  # whoever reads the images says what is wrong
        return ""
    files.keep()
    return content_digest(files, items)


def content_digest(files: FileDigests, items: Any) -> str:
    """Digest of the bytes of files, and of the labels of their list of `Datum`."""
    digest = hashlib.sha256(files.digests.tobytes())
    digest.update(",".join(str(item.label) for item in items).encode())
    return digest.hexdigest()


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _marks(paths: Sequence[str]) -> np.ndarray:
    """What changes when a file is written to or replaced: (N, 5) numbers.

    A file system is known by its own number, as that of its device may be another on each machine.
    """
    systems: dict[int, int] = {}
    marks = np.zeros((len(paths), 5), np.uint64)
    for i, path in enumerate(paths):
        status = os.stat(path)
        if status.st_dev not in systems:
            systems[status.st_dev] = os.statvfs(path).f_fsid
        times = (status.st_ctime_ns % 2**63, status.st_mtime_ns % 2**63)
        marks[i] = (*times, status.st_size, status.st_ino, systems[status.st_dev])
    return marks
