"""Which runs are shown in full, and what stands in their folders."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import command
from runs.predictions import FILE
from tools.results.summary import Row, Summary, Test, layout


@dataclass(frozen=True)
class ShownRun:
    """The run of a row that stands for those of all of its seeds.

    Attributes:
        home: dataset of the training.
        folder: of the run.
        tests: what was tested with it.
        seeds: how many seeds the row has there.
    """

    row: Row
    home: str
    folder: Path
    seed: int
    tests: tuple[Test, ...]
    seeds: int

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was made with, of its first test."""
        return self.tests[0].found.get("settings") or {}

    @property
    def gate(self) -> Path:
        """Where tools.gate writes by default."""
        return command.beside(self.folder, "gate") / "gate.json"

    def richness(self) -> int:
        """How many files there are beside the results."""
        files = [test.folder / test.classes / FILE for test in self.tests]
        return sum(path.is_file() for path in (*files, self.gate))


def shown_runs(summary: Summary) -> list[ShownRun]:
    """A run of each row on each dataset that it was trained on.

    It is the one that has most to show; of several, that of the lowest seed.
    """
    groups: dict[tuple[Row, str], dict[tuple[int, Path], list[Test]]] = {}
    for test in summary.tests:
        run, _ = layout(test.folder)
        home = summary.source or test.dataset
        found = groups.setdefault((test.row, home), defaultdict(list))
        found[test.seed, run].append(test)
    runs = []
    for row in summary.rows:
        for dataset in summary.datasets:
            found = groups.get((row, dataset), {})
            seeds = len({seed for seed, _ in found})
            several = [
                ShownRun(row, dataset, folder, seed, tuple(tests), seeds)
                for (seed, folder), tests in sorted(found.items())
            ]
            if several:
                runs.append(max(several, key=ShownRun.richness))  # of equal ones the first
    return runs
