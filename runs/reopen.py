"""A run that is done, opened again from its results.json: the same settings, images and model."""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.engine import build_trainer
from dassl.utils import UserError, set_random_seed
from runs.config import default_cfg
from runs.folder import RunFolder, checkpoint_digest
from runs.inputs import Inputs
from runs.merging import Merging
from runs.results import read_results

BATCH_SIZE = 100  # of tests, in every configuration that was shipped before results told it


def reopened(path: Path, data: Path) -> tuple[Any, dict[str, Any]]:
    """The trainer of a test with its model loaded, before the test, and the results.

    Args:
        path: results.json in the folder of a run.
        data: folder of the datasets.

    Raises:
        UserError: what the results were made with is not there any more, or differs.
    """
    results = read_results(path)
    if results is None:
        raise UserError(f"there is no {path}: has the run finished?")
    cfg = settings_of(path, results, data)
    folder = RunFolder(cfg, evaluate_only=True)
    folder.check()
    model, epoch = _checkpoint(path, results)
    with redirect_stdout(io.StringIO()):  # the run has said it
        set_random_seed(cfg.SEED)
        trainer = build_trainer(cfg)
        if model:
            trainer.load_model(model, epoch=epoch)
    folder.check_inputs(results, Inputs(cfg, trainer.dm.dataset, trains=False))
    return trainer, results


def tested_again(path: Path, data: Path) -> tuple[Any, dict[str, Any]]:
    """As `reopened`, after the test, which gave the same answers as the results say.

    Raises:
        UserError: as said there, or other answers.
    """
    trainer, results = reopened(path, data)
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
    return trainer, results


def settings_of(path: Path, results: dict[str, Any], data: Path) -> CfgNode:
    """The configuration with which a test would be done again.

    Raises:
        UserError: the results do not tell their settings, or have some that are not known.
    """
    settings = results.get("settings")
    if not settings:
        raise UserError(f"{path} does not tell its settings: it is of an older version")
    merging = Merging(cfg := default_cfg())
    for key, value in settings.items():
        if "." in key or key in merging.defaults:  # others are digests, which are compared
            merging.set(key, value, str(path))
    cfg.DATASET.ROOT = str(data)
    cfg.OUTPUT_DIR = str(path.parent.parent)
    cfg.TEST.PREDICTIONS = True  # what a test is done again for
    cfg.PROTOCOL = results.get("protocol") or ""
    cfg.CONFIG_LABEL = results.get("config") or ""
    cfg.DATALOADER.TEST.BATCH_SIZE = results.get("test_batch_size", BATCH_SIZE)
    cfg.freeze()
    return cfg


def _checkpoint(path: Path, results: dict[str, Any]) -> tuple[str, int | None]:
    """Folder and epoch (None: the best one) of the model of results; "" where nothing is learned.

    Raises:
        UserError: it is not there any more.
    """
    if results["checkpoint"] is None:
        return "", None
    run = path.parent.parent
    folders = (run, run.parent)  # the test of another dataset stands in the folder of the run
    for folder in folders:
        for epoch in (results["epoch"], None):
            if checkpoint_digest(str(folder), epoch) == results["checkpoint"]:
                return str(folder), epoch
    raise UserError(
        f"{path} is of a checkpoint ({results['checkpoint']}, epoch {results['epoch']}) that is in "
        f"neither {folders[0]} nor {folders[1]}: get it back"
    )
