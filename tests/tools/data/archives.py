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
