"""The whole page: what is shown of some folders, in sections, as one HTML text of bounded size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dassl.utils import UserError
from runs.results import collect
from tools.reporting.blocks import Block, Folded, Lack, Section, Words, command
from tools.reporting.details import ALL_IMAGES, IMAGES, Details
from tools.reporting.inline import drawing
from tools.reporting.material import ShownRun, shown_runs
from tools.reporting.overview import (
    metric_blocks,
    paired_blocks,
    pictures_blocks,
    runs_blocks,
    tables_blocks,
)
from tools.reporting.settings import machine_blocks, settings_blocks
from tools.results.metric_tables import metric_summaries
from tools.results.pairing import check_baseline, is_baseline
from tools.results.published import paper_order
from tools.results.summary import Summary, layout
from tools.results.summary_tables import head

MOST_BYTES = 4_800_000  # of the page; runs that do not fit are named
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        folders: of runs.
        data: folder of the datasets.
        baseline: METHOD or METHOD/CONFIG; None: CoOp, else the first row.
    """

    folders: Sequence[Path]
    data: Path
    baseline: str | None = None


def page(asked: Asked) -> str:
    """The report as HTML.

    Raises:
        UserError: no such folder, no results, damaged ones, no such baseline, or a package that
            is missing.
    """
    for folder in asked.folders:
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "is not there"
            raise UserError(f"{folder} {what}: give a folder of runs, e.g. output/base2new")
    results = collect(asked.folders)
    metrics = metric_summaries(results, paper_order(), complete=False)
    summaries = [one.summary for one in metrics]
    if asked.baseline is not None:
        check_baseline(summaries, asked.baseline)
    templates = _templates()
    with drawing():
        sections = [Section("Overview", "overview", [_counts(summaries)])]
        for summary, found in zip(summaries, metrics, strict=True):
            sections += _sections(summary, found, asked)
        details = _details(summaries, asked)
        return _fitted(templates, asked, sections, details)


def _templates() -> Any:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise UserError("reports need jinja2: pip install -r requirements.txt") from error
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _counts(summaries: Sequence[Summary]) -> Block:
    """How much there is, in one sentence for each protocol."""
    told = []
    for one in summaries:
        runs = len({layout(test.folder)[0] for test in one.tests})
        seeds = len({test.seed for test in one.tests})
        told.append(
            f"{head(one)}: {_number(len(one.tests), 'test')} of {_number(runs, 'run')}, "
            f"{_number(len(one.rows), 'row')}, {_number(seeds, 'seed')}, on "
            f"{', '.join(one.datasets)}"
        )
    return Words("; ".join(told) + ".")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _sections(summary: Summary, metrics: Any, asked: Asked) -> list[Section]:
    """The sections of one protocol."""
    name = head(summary)
    anchor = "-".join(name.split())
    baseline = asked.baseline or _baseline(summary)
    found = [
        ("accuracy", tables_blocks(summary)),
        ("pictures", pictures_blocks(summary, baseline, asked.folders)),
        (f"differences from {baseline}", paired_blocks(summary, baseline)),
        ("other figures", _folded("Tables of other figures", metric_blocks(metrics))),
        ("single runs", _folded("Table of single runs", runs_blocks(summary, asked.folders))),
        ("settings", settings_blocks(summary)),
        ("time, memory, versions", machine_blocks(summary)),
    ]
    return [
        Section(f"{name}: {what}", f"{anchor}-{at}", blocks)
        for at, (what, blocks) in enumerate(found, start=1)
    ]


def _folded(title: str, blocks: Sequence[Block]) -> list[Block]:
    return [Folded(title, blocks)]


def _baseline(summary: Summary) -> str:
    """CoOp, as in plots; without it, the first row."""
    usual = any(is_baseline(row, "CoOp") for row in summary.rows)
    first = summary.rows[0]
    return "CoOp" if usual else f"{first.method}/{first.config}"


def _details(summaries: Sequence[Summary], asked: Asked) -> list[tuple[ShownRun, Folded]]:
    """One run of each row in full."""
    runs = [(summary, run) for summary in summaries for run in shown_runs(summary)]
    tests = sum(len(run.tests) for _, run in runs)
    details = Details(asked.data, min(IMAGES, ALL_IMAGES // tests))
    return [(run, details.run(summary, run, len(runs) == 1)) for summary, run in runs]


def _fitted(
    templates: Any, asked: Asked, sections: list[Section], details: list[tuple[ShownRun, Folded]]
) -> str:
    """The page, with as many details as there is room for."""
    template, blocks = templates.get_template("report.html"), templates.get_template("blocks.html")
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    name = ", ".join(map(str, asked.folders))
    empty = template.render(name=name, style=style, sections=sections, details=[])
    room = MOST_BYTES - len(empty.encode(errors="replace"))
    shown = []
    for run, folded in details:
        text = blocks.module.block(folded)
        size = len(text.encode(errors="replace"))
        if size > room:
            alone = command("tools.report", run.folder, *Details(asked.data).flags)
            why = Lack("Left out, so that the file stays small.", alone)
            text = blocks.module.block(Folded(folded.title, [why], folded.told))
            size = len(text.encode(errors="replace"))
        room -= size
        shown.append(text)
    text = template.render(name=name, style=style, sections=sections, details=shown)
    # names of folders may have bytes that are no text
    return text.encode(errors="backslashreplace").decode()
