"""Results of many runs as figures over seeds: what a table or a plot shows.

A mean is shown only where every test that belongs to it is there; what is missing, doubled or
made with other settings becomes a note and leaves its cell empty.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from tools.results.agreement import disagreements, seed_list

AVERAGE = "average"
H = "H"
ALL = "all"
ACCURACY = "accuracy"  # key of results.json
# what is measured in each protocol, and what is averaged in the summaries' last block
MEASURES: dict[str, tuple[str, ...]] = {"base2new": ("base", "new")}
TRANSFER = ("xd", "dg")  # trained on one dataset, tested on others


def harmonic_mean(base: float, new: float) -> float:
    """H of base and new accuracy, both in percent; 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


@dataclass(frozen=True)
class Row:
    """What is compared: one method in one configuration with so many shots."""

    learns: bool  # methods that learn nothing come first
    method: str
    config: str
    shots: int

    def __str__(self) -> str:
        return f"{self.method} {self.config}, {self.shots} shots"


@dataclass(frozen=True)
class Test:
    """One results.json, with what its folder tells."""

    row: Row
    protocol: str
    source: str  # dataset of the training; "" outside of the transfer protocols
    dataset: str
    classes: str
    seed: int
    folder: Path
    found: Mapping[str, Any] = field(repr=False)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in percent."""
        return self.found[ACCURACY]

    @property
    def split(self) -> str:
        """The images of the test: "test" or "val"."""
        settings = self.found.get("settings") or {}
        return "val" if settings.get("TEST.SPLIT") == "val" else "test"


@dataclass(frozen=True)
class Figure:
    """An accuracy in percent, or another figure of tests, over seeds.

    Attributes:
        mean: the figure that is shown.
        by_seed: the same for each seed alone; of an average, for the seeds of all datasets.
        whole: the mean is over these seeds; not so if datasets have different ones.
    """

    mean: float
    by_seed: Mapping[int, float]
    whole: bool = True

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for a single one, or if not whole."""
        return stdev(self.by_seed.values()) if self.whole and len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Cell:
    """Figures of one row on one dataset, or on the average of them."""

    figures: Mapping[str, Figure]  # by measure; one that is missing or not sound is absent
    seeds: frozenset[int] = frozenset()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Summary:
    """All rows of one protocol (and one source dataset) on all of its datasets.

    Attributes:
        measures: names of the figures, H last where there is one.
        datasets: the source first, where the protocol has one.
        averaged: the datasets that the average is over.
        seeds: all seeds of rows that learn.
        cells: by row and dataset; AVERAGE is a dataset if there are two or more to average.
        tests: what the cells were made of.
        complete: every row should have been run on every dataset.
    """

    protocol: str
    source: str
    measures: tuple[str, ...]
    datasets: tuple[str, ...]
    averaged: tuple[str, ...]
    rows: tuple[Row, ...]
    seeds: frozenset[int]
    cells: Mapping[tuple[Row, str], Cell]
    tests: Sequence[Test]
    complete: bool = False

    def shown(self, row: Row, dataset: str) -> bool:
        """Whether a row has a place among those of a dataset, or of AVERAGE.

        It has none where nobody ran it, unless that counts as missing.
        """
        if self.complete or self.protocol in TRANSFER:
            return True
        names = self.averaged if dataset == AVERAGE else (dataset,)
        return all(self.cells[row, name].seeds for name in names)

    def expected(self, row: Row) -> frozenset[int]:
        """Seeds that a complete row has: one is enough for a method that learns nothing."""
        return self.seeds if row.learns else frozenset()

    def whole(self, row: Row, dataset: str) -> bool:
        """Whether all seeds are there; for AVERAGE, on all datasets."""
        names = self.averaged if dataset == AVERAGE else (dataset,)
        return all(self.expected(row) <= self.cells[row, name].seeds for name in names)

    def of(self, rows: Iterable[Row]) -> "Summary":
        """The same of some of the rows."""
        kept = frozenset(rows)
        tests = [test for test in self.tests if test.row in kept]
        return replace(self, rows=tuple(r for r in self.rows if r in kept), tests=tests)

    def missing(self, row: Row) -> list[str]:
        """What this row lacks, dataset by dataset."""
        lacks = []
        for dataset in self.datasets:
            cell = self.cells[row, dataset]
            absent = sorted(self.expected(row) - cell.seeds)
            if not cell.seeds:
                lacks += [dataset] * self.shown(row, dataset)
            else:
                lacks += [f"{dataset} {problem}" for problem in cell.problems]
                if absent:
                    lacks.append(f"{dataset} {seed_list(absent)}")
        average = self.cells.get((row, AVERAGE))
        # else it follows from what is listed
        if average and not lacks and self.shown(row, AVERAGE):
            lacks += [f"{AVERAGE}: {problem}" for problem in average.problems]
        return lacks


