"""What is known about datasets after a check, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from datasets.splits import PARTS
from tools.data.place import prepare_command
from tools.data.sources import SOURCES

LINES = 8  # of one message


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


def show(reports: Sequence[Report], data: Path, named: bool) -> str:
    """A table of what was checked, each problem with its fix, and what is not there.

    Args:
        reports: one for each dataset.
        data: folder of all datasets.
        named: the datasets were asked for by name, so that absent ones get a fix, too.
    """
    headers = ["dataset", "state", "classes", *PARTS, "decoded"]
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
    align = ("left", "left", *["right"] * 5)
    lines = [tabulate(rows, headers, disable_numparse=True, colalign=align)] if rows else []
    for report in reports:
        # with problems, notes say the same in other words
        notes = [] if report.problems else report.notes
        lines += [f"\n{report.name}:"] if report.problems or notes else []
        lines += [f"  - note: {note}" for note in notes]
        for problem in report.problems:
            lines.append(f"  - {_shorten(problem.what)}")
            lines += [f"    fix: {problem.fix}"] if problem.fix else []
    absent = [report.name for report in reports if not report.present]
    if absent:
        gap = "\n" if lines else ""
        lines.append(f"{gap}not in {data}: {', '.join(absent)}")
        wanted = " ".join(name for name in absent if name in SOURCES)
        lines += [f"  fix: {prepare_command(wanted, data)}"] if named and wanted else []
    return "\n".join(lines)


def _shorten(text: str) -> str:
    """Some lines of a long message, below each other."""
    lines = [line.strip() for line in text.splitlines()]
    if len(lines) > LINES:
        lines[LINES - 2 : -1] = ["..."]
    return "\n    ".join(lines)


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
