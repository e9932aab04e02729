"""Fetch one file over HTTP: resumed where it was cut off, checked, and complete or absent.

torchvision's downloader starts again from zero after a cut, writes under the final name, and falls
back from https to http in silence; so the table of sources is torchvision's, the transfer is not.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from dassl.utils import UserError
from tools.data.sizes import CHUNK, check_space, in_bytes, progress

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # in a row without progress, for each address
PAUSE = 1.0  # seconds before the second attempt; doubles
LONGEST_PAUSE = 30.0
TRANSIENT = {408, 425, 429}  # and everything from 500 on
HTML = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html|head)", re.IGNORECASE | re.DOTALL)
TITLE = re.compile(rb"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)

_unknown_hosts: dict[str, str] = {}  # whose names could not be looked up, and why; asked only once


class DamagedError(UserError):
    """A file does not have the digest that it should have."""


class _GiveUp(Exception):
    """This address will not give the file; the text says why."""


@dataclass
class _Partial:
    """The part of a file that is there, and what is known about the file it is a part of."""

    path: Path  # <name>.part
    note: Path  # <name>.part.json
    url: str = ""
    validator: str = ""  # ETag or Last-Modified: resume only the same version
    total: int | None = None  # bytes of the whole file

    @classmethod
    def of(cls, target: Path) -> _Partial:
        partial = cls(
            target.with_name(target.name + ".part"), target.with_name(target.name + ".part.json")
        )
        try:
            known = json.loads(partial.note.read_text(encoding="utf-8"))
            partial.url, partial.validator = str(known["url"]), str(known["validator"])
            partial.total = None if known["total"] is None else int(known["total"])
        except (OSError, ValueError, KeyError, TypeError):
            partial.drop()  # a part of nobody knows what
        return partial

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def complete(self) -> bool:
        return self.total is not None and self.size == self.total

    def restart(self, url: str, validator: str, total: int | None) -> None:
        self.drop()
        self.url, self.validator, self.total = url, validator, total
        note = {"url": url, "validator": validator, "total": total}
        self.note.write_text(json.dumps(note) + "\n", encoding="utf-8")

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.url, self.validator, self.total = "", "", None


def fetch(urls: Sequence[str], target: Path, digest: str = "", copies: int = 1) -> None:
    """Download a file, from the first address that gives it; what is there already is kept.

    A cut transfer is tried again, and a later call continues it. Nothing appears at `target` before
    the length that the server states, and the digest if there is one, are right.

    Args:
        urls: addresses of the same file, best first.
        target: path of the file; `<name>.part` and `<name>.part.json` lie beside it meanwhile.
        digest: "md5:<hex>" or "sha256:<hex>"; "" where none is known.
        copies: the disk must have room for so many times the file (2: it will be unpacked).

    Raises:
        UserError: no address gives the file, it is damaged, or the disk is too small.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for url in urls:
        try:
            _fetch_from(url, target, digest, copies)
            return
        except _GiveUp as reason:
            reasons.append(f"{url}: {reason}")
    raise UserError("; ".join(reasons))


def check_digest(path: Path, digest: str) -> None:
    """Compare a file with its digest, "md5:<hex>" or "sha256:<hex>" ("": nothing to compare).

    Raises:
        DamagedError: the digest is another one.
    """
    if not digest:
        return
    kind, _, expected = digest.partition(":")
    name = path.name.removesuffix(".part")
    algorithm = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file, progress(f"checking {name}", path.stat().st_size) as bar:
        while chunk := file.read(CHUNK):
            algorithm.update(chunk)
            bar.update(len(chunk))
    if algorithm.hexdigest() != expected:
        raise DamagedError(
            f"{name} is damaged, or another file: its {kind} is {algorithm.hexdigest()}, "
            f"expected {expected}"
        )


def _fetch_from(url: str, target: Path, digest: str, copies: int) -> None:
    """Attempts with growing pauses, until the file is complete or hope is gone."""
    partial = _Partial.of(target)
    if partial.url != url:
        partial.drop()
    most, failures, damaged = partial.size, 0, False
    while True:
        try:
            if not partial.complete:
                _transfer(url, partial, copies)
        except urllib.error.HTTPError as error:
            reason = f"the server answers {error.code} ({error.reason})"
            if error.code not in TRANSIENT and error.code < 500:
                raise _GiveUp(reason) from None
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
        else:
            try:
                check_digest(partial.path, digest)
            except DamagedError as error:
                partial.drop()
                if damaged:
                    raise _GiveUp(f"{error} (fetched twice)") from None
                damaged, most = True, 0
                tqdm.write(f"  {error}; once more, from the start")
                continue
            partial.path.replace(target)
            partial.drop()
            return
        # a server that never gets further than before is given up; a slow one is not
        failures = 0 if partial.size > most else failures + 1
        most = max(most, partial.size)
        if failures >= ATTEMPTS:
            raise _GiveUp(f"{reason}, {ATTEMPTS} times in a row")
        pause = min(PAUSE * 2 ** max(failures - 1, 0), LONGEST_PAUSE)
        attempt = f"attempt {failures + 1} of {ATTEMPTS}" if failures else "going on"
        tqdm.write(f"  {reason}; {attempt} in {pause:.0f} s")
        time.sleep(pause)


