"""A run that is done, opened again: its settings, its tests, and its model on the same images."""

import argparse
import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import build_trainer
from dassl.utils import UserError, set_random_seed
from datasets.common import SUBSETS
from runs import command
from runs.config import REPOSITORY, check_name, check_trainer, default_cfg
from runs.folder import RunFolder, checkpoint_digest, read_metrics, read_settings
from runs.inputs import Inputs
from runs.jobs import learns
from runs.merging import Merging
from runs.results import read_results

BATCH_SIZE = 100  # of tests, in every configuration that was shipped before results told it
NEEDED = ("TRAINER.NAME", "MODEL.BACKBONE.NAME", "DATASET.NAME")  # in config.yaml


def add_flags(
    parser: argparse.ArgumentParser,
    run: str = "folder of a trained run, e.g. output/base2new/shapes/MoPD/embedded/shots_16/seed1",
    data: str = "folder of the datasets (default: data/ of the project)",
) -> None:
    """The flags that say which run is opened: --run, --load-epoch and --data.

    Args:
        run, data: what their help says.
    """
    add = parser.add_argument
    add("--run", type=command.path, required=True, metavar="RUN", help=run)
    epoch = "epoch to load (default: the one that was tested)"
    add("--load-epoch", type=command.count, metavar="EPOCH", help=epoch)
    add("--data", type=command.path, metavar="DATA", help=data)


@dataclass(frozen=True)
class TrainedRun:
    """A folder with the config.yaml of a run.

    A test on another dataset has one of its own, in the folder of the training.

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
            UserError: its config.yaml is not there, or not that of a run.
        """
        path = folder / "config.yaml"
        found = read_settings(path, "get it again")
        if found is None:
            raise UserError(f"{folder} is not the folder of a run, it has no config.yaml")
        if not all(isinstance(found.get(key), str) for key in NEEDED):
            raise UserError(f"{path} holds no settings of a run: get it again")
        return cls(folder, found)

    @classmethod
    def with_checkpoint(cls, folder: Path) -> "TrainedRun":
        """As `of`; the folder is that of a training.

        Raises:
            UserError: as said there, or it has no checkpoint.
        """
        if not _has_checkpoints(folder):
            raise UserError(
                f"{folder} is not the folder of a trained run, it has no checkpoint: give the "
                "folder of a method that learns, as output/base2new/shapes/MoPD/embedded/shots_16/"
                "seed1"
            )
        return cls.of(folder)

    @property
    def trainer(self) -> str:
        """Name of the method."""
        return self.settings["TRAINER.NAME"]

    @cached_property
    def learns(self) -> bool:
        """Whether the method learns anything.

        Raises:
            UserError: there is no such method.
        """
        check_trainer(self.trainer)
        return learns(self.trainer)

    @cached_property
    def results(self) -> dict[str, dict[str, Any]]:
        """The results of the tests that are done, by classes; not those on other datasets."""
        found = {one: read_results(self.folder / one / "results.json") for one in SUBSETS}
        return {one: results for one, results in found.items() if results}

    @property
    def epoch(self) -> int | None:
        """The epoch that the run has tested; None: the best on validation images."""
        if self.settings.get("TEST.FINAL_MODEL") == "best_val":
            return None
        tested = next(iter(self.results.values()), None)
        return tested["epoch"] if tested else self.settings.get("OPTIM.MAX_EPOCH")

    def wanted(self, epoch: int | None) -> int | None:
        """The epoch that is asked for, or else the tested one; None: the best."""
        return self.epoch if epoch is None else epoch

    @property
    def model(self) -> Path | None:
        """The folder of the training, which has the checkpoints; None where none are found."""
        folders = (self.folder, self.folder.parent)
        return next(filter(_has_checkpoints, folders), None)

    def others(self) -> list["TrainedRun"]:
        """The tests of the model on other datasets."""
        return [self.of(path.parent) for path in sorted(self.folder.glob("*/config.yaml"))]

    def epochs(self, last: int | None = None) -> list[dict[str, Any]]:
        """What metrics.jsonl says of the epochs of the training, up to the last that is wanted."""
        epochs = [one for one in read_metrics(self.folder) if one["split"] == "train"]
        return [one for one in epochs if last is None or one["epoch"] <= last]

    def cfg(
        self, results: Mapping[str, Any] | None = None, data: Path | str | None = None
    ) -> CfgNode:
        """The configuration with which a test would be done again.

        Args:
            results: of the test; None: that of the training.
            data: folder of the datasets; None: that of the project.

        Raises:
            UserError: settings that are not known.
        """
        cfg = stored_cfg(self.settings, self.folder)
        check_name(cfg.DATASET.NAME, sorted(DATASET_REGISTRY.registered_names()), "dataset")
        told = results or next(iter(self.results.values()), {})
        cfg.DATALOADER.TEST.BATCH_SIZE = told.get("test_batch_size", BATCH_SIZE)
        if results:  # else the classes of the training
            cfg.DATASET.SUBSAMPLE_CLASSES = results["classes"]
        cfg.DATASET.ROOT = str(data or REPOSITORY / "data")
        cfg.OUTPUT_DIR = str(self.folder)
        cfg.TEST.PREDICTIONS = True  # a test is done again to see more of it
        cfg.freeze()
        return cfg

    def open(
        self,
        results: Mapping[str, Any] | None = None,
        data: Path | str | None = None,
        epoch: int | None = None,
    ) -> Any:
        """A trainer with the weights of the run, in evaluation mode, before a test.

        Args:
            results: of the test whose images it reads; None: the training is meant.
            data: folder of the datasets; None: that of the project.
            epoch: of the checkpoint; None: the one that was tested.

        Raises:
            UserError, MethodError, DatasetError: data, weights or pool are gone or other ones.
        """
        cfg = self.cfg(results, data)
        folder = RunFolder(cfg, results is not None, "give the folder of its data with --data")
        check_files(self.folder, self.settings, folder.settings)
        if self.learns:
            epoch = self._tested(results) if results and epoch is None else self.wanted(epoch)
        with redirect_stdout(io.StringIO()):  # the run has said it all
            set_random_seed(cfg.SEED)
            trainer = build_trainer(cfg)
            if self.learns:
                trainer.load_model(str(self.model or self.folder), epoch=epoch)
            trainer.set_model_mode("eval")
        folder.check_inputs(results or {}, Inputs(cfg, trainer.dm.dataset, trains=results is None))
        return trainer

    def _tested(self, results: Mapping[str, Any]) -> int | None:
        """The epoch (None: the best one) of the checkpoint that results are of.

        Raises:
            UserError: it is not there any more.
        """
        for epoch in (results["epoch"], None):
            if self.model and checkpoint_digest(str(self.model), epoch) == results["checkpoint"]:
                return epoch
        raise UserError(
            f"{self.folder / results['classes']} is of a checkpoint ({results['checkpoint']}, "
            f"epoch {results['epoch']}) that is in neither {self.folder} nor {self.folder.parent}: "
            "get it back"
        )


