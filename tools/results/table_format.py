"""Tables as text, Markdown, LaTeX and CSV."""

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

MISSING = "-"
_TABULATE = {"text": "simple", "markdown": "github", "latex": "latex_raw"}
_PLUS_MINUS = {"text": " +- ", "markdown": " ± ", "latex": r" $\pm$ "}
_LATEX_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


@dataclass(frozen=True)
class Percent:
    """A figure with its decimals, and its spread where there is one."""

    mean: float
    spread: float | None = None
    signed: bool = False
    decimals: int = 2

    def show(self, style: str) -> str:
        """The figure in the style's own plus-minus sign."""
        form = f".{self.decimals}f"
        mean = format(self.mean, f"+z{form}" if self.signed else form)  # z: no "-0.00"
        return mean if self.spread is None else f"{mean}{_PLUS_MINUS[style]}{self.spread:{form}}"


Item = str | int | Percent | None


@dataclass
class Table:
    """A title, named columns, rows and notes that explain them.

    Attributes:
        labels: how many columns on the left are names.
    """

    title: str
    headers: Sequence[str]
    rows: list[Sequence[Item]]
    labels: int
    notes: list[str] = field(default_factory=list)

    def show(self, style: str) -> str:
        """The table as "text", "markdown" or "latex"."""
        escape = _ESCAPES[style]
        cells = [[_show(item, style, escape) for item in row] for row in self.rows]
        # numbers without and with a spread line up at the left
        numbers = (
            "left"
            if any("$\\pm$" in c or "±" in c or "+-" in c for r in cells for c in r)
            else "right"
        )
        align = ["left"] * self.labels + [numbers] * (len(self.headers) - self.labels)
        grid = tabulate(
            cells,
            [escape(name) for name in self.headers],
            tablefmt=_TABULATE[style],
            disable_numparse=True,
            colalign=align if cells else None,
        )
        return _FRAMES[style](self.title, grid, [escape(note) for note in self.notes])


def _show(item: Item, style: str, escape: Callable[[str], str]) -> str:
    if item is None:
        return MISSING
    return item.show(style) if isinstance(item, Percent) else escape(str(item))


def wrap(text: str, indent: str = "") -> str:
    """Text in lines of a console; paths stay whole.

    Args:
        indent: what the lines after the first begin with.
    """
    return textwrap.fill(
        text, 110, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _text(title: str, grid: str, notes: list[str]) -> str:
    head = f"{title}\n\n" if title else ""
    wrapped = [wrap(note, indent="  ") for note in notes]
    return head + grid + ("\n\n" + "\n".join(wrapped) if notes else "")


def _markdown(title: str, grid: str, notes: list[str]) -> str:
    head = f"### {title}\n\n" if title else ""
    lines = [f"- {note.replace('+-', '±')}" for note in notes]
    return head + grid + ("\n\n" + "\n".join(lines) if lines else "")


def _latex(title: str, grid: str, notes: list[str]) -> str:
    head = f"% {title}\n" if title else ""
    return head + _booktabs(grid) + "".join(f"\n% {note}" for note in notes)


def _booktabs(grid: str) -> str:
    """tabulate's raw LaTeX (cells are escaped here already) with the rules of booktabs."""
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        grid = grid.replace(r"\hline", rule, 1)
    return grid


_ESCAPES: dict[str, Callable[[str], str]] = {
    "text": str,
    "markdown": lambda text: text.replace("|", "\\|"),
    "latex": lambda text: text.translate(_LATEX_SPECIAL),
}
_FRAMES = {"text": _text, "markdown": _markdown, "latex": _latex}


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Named columns and rows as CSV; None is empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([columns, *rows])
    return out.getvalue()
