"""Trackers that get a run's settings, curves and results: Weights & Biases and MLflow.

They are fed with what metrics.jsonl and results.json get. A run folder has one run of each tracker,
whose id is in `<folder>/trackers.json`: a run that goes on, and the tests of its other classes and
datasets, continue it. What goes wrong in a tracker is said once, and the run goes on without it.
"""

import json
import math
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from runs.config import dataset_label
from runs.folder import RunFolder, read_settings
from runs.results import write_atomically

FILE = "trackers.json"
SETTINGS = ("seed", "shots", "epoch", "test_batch_size")  # of results, no figures


class Wandb:
    """A run of Weights & Biases; online or offline, as the environment says (WANDB_MODE)."""

    key, package = "LOG.WANDB", "wandb"
    # seconds without a network; an upload that is given up leaves its files
    environment = {"WANDB_INIT_TIMEOUT": "30", "WANDB_FINISH_TIMEOUT": "120"}

    def __init__(self, cfg: Any, run_id: str | None, about: Mapping[str, Any], folder: Path):
        import wandb

        # a run that the program itself has begun is left alone
        self._alone = wandb.run is None
        self._module = wandb
        self.id = run_id or secrets.token_hex(4)
        try:
            self._run = wandb.init(
                project=cfg.LOG.WANDB,
                id=self.id,
                resume="allow",
                reinit="create_new",
                name=about["name"],
                group=about["group"],
                config=dict(about["settings"]),
                dir=str(folder),
                settings=wandb.Settings(console="off", silent=True),
            )
        except BaseException:
            self._end_service()
            raise
        self.place = f"offline, in {folder / 'wandb'}"
        if not self._run.offline:
            self.place = self._run.url or "online"

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add to the curves; a step before the last one, of a run that was cut off, is known."""
        self._run.log(dict(values), step=step)

    def results(self, step: int, values: Mapping[str, float]) -> None:
        """Set figures of the whole run."""
        self._run.summary.update(dict(values))

    def close(self, sound: bool) -> None:
        """End the run, and all that its package has started in this process."""
        try:
            self._run.finish(exit_code=0 if sound else 1)
        finally:
            self._end_service()

    def _end_service(self) -> None:
        if self._alone:
            self._module.teardown()


class Mlflow:
    """A run of MLflow, where MLFLOW_TRACKING_URI says."""

    key, package = "LOG.MLFLOW", "mlflow"
    # its reports about itself leave a thread, and its patience would hold up a run
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    }

    def __init__(self, cfg: Any, run_id: str | None, about: Mapping[str, Any], folder: Path):
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        self._client = MlflowClient()
        self.id = run_id or ""
        if run_id:
            with suppress(Exception):  # of another place of tracking: it gets a new one
                self._client.update_run(run_id, status="RUNNING")
                return self._tell_place()
        found = self._client.get_experiment_by_name(cfg.LOG.MLFLOW)
        at = found.experiment_id if found else self._client.create_experiment(cfg.LOG.MLFLOW)
        tags = {"group": about["group"]}
        self.id = self._client.create_run(at, run_name=about["name"], tags=tags).info.run_id
        params = [Param(key, str(value)[:6000]) for key, value in about["settings"].items()]
        for start in range(0, len(params), 100):  # that it takes at a time
            self._client.log_batch(self.id, params=params[start : start + 100])
        self._tell_place()

    def _tell_place(self) -> None:
        from mlflow import get_tracking_uri

        self.place = f"{get_tracking_uri()}, run {self.id}"

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add to the curves."""
        now = int(1000 * time.time())
        metrics = [self._metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    results = record

    def close(self, sound: bool) -> None:
        """End the run."""
        self._client.set_terminated(self.id, "FINISHED" if sound else "FAILED")


KINDS = (Wandb, Mlflow)


class Followers:
    """The trackers of one run; `load` first, then the first record or results starts them.

    Args:
        folder: of the run.
        home: folder whose tracked run this one belongs to, itself or that of the training.
    """

    def __init__(self, folder: RunFolder, home: Path):
        self._folder, self._home = folder, home
        self._open: dict[Any, Any] = {}  # by class
        self._wanted: list[Any] = [kind for kind in KINDS if _value(folder.cfg, kind.key)]

    def load(self) -> None:
        """Load the packages, which takes seconds; one that is missing is said."""
        for kind in list(self._wanted):
            for name, value in kind.environment.items():
                os.environ.setdefault(name, value)
            if not self._try(kind, partial(import_module, kind.package)):
                self._wanted.remove(kind)

    def record(self, record: Mapping[str, Any]) -> None:
        """A record of metrics.jsonl."""
        values = {
            f"{record['split']}/{key}": value
            for key, value in _numbers(record).items()
            if key != "epoch"
        }
        self._each(lambda one: one.record(record["epoch"], values))

    def results(self, results: Mapping[str, Any]) -> None:
        """The content of results.json, below the name of the classes, or of another dataset."""
        own = self._folder.path == self._home
        test = results["classes"] if own else results["dataset"]
        values = {
            f"{test}/{key}": value
            for key, value in _numbers(results).items()
            if key not in SETTINGS
        }
        self._each(lambda one: one.results(results["epoch"], values))

    def close(self, sound: bool) -> None:
        """End all; `sound`: the run has ended as it should."""
        for kind in list(self._open):
            self._try(kind, partial(self._open.pop(kind).close, sound))

    def _each(self, call: Callable[[Any], object]) -> None:
        while self._wanted:
            first = self._wanted.pop(0)
            if not self._try(first, partial(self._start, first)):
                self._drop(first)
        for kind, one in list(self._open.items()):
            if not self._try(kind, partial(call, one)):
                self._drop(kind)

    def _drop(self, kind: Any) -> None:
        """End a tracker after a mistake, which is said already."""
        if dropped := self._open.pop(kind, None):
            with suppress(Exception):
                dropped.close(False)

    def _start(self, kind: Any) -> None:
        cfg, path = self._folder.cfg, self._home / FILE
        ids = _read(path)
        run_id = ids.get(kind.package)
        one = kind(cfg, run_id, _about(self._folder, self._home), self._home)
        self._open[kind] = one
        if one.id != run_id:
            write_atomically(path, json.dumps(ids | {kind.package: one.id}, indent=2) + "\n")
        print(f"{kind.package}: {cfg.LOG[kind.key.partition('.')[2]]} ({one.place})")

    @staticmethod
    def _try(kind: Any, call: Callable[[], object]) -> bool:
        """Call; what goes wrong is said, and is no error of the run, nor is what it draws."""
        state = random.getstate()
        try:
            call()
        except ModuleNotFoundError as error:
            name = (error.name or kind.package).partition(".")[0]
            print(f"Note: {kind.key} needs {name} (pip install {kind.package}): not tracked")
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            print(f"Note: {kind.package} gets nothing more of this run ({lines[0][:300]})")
        else:
            return True
        finally:  # what a first run of a process imports draws numbers, a later one does not
            random.setstate(state)
        return False


def untold(folder: RunFolder) -> list[str]:
    """Keys of the trackers that a run's settings name, and that know nothing of the run."""
    known = {**_read(folder.path.parent / FILE), **_read(folder.path / FILE)}
    return [k.key for k in KINDS if _value(folder.cfg, k.key) and k.package not in known]


@contextmanager
def following(folder: RunFolder, model_dir: str = "") -> Iterator[Followers]:
    """The trackers that a run's settings name; they are ended with the run.

    Args:
        folder: of the run.
        model_dir: folder of the tested model, for evaluation only.
    """
    trained = Path(model_dir) if model_dir else folder.path
    home = trained if folder.path.absolute().is_relative_to(trained.absolute()) else folder.path
    followers = Followers(folder, home)
    sound = False
    try:
        yield followers
        sound = True
    finally:
        followers.close(sound)


def _value(cfg: Any, key: str) -> str:
    return cfg.LOG[key.partition(".")[2]]


def _about(folder: RunFolder, home: Path) -> dict[str, Any]:
    """What a tracker is told of a run at its start: the same whichever of its tests goes on."""
    cfg = folder.cfg
    dataset = cfg.DATASET.SOURCE or dataset_label(cfg)
    parts = (cfg.PROTOCOL or "run", dataset, cfg.TRAINER.NAME, cfg.CONFIG_LABEL)
    group = f"{' '.join(filter(None, parts))} {cfg.DATASET.NUM_SHOTS} shots"
    place = {"PROTOCOL": cfg.PROTOCOL, "CONFIG_LABEL": cfg.CONFIG_LABEL, "OUTPUT_DIR": str(home)}
    settings = read_settings(home / "config.yaml") or folder.settings
    return {"name": f"{group} seed {cfg.SEED}", "group": group, "settings": {**settings, **place}}


def _numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """All finite numbers of a record, those in tables with the table's name before."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict) and key in ("seconds", "memory"):
            found |= _numbers(value, f"{prefix}{key}_")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found |= {f"{prefix}{key}": value} if -math.inf < value < math.inf else {}
    return found


def _read(path: Path) -> dict[str, str]:
    """Ids of a file; none where it cannot be read: then there are new ones."""
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return {key: value for key, value in found.items() if isinstance(value, str)}
    return {}
