"""Predictions as a table on the terminal, or a file: CSV, JSON or JSON lines."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dassl.utils import UserError
from runs.command import bounded
from runs.results import write_atomically

SHOWN = 20  # images on the terminal where a file has all of them, and that cannot be read


def table(found: dict[str, Any], most: int | None = None) -> str:
    """A row for each image, and below what the probabilities are over.

    Args:
        found: what `predict` returns.
        most: rows at most; None shows all.
    """
    rows = [
        [one["image"], *(f"{hit['class']} {100 * hit['probability']:.1f}%" for hit in one["top"])]
        for one in found["predictions"][:most]
    ]
    most_hits = max((len(row) - 1 for row in rows), default=0)
    headers = ["image", *(str(rank) for rank in range(1, most_hits + 1))]
    left = len(found["predictions"]) - len(rows)
    lines = [tabulate(rows, headers, disable_numparse=True)] if rows else []
    lines += [f"... and {left} more images"] if left else []
    return "\n".join([*lines, "", about(found)])


def about(found: dict[str, Any]) -> str:
    """What was used, in one line."""
    return (
        f"{found['method']} on {found['backbone']}, {len(found['classes'])} classes; "
        f"probabilities: softmax of cosines times the logit scale {found['logit_scale']:.4g}"
    )


def problems(found: dict[str, Any]) -> str:
    """The images that could not be read, a line for each of the first."""
    lines = [f"error: {one['image']}: {one['error']}" for one in found["unreadable"]]
    left = len(lines) - SHOWN
    if left > 0:
        lines[SHOWN:] = [f"error: {left} more images (--out FILE.json has all) cannot be read"]
    return bounded("\n".join(lines))


def as_csv(found: dict[str, Any]) -> str:
    """image, label, probability; label_2, probability_2 and so on for the next classes."""
    hits = max((len(one["top"]) for one in found["predictions"]), default=1)
    header = ["image", "label", "probability"]
    header += [f"{name}_{rank}" for rank in range(2, hits + 1) for name in header[1:3]]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for one in found["predictions"]:
        pairs = [(hit["class"], f"{hit['probability']:.6f}") for hit in one["top"]]
        writer.writerow([one["image"], *(value for pair in pairs for value in pair)])
    return text.getvalue()


def as_json(found: dict[str, Any]) -> str:
    """All that `predict` returns."""
    return json.dumps(found, indent=2) + "\n"


def as_json_lines(found: dict[str, Any]) -> str:
    """A line for each image, those that could not be read at the end."""
    lines = [*found["predictions"], *found["unreadable"]]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    ".csv": as_csv,
    ".json": as_json,
    ".jsonl": as_json_lines,
}


def check_out(path: Path) -> None:
    """Refuse a file that could not be written, before anything is computed.

    Raises:
        UserError: no known suffix, or it is a folder.
    """
    if path.suffix.lower() not in FORMATS or path.is_dir():
        raise UserError(f"--out is {path}, expected a file that ends in {', '.join(FORMATS)}")


def write(found: dict[str, Any], path: Path) -> None:
    """Write predictions to a file, complete or not at all; its suffix tells how."""
    text = FORMATS[path.suffix.lower()](found)
    write_atomically(path, text, other="another --out")
