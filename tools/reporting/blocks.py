"""What a page is made of. Each class is drawn by the macro of its name in templates/blocks.html."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.results.table_format import Item, Percent, Table


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    kind = "words"


@dataclass(frozen=True)
class Lack:
    """Why something is not there, and the command that makes it."""

    text: str
    command: str = ""
    kind = "lack"


@dataclass(frozen=True)
class Notes:
    """Lines below a table; `missing` are the many that say what some rows lack."""

    lines: Sequence[str]
    missing: Sequence[str] = ()
    kind = "notes"


@dataclass(frozen=True)
class Grid:
    """A table; its notes are shown elsewhere.

    Attributes:
        bars: columns whose percentages get a bar.
    """

    table: Table
    bars: Sequence[int] = ()
    kind = "grid"

    def text(self, item: Item) -> str:
        """What stands in a cell."""
        if item is None:
            return "-"
        return item.show("markdown") if isinstance(item, Percent) else str(item)

    def width(self, item: Item, column: int) -> str:
        """Length of the bar of a cell in percent; "" for none."""
        bar = column in self.bars and isinstance(item, Percent)
        return f"{item.mean:.1f}" if bar and isinstance(item, Percent) else ""


@dataclass(frozen=True)
class Picture:
    """A figure as inline SVG, see `tools.reporting.inline.svg`.

    Attributes:
        width: in CSS pixels.
    """

    svg: str
    caption: str
    width: int
    kind = "picture"


@dataclass(frozen=True)
class Thumbnail:
    """A small image.

    Attributes:
        source: a data address.
        alt: what it is, for who cannot see it.
        told: below it.
    """

    source: str
    alt: str
    told: str


@dataclass(frozen=True)
class Images:
    """Small images in a row."""

    title: str
    items: Sequence[Thumbnail]
    kind = "images"


@dataclass(frozen=True)
class Folded:
    """Blocks that are shown on a click.

    Attributes:
        level: of the title as a heading.
        told: shown beside the title.
        columns: blocks stand side by side where there is room.
    """

    title: str
    blocks: Sequence[Block]
    told: str = ""
    level: int = 3
    open: bool = False
    columns: bool = False
    kind = "folded"


Block = Words | Lack | Notes | Grid | Picture | Images | Folded


@dataclass
class Section:
    """A part of the page with a place in its table of contents."""

    title: str
    anchor: str
    blocks: list[Block] = field(default_factory=list)


def command(module: str, *words: str | Path) -> str:
    """A command line that can be pasted."""
    return shlex.join(["python", "-m", module, *map(str, words)])
