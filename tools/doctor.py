"""Check datasets on the disk: present, complete, decodable, labels from 0 on; and how to fix it.

    python -m tools.doctor
    python -m tools.doctor oxford_pets dtd --data data --decode all

Reads only. Exit code 1 if something is wrong, or if a dataset that you name is not there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from tabulate import tabulate
from tqdm import tqdm
from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, Datum, build_dataset
from dassl.utils import UserError, read_image
from datasets.counts import COUNTS
from datasets.errors import DatasetError
from datasets.own import split_name
from datasets.reader import Reader
from datasets.splits import PARTS
from runs import command
from runs.config import REPOSITORY, dataset_cfg
from tools.data.names import known_datasets, resolve_names
from tools.data.place import Place, prepare_command
from tools.data.sources import SOURCES

SHOWN = 5  # of many problems of one kind
LINES = 8  # of one message
LINK = ". If it is the same, link it: "  # in a message of Reader.find
DECODED = 200  # images of each dataset, unless said


@dataclass
class Problem:
    """Something that is wrong, and a command or an address that mends it."""

    what: str
    fix: str = ""


@dataclass
class Report:
    """What is known about one dataset after the check."""

    name: str
    present: bool = True
    numbers: dict[str, int | None] = field(default_factory=dict)  # classes, train, val, test
    decoded: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # unusual, not wrong

    @property
    def state(self) -> str:
        """ "ok", "wrong" or "absent"."""
        return "absent" if not self.present else "wrong" if self.problems else "ok"


def check(name: str, data: Path, decode: int | None = DECODED) -> Report:
    """Check one dataset.

    Args:
        name: a file under configs/datasets, or folder:PATH or csv:PATH.
        data: folder of all datasets.
        decode: how many images are decoded, spread over all; None for all.

    Raises:
        UserError: own data with a wrong prefix or no path.
    """
    report = Report(name)
    cfg = _configure(name, data)
    reader = DATASET_REGISTRY.get(cfg.DATASET.NAME)
    path = Path(cfg.DATASET.PATH) if cfg.DATASET.PATH else data / reader.dataset_dir
    place = Place(name, SOURCES[name], data) if name in SOURCES else None
    if not path.exists() or (place and not path.is_dir()):
        report.problems += _instead(reader, path, place)
        report.present = bool(report.problems)
        return report
    report.problems += _files(place) if place else []
    # where files are missing, their fix comes first
    repair = f"{place.command} --repair" if place and not report.problems else ""
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            dataset = build_dataset(cfg)
    except (DatasetError, UserError, OSError) as error:
        # the cause is without the layout that a reader appends
        cause = error.__cause__ if isinstance(error.__cause__, DatasetError) else error
        fix = _replace(place, str(cause)) if place else ""
        if not fix or fix not in {problem.fix for problem in report.problems}:
            report.problems.append(Problem(str(cause), (repair and fix) or repair))
        return report
    report.notes += re.findall(r"^Note: (.*)$", said.getvalue(), re.MULTILINE)
    lists = {"train": dataset.train_x, "val": dataset.val, "test": dataset.test}
    if getattr(reader, "test_only", False):
        lists = {"train": None, "val": None, "test": dataset.test}
    problems, report.numbers = compare(lists, cfg.DATASET.NAME)
    report.problems += [Problem(what, repair) for what in problems]
    _decode(report, lists, decode, place)
    return report


def _configure(name: str, data: Path) -> CfgNode:
    """The configuration with which a run would read a whole dataset."""
    try:
        own = split_name(name)
    except DatasetError as error:
        raise UserError(error) from None
    return dataset_cfg(*(own or (known_datasets()[name], "")), data)


def _decode(
    report: Report,
    lists: Mapping[str, Sequence[Datum] | None],
    count: int | None,
    place: Place | None,
) -> None:
    """Decode images of the lists, and add what cannot be to the report."""
    paths = sorted({item.impath for items in lists.values() for item in items or ()})
    chosen = spread(paths, count)
    broken = decode_all(chosen, report.name)
    report.decoded = len(chosen) - len(broken)
    for path, why in broken[:SHOWN]:
        fix = "replace the file by a good copy"
        if place:
            fix = f"rm {quote(path)} && {place.command} --repair"
        report.problems.append(Problem(f"{path} cannot be decoded: {why}", fix))
    if len(broken) > SHOWN:
        report.problems.append(Problem(f"{len(broken) - SHOWN} more cannot be decoded"))


def compare(
    lists: Mapping[str, Sequence[Datum] | None], name: str
) -> tuple[list[str], dict[str, int | None]]:
    """Compare the lists of a dataset with what lists must be, and with the published counts.

    Args:
        lists: the images of "train", "val" and "test", or None.
        name: of the reader.

    Returns:
        What is wrong, in words; numbers of classes and of images of each split.
    """
    problems = []
    used = {split: items for split, items in lists.items() if items is not None}
    names: dict[int, set[str]] = {}
    for items in used.values():
        for item in items:
            names.setdefault(item.label, set()).add(item.classname)
    if sorted(names) != list(range(len(names))):
        gaps = sorted(set(range(max(names) + 1)) - names.keys())
        problems.append(f"labels are not 0 to C-1: {_some(gaps)} without an image")
    for label, several in sorted(names.items()):
        if len(several) > 1:
            problems.append(f"label {label} has {len(several)} names: {_some(sorted(several))}")
    for split, items in used.items():
        absent = sorted(names.keys() - {item.label for item in items})
        if absent:
            problems.append(f"{split} has no image of {len(absent)} classes: {_some(absent)}")
    problems += _twice(used)
    numbers: dict[str, int | None] = {"classes": len(names)}
    numbers |= {
        split: None if items is None else len(items) for split, items in sorted(lists.items())
    }
    expected = COUNTS[name]._asdict() if name in COUNTS else {}
    for what, number in expected.items():
        found = numbers[what] or 0
        # 0: there is no such list
        if number and found != number:
            kind = "classes" if what == "classes" else f"{what} images"
            problems.append(f"{found:,} {kind}, expected {number:,}")
    return problems, numbers


def spread(paths: Sequence[str], count: int | None) -> list[str]:
    """`count` of the paths, evenly spread from the first to the last; None for all."""
    if count is None or count >= len(paths):
        return list(paths)
    return [paths[i * len(paths) // count] for i in range(count)]


def decode_all(paths: Sequence[str], title: str) -> list[tuple[str, str]]:
    """Decode images as training does.

    Returns:
        Path and reason for each that cannot be decoded.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        reasons = tqdm(
            pool.map(_why_broken, paths),
            desc=f"decoding {title}",
            total=len(paths),
            unit=" images",
            leave=False,
            disable=None,
        )
        return [(path, why) for path, why in zip(paths, reasons, strict=True) if why]


