"""One row against another, seed by seed: mean difference, its interval, and who wins."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from dassl.utils import UserError
from tools.results.summary import Figure, Row, Summary

CONFIDENCE = 95  # percent
_ROUNDING = 1e-9  # averages and H of equal accuracies differ by less


@dataclass(frozen=True)
class Paired:
    """A row minus the baseline in percentage points, one difference for each common seed."""

    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean difference."""
        return fmean(self.differences)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Confidence interval of the mean, by the paired t-test; None for a single seed."""
        n = len(self.differences)
        if n < 2:
            return None
        from scipy.special import stdtrit  # Student's t as in scipy.stats, which is slow to import

        margin = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 200)) * stdev(self.differences) / sqrt(n)
        return self.mean - margin, self.mean + margin

    @property
    def wins(self) -> int:
        """Seeds on which the row is higher."""
        return sum(difference > _ROUNDING for difference in self.differences)

    @property
    def ties(self) -> int:
        """Seeds on which both are the same."""
        return sum(abs(difference) <= _ROUNDING for difference in self.differences)


def check_baseline(summaries: Iterable[Summary], wanted: str) -> None:
    """Refuse a baseline that no row is.

    Raises:
        UserError: with the names that there are.
    """
    rows = {row for summary in summaries for row in summary.rows}
    names = {name for row in rows for name in (row.method, f"{row.method}/{row.config}")}
    if wanted not in names:
        raise UserError(f'no results of "{wanted}"; there are: {", ".join(sorted(names))}')


def is_baseline(row: Row, wanted: str) -> bool:
    """Whether METHOD or METHOD/CONFIG names a row."""
    method, _, config = wanted.partition("/")
    return row.method == method and config in ("", row.config)


def baseline_of(summary: Summary, row: Row, wanted: str) -> Row | None:
    """The row that another is compared with, or None where that is not clear.

    Args:
        wanted: METHOD or METHOD/CONFIG. Of several configurations of a method, the one with the
            same label is meant, or the one of which the row's label is a variant; for a row of the
            method itself, the latter.
    """
    found = [r for r in summary.rows if is_baseline(r, wanted) and r.shots == row.shots]
    if len(found) > 1:
        same = [r for r in found if row.config == r.config and r != row]
        found = same or [r for r in found if row.config.startswith(f"{r.config}-")]
    return found[0] if len(found) == 1 and found[0] != row else None


def paired(summary: Summary, row: Row, base: Row, dataset: str) -> dict[str, Paired]:
    """A row against another on a dataset (or AVERAGE), by measure; what lacks is absent.

    A row that learns nothing has one figure, which stands beside each seed of the other.
    """
    found = {}
    mine, theirs = (summary.cells[one, dataset].figures for one in (row, base))
    for measure in (m for m in summary.measures if m in mine and m in theirs):
        both = ((row, mine[measure]), (base, theirs[measure]))
        learned = [frozenset(figure.by_seed) for one, figure in both if one.learns]
        seeds = sorted(frozenset.intersection(*learned)) if learned else [0]
        ours, others = ([_at(*one, seed) for seed in seeds] for one in both)
        if seeds:
            found[measure] = Paired(tuple(a - b for a, b in zip(ours, others, strict=True)))
    return found


def _at(row: Row, figure: Figure, seed: int) -> float:
    return figure.by_seed[seed] if row.learns else figure.mean
