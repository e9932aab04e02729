"""Archives for tests, in memory."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping

from PIL import Image


def picture(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A small JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "JPEG")
    return file.getvalue()


def make_zip(members: Mapping[str, bytes]) -> bytes:
    """A zip of files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def make_tar(members: Mapping[str, bytes], compressed: bool = False) -> bytes:
    """A tar of files, or a tar.gz."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(file.getvalue(), mtime=0) if compressed else file.getvalue()


def make(name: str, members: Mapping[str, bytes]) -> bytes:
    """An archive of the kind that its name says."""
    if name.endswith(".zip"):
        return make_zip(members)
    return make_tar(members, compressed=name.endswith((".gz", ".tgz")))


def tar_of(*members: tuple[str, bytes, str | bytes]) -> bytes:
    """A tar of members (name, type, content of a file or target of a link)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if isinstance(content, bytes):
                member.size = len(content)
            else:
                member.linkname = content
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return file.getvalue()


def too_long_chain(victim: str) -> bytes:
    """A tar that overwrites `victim` beside its folder: through links, to a path beyond PATH_MAX.

    Python's `data` filter let it pass before 3.11.13, 3.12.11 and 3.13.4 (CVE-2025-4517).
    """
    steps, deep, path, members = "abcdefghijklmnop", "d" * 240, "", []
    for step in steps:
        members.append((path + deep, tarfile.DIRTYPE, ""))
        members.append((path + step, tarfile.SYMTYPE, deep))
        path += f"{deep}/"
    # leads back to the top, but no one can say so: its real path is too long
    top = f"{'/'.join(steps)}/{'l' * 254}"
    return tar_of(
        *members,
        (top, tarfile.SYMTYPE, "../" * len(steps)),
        ("out", tarfile.SYMTYPE, f"{top}/.."),
        ("hard", tarfile.LNKTYPE, f"out/{victim}"),
        ("hard", tarfile.REGTYPE, b"evil"),
    )
