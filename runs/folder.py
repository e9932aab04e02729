"""The folder of a run: its configuration, and results that are written last.

`<folder>/config.yaml` says what the run is; `<folder>/<classes>/results.json` is the only mark
that an evaluation is done. A run with other settings never continues in the folder.
"""

import fcntl
import hashlib
import json
import os
import platform
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import yaml
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError, mkdir_if_missing
from runs.claims import Claim
from runs.config import dataset_label
from runs.inputs import TRAINED_CONTENT_KEY, TRAINED_KEY, Inputs
from runs.merging import flatten
from runs.results import read_results, write_atomically
from trainers.exported import is_export, read_prompt
from trainers.yaml_files import load_written

# settings that change neither weights nor accuracies: where and how verbose
NEUTRAL_KEYS = (
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "USE_CUDA",  # the precision that follows from it is compared
    "VERSION",
    "PROTOCOL",
    "CONFIG_LABEL",
    "DATASET.ROOT",
    "DATALOADER.TEST.BATCH_SIZE",
    "DATALOADER.MEMORY_MB",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CUDA_GRAPH",  # no more than rounding on a GPU, as two runs on it may differ
    "TRAIN.CHECKPOINT_FREQ",
    "TEST.PER_CLASS_RESULT",
    "TEST.COMPUTE_CMAT",
    "TEST.PREDICTIONS",
    "CACHE.FEATURES",
    "CACHE.VIEWS",
    "CACHE.DIR",
    "CACHE.LIMIT_GB",
    "LOG.WANDB",
    "LOG.MLFLOW",
)
# said only where they have a value
OPTIONAL_KEYS = ("DATASET.PATH", "DATASET.SOURCE", "MODEL.COMPILE", "INPUT.DEVICE_AUGMENT")
# said only where they differ from how it was before there was a choice
USUAL = {"INPUT.RESIZE": "shortest"}
CLASSES_KEY = "DATASET.SUBSAMPLE_CLASSES"
ELSEWHERE = "another output folder (--output-dir, or OUTPUT or TAG for the scripts)"


def describe(cfg: CfgNode) -> dict[str, Any]:
    """What makes a run what it is: settings that matter, and digests of the files it uses.

    Knobs of other methods are left out; a trainer that does not tell its node keeps them all.
    """
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    own = f"TRAINER.{trainer.node()}." if hasattr(trainer, "node") else "TRAINER."
    settings = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in sorted(flatten(cfg).items())
        if key not in NEUTRAL_KEYS
        and (value or key not in OPTIONAL_KEYS)
        and value != USUAL.get(key)
        and (not key.startswith("TRAINER.") or key == "TRAINER.NAME" or key.startswith(own))
    }
    return settings | (trainer.fingerprint(cfg) if hasattr(trainer, "fingerprint") else {})


class FolderBusy(UserError):
    """Another process works in a folder."""


