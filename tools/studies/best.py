"""The best setting of a search on each dataset, as validation images tell; test images are refused.

The setting with the highest mean over the seeds is the best. Of equal ones it is the one in which
the fewest knobs differ from the configuration's own values, then the first in the file.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from dassl.utils import UserError
from runs.config import dataset_label
from runs.jobs import Job
from runs.merging import flatten
from runs.results import read_results, write_atomically
from runs.run_job import settings
from tools.results.published import paper_order
from tools.results.summary import ALL, MEASURES, Cell, Figure, H, summarise
from tools.results.table_format import Item, Percent, Table
from tools.studies.file import Study
from tools.studies.search import SPLIT, said, short_names
from trainers.errors import brief, meant

NAMES = {ALL: "accuracy"}  # of measures, where they are called otherwise for people
WRITTEN = "# Written by python -m tools.study best"  # begins every file of this command
EQUAL = 1e-9  # percentage points


@dataclass(frozen=True)
class Tried:
    """A setting on one dataset: its place in the file, its knobs, and its figures by measure."""

    place: int
    setting: Mapping[str, Any]
    figures: Mapping[str, Figure]
    changed: int  # knobs that differ from the configuration's own values


@dataclass(frozen=True)
class Searched:
    """What a search of one method on one dataset has found so far.

    Attributes:
        name: of the dataset in a table of settings.
        by: the measure that is compared.
        tried: settings of which all seeds are there, in the order of the file.
        planned: how many settings the file has.
        seeds: of each setting.
    """

    trainer: str
    dataset: str
    name: str
    by: str
    tried: Sequence[Tried]
    planned: int
    seeds: frozenset[int]

    @property
    def knobs(self) -> tuple[str, ...]:
        """Keys of the knobs, in the order of the file."""
        return tuple(self.tried[0].setting)

    def score(self, tried: Tried) -> float:
        """What is compared, in percent."""
        return tried.figures[self.by].mean

    def ranked(self) -> list[Tried]:
        """All settings, the best first."""
        top = max(map(self.score, self.tried))

        def order(one: Tried) -> tuple[float, int, int]:
            # what is as good as the best counts as the same number
            score = top if top - self.score(one) <= EQUAL else self.score(one)
            return -score, one.changed, one.place

        return sorted(self.tried, key=order)

    def equal(self) -> int:
        """How many settings are as good as the best."""
        scores = [self.score(one) for one in self.tried]
        return sum(max(scores) - score <= EQUAL for score in scores)


def measure_of(study: Study, by: str | None) -> str:
    """The measure that `--by` names; the usual one is H, or accuracy where there is one only.

    Raises:
        UserError: the protocol of the study has no such measure, or the study is no search.
    """
    if not study.searched:
        raise UserError(f"{study.path} is no search: it has no key `search` (docs/search.md)")
    protocol = study.jobs[0].protocol
    measures = MEASURES.get(protocol, (ALL,))
    known = {NAMES.get(one, one): one for one in (H, *measures) if one != H or len(measures) > 1}
    if by is None:
        return next(iter(known.values()))
    if by not in known:
        hint = meant(by, known) or ";"
        raise UserError(f'--by is "{by}"{hint} {protocol} has: {", ".join(known)}')
    return known[by]


def searched(study: Study, by: str, method: str | None = None) -> list[Searched]:
    """What the search of a study has found, for each method and dataset.

    Args:
        study: with a search.
        by: see `measure_of`.
        method: leave others out.

    Raises:
        UserError: results of test images or of other settings are there, none are there, or the
            method is none of the search.
    """
    trainers = list(dict.fromkeys(trainer for trainer, _ in study.searched))
    if method is not None and method not in trainers:
        hint = meant(method, trainers) or ";"
        raise UserError(f'--method is "{method}"{hint} the search has: {", ".join(trainers)}')
    groups: dict[tuple[str, str], list[Job]] = defaultdict(list)
    for job in study.jobs:
        if (job.trainer, job.tag) in study.searched and method in (None, job.trainer):
            groups[job.trainer, job.dataset].append(job)
    found = [_searched(study, by, jobs) for jobs in groups.values()]
    if not any(one.tried for one in found):
        raise UserError(
            f"{study.path} has no setting with all of its seeds yet: "
            f"python -m tools.study run {study.path}"
        )
    return found


def table(study: Study, found: Sequence[Searched]) -> str:
    """The best settings as a table, with notes, for a console."""
    parts = []
    for trainer in dict.fromkeys(one.trainer for one in found):
        mine = [one for one in found if one.trainer == trainer]
        parts.append(_table(study, [one for one in mine if one.tried], mine).show("text"))
    return "\n\n".join(parts)


def write(study: Study, found: Sequence[Searched], path: Path) -> None:
    """Write the best settings as a table of settings by dataset, which `PER_DATASET` reads.

    Raises:
        UserError: the search is not done, or of several methods; the path is another file's, or
            cannot be written.
    """
    trainers = list(dict.fromkeys(one.trainer for one in found))
    if len(trainers) > 1:
        raise UserError(
            f"a table is of one method, and the search has {', '.join(trainers)}: choose one with "
            "--method"
        )
    missing = [one for one in found if len(one.tried) < one.planned]
    if missing:
        told = ", ".join(f"{len(m.tried)} of {m.planned} settings on {m.dataset}" for m in missing)
        raise UserError(
            f"the search is not done ({told}), and nothing is written: python -m tools.study run "
            f"{study.path}"
        )
    if path.exists() and not _ours(path):
        raise UserError(f"{path} is there, and not of this command: choose another --write")
    seeds = len(found[0].seeds)
    lines = [
        f"{WRITTEN} {study.path.name}: {trainers[0]}, {study.jobs[0].protocol}, "
        f"{study.jobs[0].shots} shots,",
        f"# highest {NAMES.get(found[0].by, found[0].by)} on validation images, mean of {seeds} "
        f"seed{'s' * (seeds > 1)}. To use it: PER_DATASET {path}",
    ]
    best = {one.name: dict(one.ranked()[0].setting) for one in found}
    lines.append(yaml.safe_dump(best, sort_keys=False, allow_unicode=True))
    write_atomically(path, "\n".join(lines), other="another file for --write")


def _ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().startswith(WRITTEN)
    except OSError:  # a folder, or one that writing will tell about
        return False


def _searched(study: Study, by: str, jobs: Sequence[Job]) -> Searched:
    """What is there of one method on one dataset."""
    first = jobs[0]
    knobs = study.searched[first.trainer, first.tag]
    pairs = zip(first.opts[::2], first.opts[1::2], strict=True)
    plain = tuple(word for pair in pairs if pair[0] not in knobs for word in pair)
    # what the configuration has without the search
    cfg = settings(replace(first, opts=plain), first.evaluations()[0])
    own = flatten(cfg)
    seeds = frozenset(job.seed for job in jobs)
    cells = _cells(study, jobs)
    tags = list(dict.fromkeys(job.tag for job in jobs))
    tried = []
    for place, tag in enumerate(tags):
        setting = study.searched[first.trainer, tag]
        cell = cells.get(replace(first, tag=tag).config_label)
        if cell and cell.seeds == seeds and by in cell.figures:
            changed = sum(not _same(own.get(key), value) for key, value in setting.items())
            tried.append(Tried(place, setting, cell.figures, changed))
    label = dataset_label(cfg)
    name = label if cfg.DATASET.PATH else cfg.DATASET.NAME
    return Searched(first.trainer, label, name, by, tried, len(tags), seeds)


def _cells(study: Study, jobs: Sequence[Job]) -> dict[str, Cell]:
    """Figures by the label of the configuration, of jobs on one dataset."""
    results = []
    for job in jobs:
        for test in job.evaluations():
            if found := read_results(test.results):
                _check(test.results, found, study.searched[job.trainer, job.tag])
                results.append({**found, "run": test.folder})
    if not results:
        return {}
    (summary,) = summarise(results, paper_order())
    (dataset,) = summary.datasets
    return {row.config: summary.cells[row, dataset] for row in summary.rows}


def _check(path: Path, found: Mapping[str, Any], setting: Mapping[str, Any]) -> None:
    """Refuse results that say something else than a search may know.

    Raises:
        UserError: of test images, or of other values of the knobs.
    """
    there = found.get("settings") or {}
    if there.get(SPLIT) != "val":
        raise UserError(
            f"{path} is of test images ({SPLIT} is {there.get(SPLIT)}), on which nothing may be "
            "chosen: use another output folder for the search (--output)"
        )
    for key, value in setting.items():
        if not _same(there.get(key), value):
            raise UserError(
                f"{path} was made with other settings: {key} is {brief(there.get(key))} there, "
                f"{brief(value)} here. Use another output folder (--output)"
            )


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same, as files hold them."""
    return _plain(one) == _plain(other)


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _table(study: Study, found: Sequence[Searched], every: Sequence[Searched]) -> Table:
    first, job = found[0], study.jobs[0]
    measures = MEASURES.get(job.protocol, (ALL,))
    shown = (*measures, H) if len(measures) > 1 else measures
    knobs = short_names(dict.fromkeys(first.knobs))
    rows: list[Sequence[Item]] = []
    for one in found:
        best = one.ranked()[0]
        figures = [best.figures.get(measure) for measure in shown]
        items = [Percent(f.mean, f.spread) if f else None for f in figures]
        values = [said(best.setting[key]) for key in knobs]
        rows.append([one.dataset, *values, *items, f"{len(one.tried)} of {one.planned}"])
    names = [NAMES.get(measure, measure) for measure in shown]
    by, seeds = NAMES.get(first.by, first.by), len(first.seeds)
    title = (
        f"Best settings of {first.trainer} by {by} on validation images: {job.protocol}, "
        f"{job.shots} shots, {seeds} seed{'s' * (seeds > 1)}"
    )
    headers = ["dataset", *knobs.values(), *names, "settings tried"]
    return Table(title, headers, rows, 1, [note for one in every for note in _notes(one)])


def _notes(one: Searched) -> list[str]:
    """What a reader of the best setting should know."""
    if not one.tried:
        return [f"{one.dataset}: no setting has all of its seeds yet"]
    notes = []
    if (count := one.equal()) > 1:
        notes.append(
            f"{one.dataset}: {count} settings are equally good; the one with the fewest changes of "
            "the configuration is taken, then the first in the file"
        )
    ranked = one.ranked()
    own = next((place for place, tried in enumerate(ranked) if not tried.changed), None)
    if own:
        by = NAMES.get(one.by, one.by)
        score = one.score(ranked[own])
        best, plain = (ranked[at].figures[one.by].by_seed for at in (0, own))
        ahead = sum(best[seed] > plain[seed] for seed in best)
        notes.append(
            f"{one.dataset}: the configuration's own values have {by} {score:.2f}, place "
            f"{own + 1}; the best is ahead of them on {ahead} of {len(best)} seeds"
        )
    return notes
