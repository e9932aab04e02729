"""Check datasets: present, complete, decodable, labels from 0 on; reads only."""

import contextlib
import io
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import quote

from tqdm import tqdm

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import UserError, read_image
from datasets.errors import DatasetError
from datasets.own import split_name
from datasets.reader import Reader
from runs.config import dataset_cfg
from tools.data.lists import SHOWN, compare
from tools.data.names import known_datasets, resolve_names
from tools.data.place import Place
from tools.data.report import Problem, Report
from tools.data.sources import SOURCES

LINK = ". If it is the same, link it: "  # in a message of Reader.find
DECODED = 200  # images of each dataset, unless said


def check_all(names: Sequence[str], data: Path, decode: int | None = DECODED) -> list[Report]:
    """Check the datasets that are named, own data last; without names, all that are known.

    Raises:
        UserError: a name that is not known, or a file instead of the folder of all datasets.
        DatasetError: as `check`.
    """
    if data.is_file():
        raise UserError(f"--data {data} is a file, expected the folder of the datasets")
    names = names or ["all"]
    own = [name for name in names if ":" in name]
    stems = resolve_names([name for name in names if ":" not in name], list(known_datasets()))
    return [check(name, data, decode) for name in (*stems, *own)]


def check(name: str, data: Path, decode: int | None = DECODED) -> Report:
    """Check one dataset.

    Args:
        name: a file under configs/datasets, or folder:PATH or csv:PATH.
        data: folder of all datasets.
        decode: how many images are decoded, spread over all; None for all.

    Raises:
        DatasetError: own data with a wrong prefix or no path.
    """
    report = Report(name)
    # as a run would read the whole dataset
    cfg = dataset_cfg(*(split_name(name) or (known_datasets()[name], "")), data)
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
    paths = sorted({item.impath for items in lists.values() for item in items or ()})
    _decode(report, spread(paths, decode), place)
    return report


def _decode(report: Report, paths: Sequence[str], place: Place | None) -> None:
    """Decode images as training does, and add what cannot be to the report."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        reasons = tqdm(
            pool.map(_why_broken, paths),
            desc=f"decoding {report.name}",
            total=len(paths),
            unit=" images",
            leave=False,
            disable=None,
        )
        broken = [(path, why) for path, why in zip(paths, reasons, strict=True) if why]
    report.decoded = len(paths) - len(broken)
    for path, why in broken[:SHOWN]:
        fix = "replace the file by a good copy"
        if place:
            fix = f"rm {quote(path)} && {place.command} --repair"
        report.problems.append(Problem(f"{path} cannot be decoded: {why}", fix))
    if len(broken) > SHOWN:
        report.problems.append(Problem(f"{len(broken) - SHOWN} more cannot be decoded"))


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
        problems += [Problem(what, place.remedy(part)) for what in place.missing(part)]
        problems += [Problem(what, fix) for what, fix in place.damaged(part)]
    return problems


def spread(paths: Sequence[str], count: int | None) -> list[str]:
    """`count` of the paths, evenly spread from the first to the last; None for all."""
    if count is None or count >= len(paths):
        return list(paths)
    return [paths[i * len(paths) // count] for i in range(count)]


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