def tested_again(path: Path, data: Path) -> Any:
    """The trainer after a test that gave the same answers as its results say.

    Args:
        path: results.json in the folder of a run.
        data: folder of the datasets.

    Raises:
        UserError: what the results were made with is not there any more, or differs, or other
            answers.
    """
    results = read_results(path)
    if results is None:
        raise UserError(f"there is no {path}: has the run finished?")
    folder = path.parent.parent  # where config.yaml is lost, results tell it, too
    run = TrainedRun(folder, results.get("settings") or TrainedRun.of(folder).settings)
    RunFolder(run.cfg(results, data), evaluate_only=True).check()  # refuses another precision, too
    trainer = run.open(results, data)
    with redirect_stdout(io.StringIO()):
        trainer.test()
    now = (trainer.evaluator.correct, trainer.evaluator.total)
    then = (results.get("correct"), results.get("total"))
    if now != then:
        raise UserError(
            f"{path} says that {then[0]} of {then[1]} images are right, but {now[0]} of {now[1]} "
            f"are now, on {trainer.device}: use the device and versions that it names ("
            f"{results.get('device')}, {results.get('versions')})"
        )
    return trainer


def stored_cfg(settings: Mapping[str, Any], folder: Path) -> CfgNode:
    """The configuration that the settings of a run tell; it can be changed.

    Args:
        settings: content of its config.yaml, or of an exported prompt's "settings".
        folder: where they stand, for messages.

    Raises:
        UserError: settings that are not known.
    """
    merging = Merging(cfg := default_cfg())
    for key, value in settings.items():
        if "." in key or key in merging.defaults:  # the others are digests
            merging.set(key, value, f"settings of {folder}")
    check_trainer(cfg.TRAINER.NAME)
    return cfg


def check_files(
    folder: Path, then: Mapping[str, Any], now: Mapping[str, Any], flag: str = ""
) -> None:
    """Refuse a backbone or pool that is not what it was.

    Args:
        folder: of the run, for the message.
        then: its settings.
        now: the same digests, as far as they are compared, and names of other files than then.
        flag: that names the file of the backbone, where there is one.

    Raises:
        UserError: naming the setting.
    """
    for digest, name in (("BACKBONE_DIGEST", "MODEL.BACKBONE.NAME"), ("POOL_DIGEST", "POOL")):
        if digest in now and then.get(digest) not in (None, now[digest]):
            named = {k: v for k, v in {**then, **now}.items() if f".{k}".endswith(f".{name}")}
            told = " ".join(f"{key} {value!r}" for key, value in named.items()) or name
            raise UserError(
                f"{folder}: {told} is another file now than the run was made with (digest "
                f"{then[digest]} then, {now[digest]} now): get the old one back"
                + (f", and name it with {flag}" if flag and "BACKBONE" in digest else "")
            )


def _has_checkpoints(folder: Path) -> bool:
    """Whether a folder is that of a training which has saved something."""
    return any(folder.glob("*/model*.pth.tar*"))