def _transfer(url: str, partial: _Partial, copies: int) -> None:
    """One request: the rest of the file, or all of it where the server cannot continue.

    Raises:
        OSError, HTTPException: the transfer was cut; what came is kept.
    """
    with _request(url, partial) as response:
        first = _beginning(response)
        if HTML.match(first) or response.headers.get_content_type() == "text/html":
            raise _GiveUp(_page(first))
        have = _agree(url, response, partial)
        whole = partial.total or len(first)
        check_space(partial.path.parent, copies * whole - have, partial.path.stem)
        _write(response, first, partial, have)
    if partial.total is not None and partial.size > partial.total:
        partial.drop()
        raise ConnectionError("the server sent more than it had announced")
    if partial.total is not None and not partial.complete:
        raise ConnectionError(
            f"the transfer was cut at {in_bytes(partial.size)} of {in_bytes(partial.total)}"
        )


def _request(url: str, partial: _Partial) -> Any:
    """Ask for what the partial file lacks; the open answer."""
    host = urlsplit(url).netloc
    if host in _unknown_hosts:
        raise _GiveUp(_unknown_hosts[host])
    headers = {"User-Agent": "Mozilla/5.0 (mopd)", "Accept-Encoding": "identity"}
    if partial.size:
        headers["Range"] = f"bytes={partial.size}-"
        if partial.validator:
            headers["If-Range"] = partial.validator
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        partial.drop()  # no such range: the file is another one now
        raise ConnectionError("the server cannot continue the file") from None
    except urllib.error.URLError as error:
        if not isinstance(error.reason, socket.gaierror):
            raise
        reason = f"its host is not found ({_reason(error)}); this machine may be offline"
        _unknown_hosts[host] = reason
        raise _GiveUp(reason) from None


def _agree(url: str, response: Any, partial: _Partial) -> int:
    """Bytes of the partial file that the answer continues; 0 where it begins again."""
    if response.status == 206:
        start, total = _content_range(response.headers.get("Content-Range", ""))
        if start != partial.size or (partial.total is not None and total != partial.total):
            partial.drop()
            raise ConnectionError("the server continues another file")
        return start
    validator = response.headers.get("ETag", "")
    if not validator or validator.startswith("W/"):  # a weak one does not name bytes
        validator = response.headers.get("Last-Modified", "")
    length = response.headers.get("Content-Length")
    partial.restart(url, validator, int(length) if length else None)
    return 0


def _beginning(response: Any) -> bytes:
    """Enough bytes to tell a web page from a file, or all there are."""
    first = b""
    while len(first) < 512 and (chunk := response.read1(CHUNK)):
        first += chunk
    return first


def _write(response: Any, first: bytes, partial: _Partial, have: int) -> None:
    """Append what the server sends to the partial file."""
    with partial.path.open("ab") as file, progress(partial.path.stem, partial.total, have) as bar:
        chunk = first
        while chunk:
            try:
                file.write(chunk)
            except OSError as error:
                raise UserError(f"cannot write {partial.path}: {error.strerror}") from None
            bar.update(len(chunk))
            chunk = response.read1(CHUNK)
        file.flush()
        os.fsync(file.fileno())


def _content_range(text: str) -> tuple[int, int | None]:
    """First byte and length of the whole file from "bytes 5-9/10" or "bytes 5-9/*"."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", text.strip())
    if not match:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _page(first: bytes) -> str:
    """Why a web page came instead of a file, as far as its title says."""
    title = TITLE.search(first)
    name = " ".join(title[1].decode("utf-8", "replace").split())[:80] if title else ""
    shown = f' ("{name}")' if name else ""
    return f"the server sends a web page{shown} instead of the file: a login, a limit or a notice"


def _reason(error: Exception) -> str:
    """A network error in words."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer for {TIMEOUT:.0f} s"
    return str(getattr(cause, "strerror", None) or cause or type(error).__name__)
