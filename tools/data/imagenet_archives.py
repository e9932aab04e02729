"""ImageNet's own archives: one tar of a tar for each class, and images without class folders."""

import os
import re
import tarfile
import tempfile
from pathlib import Path

from tqdm import tqdm

from dassl.utils import UserError
from tools.data.sizes import check_space
from tools.data.unpack import JUNK, merge, plain, scratch

WNID = re.compile(r"n\d{8}")
VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
CLASSES = 1000


def unpack_train(archive: Path, folder: Path) -> None:
    """Unpack ILSVRC2012_img_train.tar class by class; a class that is complete is not read again.

    Args:
        archive: a tar with `<wnid>.tar` for each class.
        folder: gets `<wnid>/*.JPEG`.

    Raises:
        UserError: another archive, or a damaged one; or the disk is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = sum(1 for path in folder.iterdir() if WNID.fullmatch(path.name))
    left = archive.stat().st_size * max(CLASSES - done, 0) // CLASSES
    check_space(folder, left, f"unpacking {archive.name}")
    try:
        with (
            tarfile.open(archive) as outer,
            scratch(folder, archive.name) as draft,
            tqdm(desc="  classes", total=CLASSES, leave=False, disable=None) as bar,
        ):
            for member in outer:
                wnid = member.name.removesuffix(".tar")
                # of a link it would be the file that it leads to
                inner = outer.extractfile(member) if member.isfile() else None
                if inner is None or not WNID.fullmatch(wnid):
                    raise UserError(f"{archive} has {member.name}, expected only <wnid>.tar")
                with tarfile.open(fileobj=inner) as images:
                    names = {image.name for image in images if not JUNK.search(image.name)}
                    have = set(os.listdir(folder / wnid)) if (folder / wnid).is_dir() else set()
                    for image in images if names - have else ():
                        images.extract(image, draft / wnid, filter=plain)
                if (draft / wnid).is_dir():
                    merge(draft / wnid, folder / wnid)
                bar.update()
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise UserError(f"{archive} is damaged ({error}): get it again") from None


def unpack_val(archive: Path, folder: Path, devkit: Path) -> None:
    """Unpack ILSVRC2012_img_val.tar into class folders.

    Args:
        archive: a tar with 50,000 images side by side.
        folder: gets `<wnid>/*.JPEG`.
        devkit: path of ILSVRC2012_devkit_t12.tar.gz, which says the class of each image.

    Raises:
        UserError: another archive, or a damaged one; or the disk is too small.
    """
    wnids = val_wnids(devkit)
    check_space(folder, archive.stat().st_size, f"unpacking {archive.name}")
    try:
        with (
            tarfile.open(archive) as images,
            scratch(folder, archive.name) as draft,
        ):
            for image in tqdm(images, desc="  images", total=len(wnids), leave=False, disable=None):
                images.extract(image, draft / _class_of(image.name, wnids, archive), filter=plain)
            for path in draft.iterdir():
                merge(path, folder / path.name)
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise UserError(f"{archive} is damaged ({error}): get it again") from None


def is_flat(folder: Path) -> bool:
    """Whether validation images lie side by side in a folder, without class folders."""
    try:
        with os.scandir(folder) as entries:
            return any(VAL_IMAGE.fullmatch(entry.name) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return False


def sort_val(folder: Path, devkit: Path) -> None:
    """Give each image of a flat folder a hard link in its class folder; the images stay.

    Raises:
        UserError: the development kit is damaged, or the file system has no hard links.
    """
    wnids = val_wnids(devkit)
    for name in sorted(filter(VAL_IMAGE.fullmatch, os.listdir(folder))):
        target = folder / _class_of(name, wnids, folder) / name
        target.parent.mkdir(exist_ok=True)
        if not target.exists():
            try:
                os.link(folder / name, target)
            except OSError as error:
                raise UserError(
                    f"cannot link {target} to {folder / name}: {error.strerror}"
                ) from None


def val_wnids(devkit: Path) -> list[str]:
    """The class of each validation image, in the order of their numbers.

    Raises:
        UserError: the development kit is damaged.
    """
    # slow to import
    from torchvision.datasets.imagenet import load_meta_file, parse_devkit_archive

    with tempfile.TemporaryDirectory() as folder:
        try:
            parse_devkit_archive(folder, str(devkit.resolve()))
            return load_meta_file(folder)[1]
        except RuntimeError:
            raise UserError(
                f"{devkit} is damaged, its md5 is not that of ILSVRC2012: get it again"
            ) from None


def _class_of(name: str, wnids: list[str], where: Path) -> str:
    """The class of a validation image by its number."""
    match = VAL_IMAGE.fullmatch(name)
    if not match or not 1 <= int(match[1]) <= len(wnids):
        raise UserError(
            f"{where} has {name}, expected only ILSVRC2012_val_<1 to {len(wnids)}>.JPEG"
        )
    return wnids[int(match[1]) - 1]
