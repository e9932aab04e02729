"""Features on disk: computed once, read by every later job that would compute the same.

An entry is one file `<folder>/<kind>/<digest of its key>.npz`. It is there complete or not at all,
what is read is checked, and the entries that were not used for the longest time go when the folder
grows beyond its limit. A cache never fails a run: what cannot be read or written is computed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from yacs.config import CfgNode

from trainers.backbones.paths import REPOSITORY
from trainers.errors import MethodError

VARIABLE = "MOPD_CACHE"
DEFAULT_FOLDER = REPOSITORY / "cache"
DEFAULTS = {"FEATURES": True, "VIEWS": False, "DIR": "", "LIMIT_GB": 20.0}
KINDS = {
    "images": "features of test images",
    "views": "features of augmented training images",
    "prompts": "features of hard prompts",
    "files": "digests of image files",
}
KEY, ABOUT, NAMES = "__key__", "__about__", "__names__"  # members of a file beside the arrays
STALE_SECONDS = 24 * 3600.0  # of a half-written file; who wrote it is gone


@dataclass(frozen=True)
class Entry:
    """A file of the cache.

    Attributes:
        kind: one of `KINDS`.
        size: in bytes.
        used: when it was written or read last, in seconds since the epoch.
    """

    path: Path
    kind: str
    size: int
    used: float

    def about(self) -> str:
        """What is in it, in words."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                return str(_member(archive, ABOUT))
        except Exception:
            return "damaged"


class FeatureCache:
    """Arrays on disk, found by what they were computed from.

    Args:
        folder: of all entries; made when something is stored.
        limit: bytes that all entries may take.
    """

    def __init__(self, folder: Path, limit: float):
        self.folder = folder
        self.limit = limit
        self._told = False

    @classmethod
    def of(cls, cfg: CfgNode) -> FeatureCache | None:
        """The cache that a configuration names; None where it has no node CACHE.

        Raises:
            MethodError: the cache is used, and its limit is not above 0.
        """
        node = cfg.get("CACHE")
        if node is None:  # upstream Dassl
            return None
        if (node.FEATURES or node.VIEWS) and not node.LIMIT_GB > 0:
            raise MethodError(
                f"CACHE.LIMIT_GB is {node.LIMIT_GB}, expected a number above 0; "
                "CACHE.FEATURES False works without a cache"
            )
        return cls(cache_folder(node.DIR), node.LIMIT_GB * 2**30)

    def has(self, key: Mapping[str, Any]) -> bool:
        """Whether there is an entry of this key; it may be damaged."""
        return self._path(key).is_file()

    def load(self, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """The arrays of a key; None if they are not there, or damaged."""
        path = self._path(key)
        try:
            with zipfile.ZipFile(path) as archive:
                # whole members, so that their checksums are compared
                arrays = {
                    name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()
                }
            if str(arrays.pop(KEY)) != _text(key):
                raise ValueError("another key")
            arrays.pop(ABOUT)
            if arrays.pop(NAMES).tolist() != list(arrays):  # a torn table of contents ends early
                raise ValueError("not all arrays")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # the readers raise anything on damaged bytes
            self.tell(f"{path} is damaged ({error}) and computed anew")
            return None
        with suppress(OSError):
            os.utime(path)
        return arrays

    def store(self, key: Mapping[str, Any], about: str, **arrays: np.ndarray) -> None:
        """Keep arrays under a key, and make room for them.

        Args:
            key: plain values; all that the arrays depend on. "kind" is one of `KINDS`.
            about: what it is, in words.
            arrays: by name.
        """
        size = sum(array.nbytes for array in arrays.values())
        if size > self.limit:
            self.tell(
                f"{about}: {size / 2**30:.2f} GiB are more than CACHE.LIMIT_GB "
                f"{self.limit / 2**30:g} and not kept"
            )
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{uuid4().hex}.part")
            try:
                texts = {KEY: _text(key), ABOUT: about, NAMES: list(arrays)}
                with part.open("xb") as file:
                    np.savez(file, allow_pickle=False, **arrays, **texts)
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            self._make_room()
        except OSError as error:
            self.tell(
                f"{self.folder} cannot be written ({error.strerror}): nothing is kept there; "
                f"choose a folder with CACHE.DIR or {VARIABLE}"
            )

    def entries(self) -> list[Entry]:
        """All entries, the one that was not used for the longest time first."""
        found = []
        for kind in KINDS:
            for path in (self.folder / kind).glob("*.npz"):
                with suppress(FileNotFoundError):  # removed by another process
                    status = path.stat()
                    found.append(Entry(path, kind, status.st_size, status.st_mtime))
        return sorted(found, key=lambda entry: entry.used)

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove entries, and what killed processes left half-written."""
        for entry in entries:
            entry.path.unlink(missing_ok=True)
        for path in self.folder.glob("*/*.part"):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()

    def _make_room(self) -> None:
        """Remove what was not used for the longest time, beyond the limit."""
        newest_first = self.entries()[::-1]
        sizes = accumulate(entry.size for entry in newest_first)
        self.remove([e for e, size in zip(newest_first, sizes, strict=True) if size > self.limit])

    def _path(self, key: Mapping[str, Any]) -> Path:
        return self.folder / f"{entry_name(key)}.npz"

    def tell(self, text: str) -> None:
        """Say what is wrong with the cache, once in a run."""
        if not self._told:
            print(f"Note: {text}")
            self._told = True


def cache_folder(given: str = "") -> Path:
    """The folder of the cache: as given, else of the variable, else in the repository."""
    return Path(os.path.expanduser(given or os.environ.get(VARIABLE) or DEFAULT_FOLDER))


def entry_name(key: Mapping[str, Any]) -> str:
    """`<kind>/<digest>` of a key, the file of its entry below the folder without the suffix."""
    digest = hashlib.sha256(_text(key).encode()).hexdigest()
    return f"{key['kind']}/{digest[:32]}"


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    content = archive.read(f"{name.removesuffix('.npy')}.npy")
    return np.load(io.BytesIO(content), allow_pickle=False)
