"""Prepare whole datasets: what is to do, doing it, and what is left undone."""

import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from tabulate import tabulate
from tqdm import tqdm

from dassl.utils import UserError
from runs.folder import lock_folder
from runs.protocols import EMBEDDED
from tools.data.completion import complete
from tools.data.names import resolve_names
from tools.data.parts import Part, Source
from tools.data.place import DOWNLOADS, Place, describe
from tools.data.sizes import check_space, in_bytes
from tools.data.sources import SOURCES


def prepare_all(
    datasets: Sequence[str],
    data: Path,
    dry_run: bool = False,
    repair: bool = False,
    mirror: str = "",
) -> None:
    """Prepare datasets one after the other; one that fails does not stop the others.

    Args:
        datasets: names.
        data: folder of all datasets.
        dry_run: see `plan`.
        repair: see `prepare`.
        mirror: address of a folder that has the downloads, as those in `data` lie.

    Raises:
        UserError: a name is not known, or something is left undone; with the list of it.
    """
    if mirror and not re.match(r"https?://[^/]", mirror):
        raise UserError(f"--mirror is {mirror}, expected an address as https://host/folder")
    for name in set(datasets) & set(EMBEDDED):
        print(f"{name} needs no preparation: it is made on first use")
    stems = resolve_names([name for name in datasets if name not in EMBEDDED], list(SOURCES))
    undone: list[str] = []
    for stem in stems:
        try:
            source = SOURCES[stem].mirrored(mirror and f"{mirror.rstrip('/')}/{stem}")
            place = Place(stem, source, data)
            undone += plan(place) if dry_run else prepare(place, repair)
        except (UserError, OSError) as error:
            undone.append(f"{stem}: {error}")
    kept = sum(path.stat().st_size for path in (data / DOWNLOADS).rglob("*") if path.is_file())
    if kept and not dry_run:
        print(f"Downloads are kept in {data / DOWNLOADS} ({in_bytes(kept)}); delete them any time")
    if undone:
        raise UserError("left undone:\n" + "\n".join(f"  - {line}" for line in undone))
    if stems and not dry_run:
        names = " ".join(stems)
        print(f"Complete. To check it: python -m tools.doctor {names} --data {quote(str(data))}")


def prepare(place: Place, repair: bool = False) -> list[str]:
    """Make one dataset complete, as far as possible.

    Args:
        place: where it is, and what it is made of.
        repair: unpack the images again, and add those that are not there.

    Returns:
        What is left undone, a line for each part; empty when the dataset is complete.

    Raises:
        UserError: another process prepares it, its folder cannot be made, or the disk is too small.
    """
    stem = place.stem
    print(f"{stem} -> {place.folder}")
    parts = place.source.parts
    todo = [part for part in parts if (repair and part.images) or not place.has(part)]
    for part in parts:
        if part not in todo:
            _say(f"{part.title}: is there")
    if not todo:
        return []
    undone = []
    try:
        place.downloads.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {place.downloads}: {error.strerror}; choose another folder with --data"
        ) from None
    with lock_folder(place.downloads, "another folder with --data"):
        check_space(place.data, _needed(place, todo), stem)
        for part in todo:
            try:
                complete(place, part, _say, repair)
                _say(f"{part.title}: done")
            except UserError as error:
                undone.append(f"{stem}, {part.title}: {error}")
                _say(f"{part.title}: left undone, see below")
            except OSError as error:
                undone.append(f"{stem}, {part.title}: {error.strerror}: {error.filename}")
                _say(f"{part.title}: left undone, see below")
    return undone


def _needed(place: Place, parts: Sequence[Part]) -> int:
    """Bytes of disk that the downloads of some parts take, about."""
    missing = (part for part in parts if part.urls and not place.find_download(part.file))
    return sum(part.size * part.copies for part in missing)


def _say(line: str) -> None:
    tqdm.write(f"  {line}")


def plan(place: Place) -> list[str]:
    """Say what `prepare` would do.

    Returns:
        Damaged files, which no preparation mends, a line for each part.
    """
    stem = place.stem
    print(f"{stem} -> {place.folder}")
    for part in place.source.parts:
        _say(f"{part.title}: {_step(place, part)}")
    found = ((part.title, place.damaged(part)) for part in place.source.parts)
    return [f"{stem}, {title}: {describe(damaged)}" for title, damaged in found if damaged]


def _step(place: Place, part: Part) -> str:
    """What `prepare` would do for a part."""
    links = [str(path) for _, path in place.linkable(part)]
    path = place.find_download(part.file)
    damaged = place.damaged(part)
    if damaged:
        return f"BY HAND: {describe(damaged)}"
    if not place.missing(part):
        return "is there"
    if links:
        return f"link {', '.join(links)}"
    if place.by_hand(part):
        return f"BY HAND: {place.by_hand(part)}"
    if part.how == "flower_names":
        return "write it (the names are part of torchvision)"
    if path or not part.urls:
        return f"unpack {path}" if path else "sort the images into class folders"
    return f"download {part.urls[0]} ({in_bytes(part.size) if part.size else 'size not known'})"


def overview(data: Path) -> str:
    """A table: what can be prepared by itself, how big it is, and what is there."""
    rows = []
    for stem, source in SOURCES.items():
        place, parts = Place(stem, source, data), source.parts
        there = sum(place.has(part) for part in parts)
        known = all(part.size or part.how != "archive" for part in parts)
        rows.append(
            [
                stem,
                automatic(source),
                ", ".join(part.file for part in parts if part.only_by_hand) or "-",
                in_bytes(sum(part.size for part in parts)) if known else "?",
                "complete" if there == len(parts) else f"{there} of {len(parts)} parts",
            ]
        )
    headers = ["dataset", "automatic", "by hand", "download", f"in {data}"]
    return tabulate(rows, headers, disable_numparse=True)


def automatic(source: Source) -> str:
    """ "yes" or "partly": whether all parts have an address."""
    return "partly" if any(part.only_by_hand for part in source.parts) else "yes"