def summarise(
    results: Iterable[Mapping[str, Any]],
    order: Sequence[str] = (),
    complete: bool = False,
    key: str = ACCURACY,
) -> list[Summary]:
    """Summaries of all protocols among the results of `find_results`.

    Args:
        order: datasets in the order in which they are shown; others follow by name.
        complete: every row should have been run on every dataset of its protocol.
        key: of results, what is averaged; a test that does not tell it counts as missing.
    """
    groups: dict[tuple[str, str], list[Test]] = defaultdict(list)
    for test in read_tests(results):
        groups[test.protocol, test.source].append(test)
    return [_summary(*name, groups[name], order, complete, key) for name in sorted(groups)]


def layout(folder: Path) -> tuple[Path, str]:
    """Folder of the run itself and, for the test of another dataset below it, its name."""
    if not re.fullmatch(r"seed\d+", folder.name) and re.fullmatch(r"seed\d+", folder.parent.name):
        return folder.parent, folder.name
    return folder, ""


def config_label(found: Mapping[str, Any]) -> str:
    """`<config>[-<tag>]` of a result; of an older one, the name of its folder."""
    run, _ = layout(found["run"])
    in_layout = run.name.startswith("seed") and len(run.parents) > 1
    name = run.parents[1].name if in_layout else run.name
    # the name of a folder may have bytes that are no text, which pictures cannot show
    return found.get("config") or name.encode(errors="backslashreplace").decode()


def protocol_of(found: Mapping[str, Any]) -> str:
    """Protocol of a result; what was run without one goes where it would have been tested."""
    if found.get("protocol"):
        return found["protocol"]
    if found["classes"] != ALL:
        return "base2new"
    return "xd" if found.get("source") not in (None, found["dataset"]) else "fewshot"


def read_tests(results: Iterable[Mapping[str, Any]]) -> list[Test]:
    """What results are of; a method that learns nothing has the source dataset of its folder."""
    results = list(results)
    homes = {}  # folder of a dataset's runs -> its name
    for found in results:
        run, target = layout(found["run"])
        if not target and len(run.parents) > 3:
            homes[run.parents[3]] = found["dataset"]
    tests = []
    for found in results:
        run, _ = layout(found["run"])
        protocol, source = protocol_of(found), ""
        if protocol in TRANSFER:
            home = run.parents[3] if len(run.parents) > 3 else run
            source = found.get("source") or homes.get(home, home.name)
        learns = found.get("checkpoint", "") is not None
        row = Row(learns, found["trainer"], config_label(found), found["shots"])
        dataset, classes, seed = found["dataset"], found["classes"], found["seed"]
        tests.append(Test(row, protocol, source, dataset, classes, seed, found["run"], found))
    return tests


