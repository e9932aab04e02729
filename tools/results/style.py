"""Looks that figures share, and how they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dassl.utils import UserError, atomic_open
from runs.results import writing

if TYPE_CHECKING:  # matplotlib takes a second to import, and not every call needs it
    from matplotlib.figure import Figure

# the colours of Okabe and Ito, which colour-blind people tell apart, from dark to light
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX"
LINES = ("-", "--", "-.", ":")
GREY = "#4D4D4D"
HEAT = "cividis"  # of heat maps: the same order in grey and for colour-blind people
HOLLOW = " (hollow: seeds are missing)"
STYLE: Any = {  # keys of matplotlib.rcParams
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "svg.hashsalt": "mopd",  # ids in SVG files are random without it
    "text.parse_math": False,  # names may have dollars
}
FORMATS: dict[str, dict[str, Any]] = {  # no dates and versions: same results, same bytes
    "png": {"dpi": 150, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
}


def short(text: str, longest: int) -> str:
    """A name with so many characters at most."""
    return text if len(text) <= longest else f"{text[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


@contextmanager
def drawing() -> Iterator[None]:
    """Figures that are made inside look as all do.

    Raises:
        UserError: there is no matplotlib.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError("plots need matplotlib: pip install -r requirements.txt") from error
    with matplotlib.rc_context(STYLE):
        yield


def save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write a figure in all formats.

    Args:
        out: the folder.
        name: of the files; what no file system likes is replaced.
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    paths = []
    for suffix, options in FORMATS.items():
        path = out / f"{stem}.{suffix}"
        with writing(path, "another --out"), atomic_open(path, "wb") as file:
            figure.savefig(file, format=suffix, **options)
        paths.append(path)
    return paths
