"""Tables of single runs: a row for each run, no means."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.results.summary import TRANSFER, Test, harmonic_mean, read_tests
from tools.results.table_format import MISSING, Item, Percent, Table, csv_text

NAMES = ("dataset", "method", "config", "shots", "seed")
RUN_COLUMNS = (
    *("protocol", "source", "dataset", "method", "config", "shots", "seed", "classes"),
    *("accuracy", "macro_f1", "correct", "total", "epoch", "seconds", "config_hash", "folder"),
)


def run_table(results: Iterable[Mapping[str, Any]]) -> str:
    """What a script prints after a run of any protocol: a row for each folder of results."""
    return "\n\n".join(table.show("text") for table in run_tables(results))


def run_tables(results: Iterable[Mapping[str, Any]]) -> list[Table]:
    """A table of single runs for each protocol; with titles if there are several.

    A test that is missing shows as "-"; it is never left out of a mean silently.
    """
    groups: dict[str, list[Test]] = defaultdict(list)
    for test in read_tests(results):
        groups[test.protocol].append(test)
    tables = []
    for protocol, tests in sorted(groups.items()):
        table = _base2new_runs(tests) if protocol == "base2new" else _other_runs(protocol, tests)
        table.title = protocol if len(groups) > 1 else ""
        tables.append(table)
    return tables


def _base2new_runs(tests: Iterable[Test]) -> Table:
    folders: dict[Path, dict[str, Test]] = defaultdict(dict)
    for test in tests:
        folders[test.folder][test.classes] = test
    rows: list[Sequence[Item]] = []
    for found in folders.values():
        one = next(iter(found.values()))
        base, new = (found[half].accuracy if half in found else None for half in ("base", "new"))
        h = None if base is None or new is None else harmonic_mean(base, new)
        numbers = [None if value is None else Percent(value) for value in (base, new, h)]
        rows.append([*_names(one), *numbers, _time(found.values())])
    return Table("", [*NAMES, "base", "new", "H", "time"], rows, labels=3)


def _other_runs(protocol: str, tests: Iterable[Test]) -> Table:
    transfer = protocol in TRANSFER
    rows: list[Sequence[Item]] = []
    for test in tests:
        source = [test.source] if transfer else []
        rows.append([*source, *_names(test), Percent(test.accuracy), _time([test])])
    names = ["trained on", "tested on", *NAMES[1:]] if transfer else NAMES
    return Table("", [*names, "accuracy", "time"], rows, labels=3 + transfer)


def _names(test: Test) -> list[Item]:
    row = test.row
    return [test.dataset, row.method, row.config, row.shots, test.seed]


def _time(tests: Iterable[Test]) -> str:
    found = [seconds(test) for test in tests]
    return f"{sum(found):.0f} s" if None not in found else MISSING


def seconds(test: Test) -> Any:
    """What a test took, training included where it trained; None where an older file has none."""
    return test.found.get("seconds", {}).get("total")


def runs_csv(results: Iterable[Mapping[str, Any]]) -> str:
    """All tests as CSV, in full precision; missing is empty."""
    rows = []
    for test in read_tests(results):
        row, found = test.row, test.found
        names = [test.protocol, test.source, test.dataset, row.method, row.config, row.shots]
        numbers = [found.get(key) for key in ("accuracy", "macro_f1", "correct", "total", "epoch")]
        rest = [seconds(test), found.get("config_hash"), test.folder]
        rows.append([*names, test.seed, test.classes, *numbers, *rest])
    return csv_text(RUN_COLUMNS, rows)