def _why_broken(path: str) -> str:
    """Why an image cannot be decoded; "" if it can."""
    try:
        read_image(path)
    except UserError as error:
        cause = error.__cause__
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            return "the file is empty"
        return str(cause) if cause else str(error)
    return ""


def _twice(lists: dict[str, Sequence[Datum]]) -> list[str]:
    """Images that are listed more than once."""
    first: dict[str, str] = {}  # path -> the split that lists it first
    double: dict[str, list[str]] = {}
    for split, items in lists.items():
        for item in items:
            if item.impath in first:
                where = first[item.impath]
                kind = f"twice in {split}" if where == split else f"in {where} and in {split}"
                double.setdefault(kind, []).append(item.impath)
            else:
                first[item.impath] = split
    return [f"{len(paths)} images are {kind}: {_some(paths)}" for kind, paths in double.items()]


def _instead(reader: type, path: Path, place: Place | None) -> list[Problem]:
    """What is there instead of the folder of a dataset; empty if nothing is."""
    if path.is_file() and place:
        return [Problem(f"{path} is a file, expected a folder", place.replace_command(path))]
    if path.is_symlink():
        fix = "let it lead to where the images are, or remove it: rm " + quote(str(path))
        fix += f" && {place.command}" if place else ""
        return [Problem(f"{path} is a link to {os.readlink(path)}, which is not there", fix)]
    if issubclass(reader, Reader):
        try:
            reader.find(path)
        except DatasetError as error:
            what, _, link = str(error).partition(LINK)
            return [Problem(what, link)] if link else []
    return []