class RunFolder:
    """The folder `cfg.OUTPUT_DIR` and what a job may do with it.

    Attributes:
        path: the folder.
        settings: what the job is, see `describe`.

    Args:
        cfg: configuration of the job; a negative seed becomes that of the folder, or a drawn one.
        evaluate_only: the job tests a model that was trained before.
        advice: what to do where images are others than they were.
    """

    def __init__(
        self, cfg: CfgNode, evaluate_only: bool = False, advice: str = f"choose {ELSEWHERE}"
    ):
        self.cfg = cfg
        self.path = Path(cfg.OUTPUT_DIR)
        self.evaluate_only, self.advice = evaluate_only, advice
        if cfg.SEED < 0:  # an unseeded run that is cut off must go on with the same images
            stored = read_settings(self.path / "config.yaml") or {}
            cfg.defrost()
            cfg.SEED = stored.get("SEED", random.SystemRandom().randrange(2**31))
            cfg.freeze()
        self.settings = describe(cfg)

    @property
    def hash(self) -> str:
        """Twelve hex digits of the settings; all seeds, and base and new classes, share it."""
        return settings_hash(self.settings)

    @property
    def results_path(self) -> Path:
        """Where the results of the job stand: `<folder>/<base|new|all>/results.json`."""
        return self.path / self.cfg.DATASET.SUBSAMPLE_CLASSES / "results.json"

    def check(self) -> None:
        """Refuse a folder, or a --resume folder, that holds a run with other settings.

        Raises:
            UserError: naming each key that differs, with both values.
        """
        for folder in filter(None, (self.path, self.cfg.RESUME and Path(self.cfg.RESUME))):
            found = read_settings(folder / "config.yaml")
            if found is None and folder == self.path:  # config.yaml is lost: results tell it, too
                found = (read_results(self.results_path) or {}).get("settings")
            if found is None:
                continue
            # a test may be on other classes than the training was
            ignored = {TRAINED_KEY, TRAINED_CONTENT_KEY}
            ignored |= {CLASSES_KEY} if self.evaluate_only else set()
            differ = [
                f"{key} is {found.get(key)!r} there, {self.settings.get(key)!r} here"
                for key in sorted(found.keys() | self.settings.keys())
                if found.get(key) != self.settings.get(key) and key not in ignored
            ]
            if differ:
                raise UserError(
                    f"{folder} holds a run with other settings: {'; '.join(differ)}. Choose the "
                    f"same settings, or {ELSEWHERE}"
                )

    def claim(self, dataset: Any) -> dict[str, Any]:
        """Write `config.yaml`, unless it is there: from now on the folder is this run's.

        Args:
            dataset: the lists of the run.

        Returns:
            The digests of what the run reads, for its results.

        Raises:
            UserError: a training that was cut off would go on with other images or labels.
        """
        inputs = Inputs(self.cfg, dataset, not self.evaluate_only)
        for folder in dict.fromkeys((self.path, Path(self.cfg.RESUME or self.path))):
            self._check_trained(folder, inputs)
        inputs.keep()
        path = self.path / "config.yaml"
        if not path.is_file():
            content = self.settings | inputs.trained
            write_atomically(path, yaml.safe_dump(content, sort_keys=True))
        return inputs.tested

    def check_inputs(self, results: Mapping[str, Any], inputs: Inputs | None) -> None:
        """Refuse results of other images, or of a training on others, than there are now.

        Args:
            results: of this job.
            inputs: of this job now; None, where the data is not, refuses nothing.

        Raises:
            UserError: saying which images, and what to do.
        """
        if inputs is None:
            return
        content = results.get("content") or {}
        if inputs.test.differs(results.get("data"), content.get("test")):
            raise UserError(
                f"{self.results_path} was measured on other images or labels than "
                f"{dataset_label(self.cfg)} has now{inputs.test.what()}: {self.advice}"
            )
        self._check_trained(self.path, inputs, content.get("train"))
        inputs.keep()

    def _check_trained(self, folder: Path, inputs: Inputs, content: str | None = None) -> None:
        """Refuse a run that was trained on other images or labels than there are now."""
        found = read_settings(folder / "config.yaml") or {}
        train, content = inputs.train, found.get(TRAINED_CONTENT_KEY) or content
        if train and train.differs(found.get(TRAINED_KEY), content):
            raise UserError(
                f"{folder} holds a run that was trained on other images or labels than "
                f"{dataset_label(self.cfg)} has now{train.what()}: {self.advice}"
            )

    def lock(self) -> AbstractContextManager[None]:
        """Keep other processes out of the folder, see `lock_folder`."""
        claim = Claim.current
        if claim is not None and claim.number > 1:  # who had the job before may sleep with its lock
            mkdir_if_missing(str(self.path))
            return nullcontext()
        return lock_folder(self.path, ELSEWHERE)

    def find_results(self, checkpoint: str | None) -> dict[str, Any] | None:
        """Results of this job, or None where there are none yet.

        Args:
            checkpoint: with evaluation only, digest of the checkpoint that is to be tested.

        Raises:
            UserError: the file is damaged, or its results are of another checkpoint.
        """
        results = read_results(self.results_path)
        if results and self.evaluate_only and results["checkpoint"] != checkpoint:
            raise UserError(
                f"{self.results_path} holds the results of another checkpoint (of epoch "
                f"{results['epoch']}): choose another --output-dir for this one"
            )
        return results

    def results(self, measured: dict[str, Any]) -> dict[str, Any]:
        """The content of `results.json`.

        Args:
            measured: source (dataset of the training, None where nothing is learned), data and
                content (see `Inputs.tested`), accuracy and macro_f1 in percent, the figures of
                `runs.metrics`, total, correct, num_classes, classnames (C, in the order of the
                labels), epoch, checkpoint (digest), device, memory (see `peak_memory`), seconds (a
                dict of train and total).
        """
        cfg = self.cfg
        return {
            "protocol": cfg.PROTOCOL,
            "dataset": dataset_label(cfg),
            "classes": cfg.DATASET.SUBSAMPLE_CLASSES,
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "trainer": cfg.TRAINER.NAME,
            "config": cfg.CONFIG_LABEL,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "config_hash": self.hash,
            **measured,
            "precision": self.settings.get("PRECISION"),
            "test_batch_size": cfg.DATALOADER.TEST.BATCH_SIZE,
            "settings": self.settings,
            "versions": versions(),
        }

    def write_results(self, results: dict[str, Any]) -> None:
        """Write `results.json`, complete or not at all; nothing is written after it."""
        write_atomically(self.results_path, json.dumps(results, indent=2) + "\n")

    def trained_seconds(self) -> float:
        """Seconds of training over all sittings, from metrics.jsonl; 0 for evaluation only."""
        records = [] if self.evaluate_only else read_metrics(self.path)
        seconds = (record.get("seconds") for record in records)
        return sum((one for one in seconds if isinstance(one, int | float)), 0.0)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run's metrics.jsonl: each has an epoch and a split, train, val or test."""
    path, records = folder / "metrics.jsonl", []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        with suppress(ValueError, RecursionError):  # torn by a kill; the engine drops it on resume
            records.append(json.loads(line))
    told = [record for record in records if isinstance(record, dict)]
    return [
        record
        for record in told
        if isinstance(record.get("epoch"), int) and isinstance(record.get("split"), str)
    ]


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Twelve hex digits of what a run is, see `RunFolder.hash`, from what config.yaml tells."""
    left_out = (CLASSES_KEY, "SEED", TRAINED_KEY, TRAINED_CONTENT_KEY)
    kept = {key: value for key, value in settings.items() if key not in left_out}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide about figures."""
    names = ("torch", "torchvision", "numpy", "pillow")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


