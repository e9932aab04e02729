"""A dataset that the tools know, for tests of the doctor."""

from __future__ import annotations

import json
from pathlib import Path

from dassl.data.datasets import DatasetBase, Datum
from datasets.errors import DatasetError
from datasets.splits import PARTS
from tools.data.checks import check


class Toy(DatasetBase):
    """Reads `split.json` as the readers of published datasets do."""

    dataset_dir = "toy"
    elsewhere: dict[str, tuple[str, ...]] = {}

    def __init__(self, cfg):
        folder = Path(cfg.DATASET.ROOT) / self.dataset_dir
        lists = json.loads((folder / "split_zhou_Toy.json").read_text())
        missing = [p for items in lists.values() for p, _, _ in items if not (folder / p).is_file()]
        if missing:
            raise DatasetError(f"{len(missing)} images are missing, {missing[0]} first")
        print("a reader that talks\nNote: it has notes")
        train, val, test = (
            [Datum(str(folder / path), label, classname=name) for path, label, name in lists[split]]
            for split in PARTS
        )
        super().__init__(train_x=train, val=val, test=test)


class ToyTestOnly(Toy):
    """The same images, for testing only."""

    test_only = True


def edit(folder: Path, change) -> None:
    """Change the split file."""
    path = folder / "split_zhou_Toy.json"
    lists = json.loads(path.read_text())
    change(lists)
    path.write_text(json.dumps(lists))


def problems(folder: Path, **options) -> list[tuple[str, str]]:
    report = check("toy", folder.parent, **options)
    return [(problem.what, problem.fix) for problem in report.problems]


def command(folder: Path) -> str:
    return f"python -m tools.prepare_data toy --data {folder.parent}"
