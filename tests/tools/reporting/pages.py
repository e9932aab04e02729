"""Reads a page as a browser does, and makes what it shows."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from runs.predictions import Predictions, write_predictions
from runs.results import identity

VOID = {"meta", "link", "img", "br", "hr", "input"}
SVG_ALONE = {"path", "use", "image", "rect", "g", "defs"}  # may be closed in themselves


@dataclass
class Table:
    """A table of a page: its caption, and the texts of all rows, the head first."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)


class Page(HTMLParser):
    """All elements with their attributes, the visible text, and the tables; refuses unclosed
    elements."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[Table] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self.tables[-1].rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        assert tag in SVG_ALONE, tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("style", "title"):
            return
        self.texts.append(data)
        if "caption" in self.open:
            self.tables[-1].caption += data
        elif self.tables and {"td", "th"} & set(self.open):
            self.tables[-1].rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, caption: str) -> list[dict[str, str]]:
        """Rows of the first table with a caption, by column."""
        found = next(table for table in self.tables if table.caption == caption)
        return [dict(zip(found.rows[0], row, strict=True)) for row in found.rows[1:]]

    @property
    def text(self) -> str:
        """All that is to be read, with single spaces."""
        return " ".join(" ".join(self.texts).split())


def keep_predictions(path: Path, data: Path, names: list[str], wrong: int = 3) -> None:
    """Write predictions beside a results.json: each class has five images, `wrong` of those of the
    first class are taken for the second; the images are drawn below `data`."""
    results = json.loads(path.read_text())
    C = len(names)
    label = np.repeat(np.arange(C), 5)
    top = np.stack([label, (label + 1) % C], axis=1)
    top[:wrong] = top[:wrong, ::-1]
    confidence = np.linspace(0.5, 0.99, len(label))
    files = [f"images/{c}_{i}.png" for c in range(C) for i in range(5)]
    (data / "images").mkdir(parents=True, exist_ok=True)
    for at, name in enumerate(files):
        Image.new("RGB", (200, 120), (at, 90, 200)).save(data / name)
    outputs = {"label": label, "top": top, "confidence": confidence, "nll": 1 - confidence}
    found = Predictions(outputs, files, names, None, "", identity(results))
    write_predictions(path.parent, found)


def keep_metrics(run: Path, epochs: int = 3, **more: object) -> None:
    """Write metrics.jsonl of a training."""
    lines = [
        {"epoch": at, "split": "train", "loss": 2 / at, "ce": 1 / at, "acc": 50 + at, "lr": 0.1}
        for at in range(1, epochs + 1)
    ]
    run.joinpath("metrics.jsonl").write_text(
        "".join(json.dumps(line | more) + "\n" for line in lines)
    )
