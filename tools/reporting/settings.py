"""What runs were made with and on: settings that differ, versions, devices, time and memory."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.reporting.blocks import Block, Folded, Grid, Words
from tools.results.agreement import PER_TEST
from tools.results.run_tables import seconds
from tools.results.summary import Row, Summary, Test, layout
from tools.results.table_format import Item, Table

MOST_VALUES = 3  # of one key in one row
_NAMES = ("method", "config", "shots")


def settings_blocks(summary: Summary) -> list[Block]:
    """Settings that differ between rows as tables; all others folded.

    What all rows have stands in one table, and the knobs of methods in one for each method.
    """
    by_row = {row: _values(_of(summary, row)) for row in summary.rows}
    everywhere = frozenset.intersection(*(frozenset(values) for values in by_row.values()))
    blocks = _compared(by_row, sorted(everywhere - {"TRAINER.NAME"}), "all rows")
    for method in dict.fromkeys(row.method for row in by_row):
        mine = {row: values for row, values in by_row.items() if row.method == method}
        keys = sorted({key for values in mine.values() for key in values} - everywhere)
        blocks += _compared(mine, keys, f"rows of {method}")
    tables = [block for block in blocks if isinstance(block, Grid)]
    if not tables:
        blocks.insert(0, Words("No settings differ between rows." if len(by_row) > 1 else
                               "There is one row, so that nothing differs."))  # fmt: skip
    return [*tables, *(block for block in blocks if not isinstance(block, Grid))]


def _compared(
    by_row: Mapping[Row, Mapping[str, str]], keys: Sequence[str], which: str
) -> list[Block]:
    """A table of the keys that differ between rows, and a folded one of those that do not."""
    shared = [key for key in keys if len({v.get(key) for v in by_row.values()}) == 1]
    differ = [key for key in keys if key not in shared]
    blocks: list[Block] = []
    if differ:
        rows: list[Sequence[Item]] = [
            [row.method, row.config, row.shots, *(values.get(key) for key in differ)]
            for row, values in by_row.items()
        ]
        blocks.append(Grid(Table(f"Different between {which}", [*_NAMES, *differ], rows, 2)))
    if shared:
        first = next(iter(by_row.values()))
        pairs: list[Sequence[Item]] = [[key, first[key]] for key in shared]
        table = Table(f"The same in {which}", ["setting", "value"], pairs, labels=1)
        blocks.append(
            Folded(f"Settings that are the same in {which}: {len(shared)}", [Grid(table)])
        )
    return blocks


def _of(summary: Summary, row: Row) -> list[Test]:
    return [test for test in summary.tests if test.row == row]


def _values(tests: Iterable[Test]) -> dict[str, str]:
    """Each key with its value, or with all that it has on several datasets."""
    found: dict[str, dict[str, None]] = {}
    for test in tests:
        for key, value in (test.found.get("settings") or {}).items():
            if key not in PER_TEST:
                found.setdefault(key, {})[_shown(value)] = None
    return {key: _joined(list(values)) for key, values in found.items()}


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _joined(values: Sequence[str]) -> str:
    more = [f"{len(values) - MOST_VALUES} more"] if len(values) > MOST_VALUES else []
    return " / ".join([*values[:MOST_VALUES], *more])


def machine_blocks(summary: Summary) -> list[Block]:
    """Time, memory, device and precision of each row, and the versions of packages."""
    rows: list[Sequence[Item]] = []
    for row in summary.rows:
        tests = _of(summary, row)
        rows.append([row.method, row.config, row.shots, *_machine(tests)])
    headers = [
        *_NAMES,
        *("device", "precision", "epoch", "training", "whole run", "memory", "on device"),
    ]
    notes = (
        "Seconds of a run, from the shortest to the longest; all of its tests count. Memory: the "
        "most that a test had in use, in GiB."
    )
    table = Table("Time and memory", headers, rows, labels=2)
    return [Grid(table), Words(notes), *_versions(summary.tests)]


def _machine(tests: Sequence[Test]) -> list[Item]:
    found = [test.found for test in tests]
    trained = [(one.get("seconds") or {}).get("train") for one in found]
    told = [one.get("memory") for one in found]
    memory = [one for one in told if isinstance(one, dict)]
    return [
        _joined(_distinct(found, "device")),
        _joined(_distinct(found, "precision")),
        _joined(_distinct(found, "epoch")),
        _range([value for value in trained if value]),
        _range(_whole_runs(tests)),
        _most(memory, "process_gib"),
        _most(memory, "device_gib"),
    ]


def _whole_runs(tests: Iterable[Test]) -> list[float]:
    """Seconds of each run, as far as all of its tests tell them."""
    runs: dict[Path, list[Any]] = {}
    for test in tests:
        runs.setdefault(layout(test.folder)[0], []).append(seconds(test))
    return [sum(found) for found in runs.values() if None not in found]


def _distinct(found: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    values = dict.fromkeys(str(one[key]) for one in found if one.get(key) is not None)
    return list(values) or ["-"]


def _range(values: Sequence[float]) -> str | None:
    if not values:
        return None
    ends = dict.fromkeys(f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in
                         (min(values), max(values)))  # fmt: skip
    return f"{' to '.join(ends)} s"


def _most(memory: Iterable[Mapping[str, Any]], key: str) -> str | None:
    values = [one[key] for one in memory if isinstance(one.get(key), int | float)]
    return f"{max(values):.2f}" if values else None


def _versions(tests: Iterable[Test]) -> list[Block]:
    found = [test.found.get("versions") for test in tests]
    kinds = [one for one in found if isinstance(one, dict)]
    if not kinds:
        return [Words("The results do not tell versions of packages.")]
    names = list(dict.fromkeys(name for one in kinds for name in one))
    distinct: dict[tuple[str, ...], int] = {}
    for one in kinds:
        key = tuple(str(one.get(name, "-")) for name in names)
        distinct[key] = distinct.get(key, 0) + 1
    rows: list[Sequence[Item]] = [[*key, count] for key, count in distinct.items()]
    return [Grid(Table("Versions", [*names, "tests"], rows, labels=0))]
