"""A run that was trained, opened again: for tools that look at what it has learned."""

import argparse
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.engine import build_trainer
from dassl.utils import UserError
from runs import command
from runs.config import CONFIGS, build_parser, dataset_label, default_cfg, setup_cfg
from runs.folder import describe
from runs.inputs import TRAINED_CONTENT_KEY, TRAINED_KEY, Inputs
from runs.merging import flatten, read_yaml
from runs.results import read_results
from runs.settings import ReadFlag

CLASSES = ("base", "all", "new")  # folders of results, in the order in which they are shown

NEEDED = ("TRAINER.NAME", "MODEL.BACKBONE.NAME", "DATASET.NAME")  # in config.yaml


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say which run is opened: --run, --load-epoch and --data."""
    add = parser.add_argument
    run = "folder of a trained run, e.g. output/base2new/shapes/MoPD/embedded/shots_16/seed1"
    add("--run", type=command.path, required=True, metavar="RUN", help=run)
    epoch = "epoch to load (default: the one that the run has tested)"
    add("--load-epoch", action=ReadFlag, metavar="EPOCH", help=epoch)
    data = "folder of the datasets (default: data/ of the project)"
    add("--data", type=command.path_text, default="", metavar="FOLDER", help=data)


@dataclass(frozen=True)
class Tested:
    """A test of a run that is done: the folder that has its config.yaml, and its results."""

    folder: Path
    results: dict[str, Any]


@dataclass(frozen=True)
class TrainedRun:
    """A folder of a training.

    Attributes:
        folder: of the run.
        settings: content of its config.yaml.
    """

    folder: Path
    settings: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> "TrainedRun":
        """The run in a folder.

        Raises:
            UserError: it is not the folder of a trained run.
        """
        if not (folder / "prompt_learner").is_dir():
            raise UserError(
                f"{folder} is not the folder of a trained run, it has no prompt_learner/: give the "
                "folder of a method that learns, as output/base2new/shapes/MoPD/embedded/shots_16/"
                "seed1"
            )
        return cls(folder, _settings(folder))

    @property
    def trainer(self) -> str:
        """Name of the method."""
        return self.settings["TRAINER.NAME"]

    @property
    def epoch(self) -> int | None:
        """The epoch that the run has tested; None: the best on validation images."""
        best = self.settings.get("TEST.FINAL_MODEL") == "best_val"
        return None if best else self.settings.get("OPTIM.MAX_EPOCH")

    def tests(self) -> list[Tested]:
        """What was tested: classes of the dataset of the training, then other datasets."""
        others = sorted(path.parent for path in self.folder.glob("*/config.yaml"))
        return [test for folder in (self.folder, *others) for test in _tests(folder)]

    def open(
        self, classes: str, test: Tested | None = None, data: str = "", epoch: int | None = None
    ) -> Any:
        """A trainer with the weights of the run, in evaluation mode.

        Args:
            classes: all, base or new.
            test: whose dataset is read; None: that of the training.
            data: folder of the datasets; empty: that of the project.
            epoch: of the checkpoint; None: the one that the run has tested.

        Raises:
            UserError, MethodError, DatasetError: data, weights or pool are gone or other ones.
        """
        cfg = self.cfg(classes, test, data)
        with redirect_stdout(io.StringIO()):  # the run has said it all
            trainer = build_trainer(cfg)
            trainer.load_model(str(self.folder), self.epoch if epoch is None else epoch)
        trainer.set_model_mode("eval")
        self._check_images(trainer, test)
        return trainer

    def cfg(self, classes: str, test: Tested | None = None, data: str = "") -> CfgNode:
        """The configuration of a test of the run; arguments and mistakes as of `open`."""
        folder = test.folder if test else self.folder
        settings = self.settings if folder == self.folder else _settings(folder)
        # a value may begin with a minus
        flags = [f"--root={data}", f"--output-dir={folder}", f"--model-dir={self.folder}"]
        args = build_parser().parse_args(["--eval-only", *flags, *self._config_file()])
        known = flatten(default_cfg())
        pairs = {key: value for key, value in settings.items() if key in known}
        pairs["DATASET.SUBSAMPLE_CLASSES"] = classes
        args.opts = [word for pair in pairs.items() for word in pair]
        with redirect_stdout(io.StringIO()):
            cfg = setup_cfg(args)
        check_files(folder, settings, describe(cfg))
        return cfg

    def epochs(self, last: int | None = None) -> list[dict[str, Any]]:
        """What metrics.jsonl says of the epochs of the training, up to the last that is wanted."""
        path, records = self.folder / "metrics.jsonl", []
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        for line in text.splitlines():
            with suppress(ValueError, TypeError, LookupError, RecursionError):  # torn by a kill
                record = json.loads(line)
                if record["split"] == "train" and (last is None or record["epoch"] <= last):
                    records.append(record)
        return records

    def _config_file(self) -> tuple[str, ...]:
        """The flag for the file of the method's settings, where the results name one.

        It has what changes no result and is not in config.yaml, such as the size of test batches,
        by which features are found in the cache.
        """
        label = next((test.results.get("config") for test in self.tests()), None) or ""
        files = sorted((CONFIGS / "trainers" / self.trainer).glob("*.yaml"), reverse=True)
        for path in files:
            if label == path.stem or label.startswith(f"{path.stem}-"):
                return (f"--config-file={path}",)
        return ()

    def _check_images(self, trainer: Any, test: Tested | None) -> None:
        """Refuse other images than those that the run was trained or tested on."""
        inputs = Inputs(trainer.cfg, trainer.dm.dataset, trains=test is None)
        if inputs.train is not None:
            names, content = map(self.settings.get, (TRAINED_KEY, TRAINED_CONTENT_KEY))
            listing, done = inputs.train, "trained"
        else:
            results = test.results if test else {}
            names, content = results.get("data"), (results.get("content") or {}).get("test")
            listing, done = inputs.test, "tested"
        if listing.differs(names, content):
            raise UserError(
                f"{test.folder if test else self.folder} was {done} on other images or labels than "
                f"{dataset_label(trainer.cfg)} has now{listing.what()}: give the folder of its "
                "data with --data"
            )
        inputs.keep()


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    found = read_yaml(path)
    sound = isinstance(found, dict) and all(isinstance(key, str) for key in found)
    if not sound or not all(isinstance(found.get(key), str) for key in NEEDED):
        raise UserError(f"{path} holds no settings of a run: get it again")
    return found


def _tests(folder: Path) -> Iterator[Tested]:
    for classes in CLASSES:
        if results := read_results(folder / classes / "results.json"):
            yield Tested(folder, results)


def check_files(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse a backbone or pool that is not what it was.

    Args:
        folder: of the run, for the message.
        then: its settings.
        now: the same digests, as far as they are compared.

    Raises:
        UserError: naming the setting.
    """
    names = {"BACKBONE_DIGEST": "MODEL.BACKBONE.NAME", "POOL_DIGEST": "POOL"}
    for digest, name in names.items():
        if digest in now and then.get(digest) not in (None, now[digest]):
            named = [key for key in then if key == name or key.endswith(f".{name}")]
            told = f"{named[0]} {then[named[0]]!r}" if named else name
            raise UserError(
                f"{folder}: {told} is another file now than the run was made with: "
                "get the old one back"
            )
