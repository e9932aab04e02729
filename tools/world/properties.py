"""What the embedded world must be like, judged by zero-shot CLIP, linear probes and CoOp alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from tabulate import tabulate

from dassl.utils import UserError
from datasets.shapes import CLASSES
from tools.results.pairing import Paired, paired
from tools.results.summary import summarise
from tools.studies.file import Study
from tools.world.measuring import Figures


@dataclass(frozen=True)
class Property:
    """A figure and what it has to be."""

    name: str
    found: float
    wanted: str
    holds: bool


@dataclass(frozen=True)
class Tuned:
    """CoOp against zero-shot CLIP, in percent and points.

    Attributes:
        base: accuracy on base classes, by seed.
        gains: CoOp minus zero-shot on "base" and "new", a difference for each seed.
    """

    base: Mapping[int, float]
    gains: Mapping[str, Paired]


def tuned(study: Study) -> Tuned:
    """What the runs of a study with ZeroshotCLIP and CoOp on one dataset found.

    Raises:
        UserError: a seed or a half is missing, or was made with other settings.
    """
    summaries = summarise(found for job in study.jobs for found in job.found())
    rows = {row.method: row for summary in summaries for row in summary.rows}
    if rows.keys() != {"ZeroshotCLIP", "CoOp"}:
        raise UserError(f"{study.path}: incomplete results; run it first")
    (summary,) = summaries
    (dataset,) = summary.datasets
    lacks = [f"{row}: {', '.join(what)}" for row in summary.rows if (what := summary.missing(row))]
    if lacks:
        raise UserError(f"{study.path}: incomplete results; {'; '.join(lacks)}")
    base = summary.cells[rows["CoOp"], dataset].figures["base"].by_seed
    return Tuned(base, paired(summary, rows["CoOp"], rows["ZeroshotCLIP"], dataset))


def properties(found: Figures, coop: Tuned) -> list[Property]:
    """All properties, in the order in which they matter."""
    base, new = (found.halves["Shapes", half] for half in ("base", "new"))
    pool = base.pool.values()
    loss = coop.gains["new"]
    _, high = loss.interval or (0, float("inf"))
    half = len(CLASSES) // 2
    shared = sum(
        len({c[i] for c in CLASSES[:half]} & {c[i] for c in CLASSES[half:]}) for i in (0, 1)
    )
    return [
        _most("colours and objects that base and new share", shared, 0),
        _least("zero-shot on base classes", base.zero_shot, 55),
        _least("zero-shot on new classes", new.zero_shot, 55),
        _most("zero-shot, difference between the halves", abs(base.zero_shot - new.zero_shot), 10),
        _least("linear probe minus zero-shot, base", fmean(base.probe) - base.zero_shot, 10),
        _below("CoOp on base classes, standard deviation", stdev(coop.base.values()), 2),
        _least("CoOp minus zero-shot, base", coop.gains["base"].mean, 8),
        _most("CoOp minus zero-shot, new", loss.mean, -5),
        _below("the same, upper end of its 95% interval", high, 0),
        _least(
            "best prompt for each style minus best single one",
            found.best_by_style() - found.best_single(),
            6,
        ),
        _least("best prompt of the pool minus worst one, base", max(pool) - min(pool), 5),
    ]


def _least(name: str, found: float, bound: float) -> Property:
    return Property(name, found, f"at least {bound:g}", found >= bound)


def _most(name: str, found: float, bound: float) -> Property:
    return Property(name, found, f"at most {bound:g}", found <= bound)


def _below(name: str, found: float, bound: float) -> Property:
    return Property(name, found, f"below {bound:g}", found < bound)


def verdicts(rows: list[Property]) -> str:
    """The properties as a table."""
    body = [
        [row.name, f"{row.found:.1f}", row.wanted, "holds" if row.holds else "FAILS"]
        for row in rows
    ]
    return tabulate(body, ["property", "found", "wanted", "verdict"], disable_numparse=True)