@contextmanager
def lock_folder(path: Path, elsewhere: str) -> Iterator[None]:
    """Keep other processes out of a folder; the lock ends with the process.

    Args:
        path: the folder, made if it is not there.
        elsewhere: what else the user can choose, for the message.

    Raises:
        FolderBusy: another process works there.
        UserError: the folder cannot be made.
    """
    mkdir_if_missing(str(path))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not try_lock(descriptor, fcntl.LOCK_EX):
            raise FolderBusy(f"another process works in {path}: wait for it, or choose {elsewhere}")
        yield
    finally:
        os.close(descriptor)


def try_lock(file: int | IO[bytes], kind: int) -> bool:
    """Lock a file or folder, as long as it is open; False where another process has it locked.

    A file system that has no locks (some network ones) cannot tell: there nothing is locked.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # the latter where locks go through NFS
        return False
    except OSError as error:
        _tell_no_locks(str(error.strerror))
    return True


@cache
def _tell_no_locks(why: str) -> None:
    print(f"Note: files cannot be locked here ({why}): start nothing twice", file=sys.stderr)


def checkpoint_digest(folder: str, epoch: int | None) -> str | None:
    """Twelve hex digits of the checkpoints of an epoch (None: the best) below a run's folder.

    Those of an exported prompt are those of the run that it comes from.
    """
    if is_export(folder):
        return read_prompt(folder)["checkpoint"]
    name = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
    paths = sorted(Path(folder).glob(f"*/{name}")) if folder else []
    if not paths:
        return None
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths))
    return digest.hexdigest()[:12]


def read_settings(path: Path, advice: str = "use another --output-dir") -> dict[str, Any] | None:
    """Settings of a run, or None where there is none.

    Args:
        path: config.yaml.
        advice: what to do where it cannot be read.

    Raises:
        UserError: it cannot be read, or no run writes it.
    """
    if not path.is_file():
        return None
    try:
        found = load_written(path, UserError)
    except UserError as error:
        raise UserError(f"{path} cannot be read; {advice} ({error})") from None
    sound = isinstance(found, dict) and all(isinstance(key, str) for key in found)
    if not sound or type(found.get("SEED", 0)) is not int:
        raise UserError(f"{path} cannot be read; {advice}")
    return found