def _summary(
    protocol: str, source: str, tests: list[Test], order: Sequence[str], complete: bool, key: str
) -> Summary:
    place = {name: at for at, name in enumerate(order)}
    names = {test.dataset for test in tests}
    datasets = sorted(names, key=lambda name: (name != source, place.get(name, len(place)), name))
    averaged = [name for name in datasets if name != source]
    if source and source not in names:
        datasets = [source, *datasets]
    measures = MEASURES.get(protocol, (ALL,))
    rows = sorted({test.row for test in tests}, key=_place)
    grouped: dict[tuple[Row, str], list[Test]] = defaultdict(list)
    for test in tests:
        grouped[test.row, test.dataset].append(test)
    cells = {(r, name): _cell(grouped[r, name], measures, key) for r in rows for name in datasets}
    if len(averaged) > 1:
        for row in rows:
            parts = {name: cells[row, name] for name in averaged}
            backbones = {str(test.found.get("backbone")) for test in tests if test.row == row}
            cells[row, AVERAGE] = _average(parts, measures, backbones)
    return Summary(
        protocol,
        source,
        (*measures, H) if len(measures) > 1 else measures,
        tuple(datasets),
        tuple(averaged),
        tuple(rows),
        frozenset(test.seed for test in tests if test.row.learns),
        cells,
        tests,
        complete,
    )


def _place(row: Row) -> tuple[object, ...]:
    """Order of rows; numbers in labels count as numbers (k6 before k12)."""
    parts = re.split(r"(\d+)", row.config)
    label = [int(part) if part.isdecimal() else part for part in parts]
    return row.learns, row.method, label, row.config, row.shots  # b0.5 and b0.0005 are two


def _cell(tests: list[Test], measures: tuple[str, ...], key: str) -> Cell:
    """Figures of one row on one dataset, as far as its tests belong together."""
    seeds = frozenset(test.seed for test in tests)
    problems = disagreements(tests)
    if problems:
        return Cell({}, seeds, tuple(problems))
    values = {
        measure: {
            test.seed: test.found[key]
            for test in tests
            if test.classes == measure and test.found.get(key) is not None
        }
        for measure in measures
    }
    figures = {}
    for measure, by_seed in values.items():
        if by_seed and by_seed.keys() == seeds:
            figures[measure] = Figure(fmean(by_seed.values()), by_seed)
        elif seeds:
            problems.append(f"{measure} of {seed_list(seeds - by_seed.keys())}")
    return Cell(_with_h(figures, measures), seeds, tuple(problems))


def _average(parts: Mapping[str, Cell], measures: tuple[str, ...], backbones: set[str]) -> Cell:
    """Means over datasets; a measure that one dataset lacks is left out."""
    seeds = frozenset.intersection(*(part.seeds for part in parts.values()))
    if len(backbones) > 1:
        problem = f"datasets with different backbones ({', '.join(sorted(backbones))})"
        return Cell({}, seeds, (problem,))
    same = all(part.seeds == seeds for part in parts.values())
    figures, problems = {}, []
    for measure in measures:
        found = [part.figures.get(measure) for part in parts.values()]
        whole = [figure for figure in found if figure]
        if len(whole) == len(parts):
            by_seed = {seed: fmean(f.by_seed[seed] for f in whole) for seed in seeds}
            figures[measure] = Figure(fmean(f.mean for f in whole), by_seed, same)
        else:
            lacks = [name for name, figure in zip(parts, found, strict=True) if not figure]
            problems.append(f"no {measure} of {', '.join(lacks)}")
    return Cell(_with_h(figures, measures), seeds, tuple(problems))


def _with_h(figures: dict[str, Figure], measures: tuple[str, ...]) -> dict[str, Figure]:
    """The figures and, where base and new are there, H of their means."""
    if len(measures) < 2 or not figures.keys() >= set(measures):
        return figures
    base, new = (figures[measure] for measure in measures)
    by_seed = {s: harmonic_mean(base.by_seed[s], new.by_seed[s]) for s in base.by_seed}
    return {**figures, H: Figure(harmonic_mean(base.mean, new.mean), by_seed, base.whole)}
