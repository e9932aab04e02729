"""One run in full: its training, what its tests say of classes and images, and its settings."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dassl.utils import UserError
from runs.config import REPOSITORY
from runs.folder import read_metrics
from runs.metrics import mistakes
from runs.predictions import Predictions, read_predictions
from tools.reporting.blocks import (
    Block,
    Folded,
    Grid,
    Images,
    Lack,
    Thumbnail,
    Words,
    command,
)
from tools.reporting.figures import confusion_figure, reliability_figure, training_figure
from tools.reporting.gate import gate_blocks
from tools.reporting.inline import picture, thumbnail
from tools.reporting.material import ShownRun
from tools.results.predictions import SECTIONS
from tools.results.summary import AVERAGE, Summary, Test
from tools.results.summary_tables import measure_name
from tools.results.table_format import Percent

MOST_CLASSES = 100  # rows of a table of classes
MOST_PAIRS = 10  # of classes that are confused
DATA = REPOSITORY / "data"  # the default of all commands
IMAGES, ALL_IMAGES = 12, 360  # of one test, and of the whole page
A_PAIR = 4  # images of a pair of classes


@dataclass(frozen=True)
class Details:
    """How runs are shown.

    Attributes:
        data: folder of the datasets.
        images: small images of one test.
    """

    data: Path
    images: int = IMAGES

    @property
    def flags(self) -> list[str]:
        """Flags of a command that reads the datasets."""
        return [] if self.data == DATA else ["--data", str(self.data)]

    def run(self, summary: Summary, run: ShownRun, opened: bool = False) -> Folded:
        """All that is known of a run."""
        records = read_metrics(run.folder)
        blocks: list[Block] = [Words(_which(run))]
        blocks += _training(run, records)
        for test in run.tests:
            blocks.append(self._test(test, opened))
        if gate := gate_blocks(run, records, self.images // 2, self.flags):
            blocks.append(Folded("Gate", gate, level=4, open=opened))
        where = f" on {run.home}" if len(summary.datasets) > 1 else ""
        return Folded(f"{run.row}{where}", blocks, _figures(summary, run), open=opened)

    def _test(self, test: Test, opened: bool) -> Folded:
        folder = test.folder / test.classes
        settings = test.found.get("settings") or {}
        which = "" if test.classes == "all" else f", {test.classes} classes"
        title = f"{test.dataset}{which}: classes, confusions, calibration"
        told = f"accuracy {test.accuracy:.2f}, {test.split} images"
        try:
            found = read_predictions(folder, test.found)
        except UserError as error:
            why = str(error).partition(": python -m ")[0]
            make = command("tools.predictions", "make", folder, *self.flags)
            blocks: list[Block] = [Lack(f"Not told: {why}.", make)]
        else:
            own = settings.get("DATASET.PATH")
            place = Path(own) if isinstance(own, str) and own else self.data
            blocks = [*_tables(folder, found), *self._examples(found, place)]
        return Folded(title, blocks, told, level=4, open=opened, columns=True)

    def _examples(self, found: Predictions, place: Path) -> list[Block]:
        """Images of the pairs that are confused most, the most confident first."""
        place = place if place.is_dir() else place.parent  # a table of own data
        pairs = SECTIONS["confusion"](found, max(self.images // A_PAIR, 1)).rows
        shown: list[Block] = []
        missing = 0
        wrong = mistakes(found.outputs, sys.maxsize)
        for true, taken, *_ in pairs:
            items = []
            for at in _of_pair(found, wrong, str(true), str(taken))[: min(A_PAIR, self.images)]:
                source = thumbnail(place / found.paths[at])
                confidence = 100 * float(found.outputs["confidence"][at])
                alt = f"Image of {true}, taken for {taken}"
                missing += not source
                items += [Thumbnail(source, alt, f"{confidence:.0f}% sure")] * bool(source)
            if items:
                shown.append(Images(f"{true}, taken for {taken}", items))
        if missing and not shown:
            return [Lack(f"No example images: they are not below {place}, see --data.")]
        return shown


def _of_pair(found: Predictions, wrong: np.ndarray, true: str, taken: str) -> list[int]:
    names, outputs = found.classnames, found.outputs
    return [
        int(at)
        for at in wrong
        if names[outputs["label"][at]] == true and names[outputs["top"][at, 0]] == taken
    ]


def _tables(folder: Path, found: Predictions) -> list[Block]:
    """Figures, classes, pairs and bins of one test."""
    classes = SECTIONS["classes"](found, sys.maxsize)
    hidden = len(classes.rows) - MOST_CLASSES
    classes.rows = classes.rows[:MOST_CLASSES]
    classes.title = "Accuracy of each class, the lowest first"
    pairs = SECTIONS["confusion"](found, MOST_PAIRS)
    pairs.title = "Pairs that are confused most"
    figures = SECTIONS["summary"](found, 0)
    figures.title = "Figures of this test"
    first = pairs.rows[0] if pairs.rows else None
    worst = f"; most often, {first[0]} is taken for {first[1]}" if first else ""
    more = command("tools.predictions", "show", folder, "classes", "--most", "0")
    return [
        Grid(figures),
        Grid(classes, bars=[3]),
        *([Lack(f"{hidden} more classes are not shown.", more)] if hidden > 0 else []),
        picture(
            confusion_figure(found),
            "Confusion matrix: of the images of each class (rows) the share that is taken for "
            f"each class (columns), in percent{worst}.",
        ),
        Grid(pairs),
        picture(
            reliability_figure(found.outputs),
            "Calibration: accuracy of images by confidence (the largest probability), 15 bins. "
            "Points below the dashed line: more confident than right.",
        ),
    ]


def _which(run: ShownRun) -> str:
    if run.seeds > 1:
        return f"Seed {run.seed}, one of {run.seeds}: {run.folder}"
    return f"Seed {run.seed}: {run.folder}"


def _training(run: ShownRun, records: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Curves of the training, or why there are none."""
    if not run.row.learns:
        return [Words("This method learns nothing: there are no training curves.")]
    figure = training_figure(records)
    if figure is None:
        return [Lack(f"No training curves: {run.folder / 'metrics.jsonl'} tells no epochs.")]
    return [picture(figure, f"Training of {run.row}, seed {run.seed}: loss and accuracy by epoch.")]


def _figures(summary: Summary, run: ShownRun) -> str:
    """The figures of the row over its seeds, as in the tables."""
    wide = bool(summary.source) and (run.row, AVERAGE) in summary.cells
    cell = summary.cells[run.row, AVERAGE if wide else run.home]
    shown = [
        f"{measure_name(measure)} {Percent(figure.mean, figure.spread).show('markdown')}"
        for measure, figure in cell.figures.items()
    ]
    return f"{AVERAGE} of the targets: " * wide + ", ".join(shown)
