"""Unpack archives that are not trusted, beside their place, and move in what is missing."""

import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dassl.utils import UserError
from tools.data.sizes import CHUNK, progress

# pictures are packed already: what grows more is no archive of pictures
GROWTH = 5
SLACK = 200 << 20
# of the last three: times that no clock has, and names that are empty
DAMAGE = (
    *(tarfile.ReadError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError),
    *(OverflowError, IndexError, ValueError),
)
JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\._|\.DS_Store$)")


@contextmanager
def scratch(folder: Path, name: str) -> Iterator[Path]:
    """A hidden, empty folder in `folder` that is removed at the end, or by the next call."""
    draft = folder / f".unpacking-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(draft, ignore_errors=True)  # ours, left by a killed process
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def unpack(archive: Path, folder: Path, inner: str = "") -> None:
    """Unpack a .zip or .tar (also compressed) into an empty folder.

    Args:
        archive: path of the archive.
        folder: where to.
        inner: path of an archive in the archive: unpack only that one, not what is around it.

    Raises:
        UserError: the archive is damaged, would write outside the folder, has a member that is no
            plain file or folder, or grows far more than pictures do.
    """
    limit = GROWTH * archive.stat().st_size + SLACK
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder, limit, inner)
        else:
            _unpack_tar(archive, folder, limit, inner)
    except tarfile.FilterError as error:
        raise UserError(f"{archive} is not unpacked: {error}") from None
    except UserError:
        raise
    except DAMAGE as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        if error.errno is None:  # gzip's own: a wrong checksum or no gzip file
            raise _damaged(archive, error) from None
        raise UserError(f"cannot unpack {archive} to {folder}: {error.strerror}") from None
    if inner:
        path = folder / inner
        if not path.is_file():
            raise UserError(f"{archive} has no {inner}: it is another archive than expected")
        unpack(path, folder)
        path.unlink()


def plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """A filter of tarfile: files and folders inside of the folder, with harmless rights.

    Links are refused wherever they lead: no dataset needs them, and the `data` filter of Python
    before 3.11.13, 3.12.11 and 3.13.4 loses sight of them behind a path that is too long.

    Raises:
        tarfile.FilterError: naming the member.
    """
    if member.issym() or member.islnk():
        raise tarfile.FilterError(f'"{member.name}" is a link')
    member = tarfile.data_filter(member, folder)  # refuses special files
    _check_name(member.name, folder)
    return member


def move(draft: Path, candidates: Sequence[str], target: Path, name: str) -> None:
    """Move unpacked files to their place; what is there already stays as it is.

    Args:
        draft: folder of the unpacked files, on the same disk.
        candidates: paths in the archive, of which the first that exists is moved.
        target: what it becomes, or of a/* the folder that gets what is in a.
        name: of the archive, for the message.

    Raises:
        UserError: the archive does not have what should be moved.
    """
    for candidate in candidates:
        found = draft / candidate.removesuffix("/*")
        if found.exists():
            inside = candidate.endswith("/*")
            for path in found.iterdir() if inside else [found]:
                merge(path, target / path.name if inside else target)
            return
    tops = sorted(path.name for path in draft.iterdir())[:5]
    raise UserError(
        f"{name} has no {' or '.join(candidates)}, but: {', '.join(tops) or 'nothing'}. "
        "It is another archive than expected"
    )


def merge(source: Path, target: Path) -> None:
    """Move a file or folder to `target`; into a folder that exists only what is not there."""
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, target)
    elif source.is_dir() and target.is_dir():
        for child in source.iterdir():
            merge(child, target / child.name)


def _unpack_tar(archive: Path, folder: Path, limit: int, inner: str) -> None:
    size = 0
    with (
        archive.open("rb") as raw,
        tarfile.open(fileobj=raw, mode="r:*") as tar,
        progress(f"unpacking {archive.name}", archive.stat().st_size) as bar,
    ):
        for member in tar:
            if JUNK.search(member.name) or (inner and member.name != inner):
                continue
            size += member.size
            _check_growth(archive, size, limit)
            tar.extract(member, folder, filter=plain)
            bar.update(raw.tell() - bar.n)
        # a compressed file has its checksum at the very end
        while tar.fileobj and tar.fileobj.read(CHUNK):
            pass


def _unpack_zip(archive: Path, folder: Path, limit: int, inner: str) -> None:
    with (
        zipfile.ZipFile(archive) as file,
        progress(f"unpacking {archive.name}", archive.stat().st_size) as bar,
    ):
        members = [
            member
            for member in file.infolist()
            if not JUNK.search(member.filename) and (not inner or member.filename == inner)
        ]
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where no such bits are known
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                what = "link" if kind == stat.S_IFLNK else "special file"
                raise tarfile.FilterError(f'"{member.filename}" is a {what}')
            _check_name(member.orig_filename, str(folder))  # zipfile cuts the other one at a NUL
        _check_growth(archive, sum(member.file_size for member in members), limit)
        for member in members:
            file.extract(member, folder)
            bar.update(member.compress_size)


def _check_name(name: str, folder: str) -> None:
    """Refuse a member that could lie outside of its folder, on any system or through a link."""
    target = os.path.join(os.path.realpath(folder), name.rstrip("/"))
    if (
        re.search(r"^/|^[A-Za-z]:|[\\\0]", name)
        or ".." in name.split("/")
        or os.path.realpath(target) != os.path.normpath(target)
    ):
        raise tarfile.FilterError(f'"{name}" would lie outside {folder}')


def _check_growth(archive: Path, size: int, limit: int) -> None:
    if size > limit:
        raise UserError(
            f"{archive} is not unpacked: its content is more than {limit:,} bytes, far more than "
            "pictures grow"
        )


def _damaged(archive: Path, error: Exception) -> UserError:
    reason = str(error)
    if "\n" in reason:  # what each kind of compression has to say
        reason = "it is no zip or tar"
    return UserError(f"{archive} is damaged ({reason}): delete it and run the command again")