def _replace(place: Place, message: str) -> str:
    """The command that replaces the small file that a message names; "" if it names none."""
    for part in place.source.parts:
        for path in place.small_files(part):
            if str(path) in message and path.is_file():
                return place.replace_command(path)
    return ""


def _files(place: Place) -> list[Problem]:
    """What is missing or damaged among the files of a dataset that `prepare_data` knows."""
    problems = []
    for part in place.source.parts:
        for what in place.missing(part):
            lift = place.lift_command(part)
            automatic = place.is_automatic(part)
            problems.append(
                Problem(what, lift or (place.command if automatic else place.advice(part)))
            )
        problems += [Problem(what, fix) for what, fix in place.damaged(part)]
    return problems


def _some(values: Sequence[Any]) -> str:
    more = f", ... ({len(values)})" if len(values) > SHOWN else ""
    return ", ".join(str(value) for value in values[:SHOWN]) + more


def show(reports: Sequence[Report]) -> str:
    """A table of what was checked, and each problem with its fix."""
    rows = [
        [
            report.name,
            report.state,
            *(_number(report.numbers.get(key)) for key in ("classes", *PARTS)),
            _number(report.decoded or None),
        ]
        for report in reports
        if report.present
    ]
    headers = ["dataset", "state", "classes", *PARTS, "decoded"]
    lines = (
        [tabulate(rows, headers, disable_numparse=True, colalign=("left", "left", *["right"] * 5))]
        if rows
        else []
    )
    for report in reports:
        # with problems, notes say the same in other words
        notes = [] if report.problems else report.notes
        lines += [f"\n{report.name}:"] if report.problems or notes else []
        lines += [f"  - note: {note}" for note in notes]
        for problem in report.problems:
            lines.append(f"  - {_shorten(problem.what)}")
            lines += [f"    fix: {problem.fix}"] if problem.fix else []
    return "\n".join(lines)


def _shorten(text: str) -> str:
    """Some lines of a long message, below each other."""
    lines = [line.strip() for line in text.splitlines()]
    if len(lines) > LINES:
        lines[LINES - 2 : -1] = ["..."]
    return "\n    ".join(lines)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _decode_count(text: str) -> int | None:
    """The argument of --decode."""
    if text == "all":
        return None
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, or all")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = command.parser(__doc__, "tools.doctor")
    add = parser.add_argument
    add("datasets", nargs="*", metavar="DATASET", help="a name, folder:PATH or csv:PATH")
    add("--data", type=Path, default=REPOSITORY / "data", help="folder of the datasets")
    add(
        "--decode",
        type=_decode_count,
        default=DECODED,
        metavar="N|all",
        help=f"images of each dataset that are decoded (default: {DECODED}, spread over all)",
    )
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Check what the command line names, and print what is wrong and how to fix it.

    Raises:
        SystemExit: code 1 if something is wrong, or a dataset that is named is not there.
    """
    args = build_parser().parse_args(argv)
    data = args.data.expanduser()
    if data.is_file():
        raise UserError(f"--data {data} is a file, expected the folder of the datasets")
    own = [name for name in args.datasets if ":" in name]
    names = [name for name in args.datasets if ":" not in name]
    known = list(known_datasets())
    names = resolve_names(names, known) if args.datasets else known
    reports = [check(name, data, args.decode) for name in (*names, *own)]
    shown = show(reports)
    if shown:
        print(shown)
    absent = [report.name for report in reports if not report.present]
    if absent:
        gap = "\n" if shown else ""
        print(f"{gap}not in {data}: {', '.join(absent)}")
        wanted = [name for name in absent if name in SOURCES]
        if args.datasets and wanted:
            print(f"  fix: {prepare_command(' '.join(wanted), data)}")
    if any(r.state == "wrong" or (args.datasets and not r.present) for r in reports):
        raise SystemExit(1)


if __name__ == "__main__":
    command.run(main)
