"""A job: one method on one dataset with one seed in one protocol.

Folder of a job: `<output>/<protocol>/<dataset>/<trainer>/<config>[-<tag>]/shots_<n>/seed<s>/`; a
test on another dataset has the folder `<dataset>/` in it.
"""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.errors import DatasetError
from datasets.own import run_name, split_name
from runs.config import CONFIGS, check_name, check_trainer, dataset_cfg, methods
from runs.merging import read_yaml
from runs.protocols import EMBEDDED, PROTOCOLS, check_tag, refuse_owned
from runs.results import readable_results
from runs.settings import MOST_SEED
from trainers.errors import meant, shorten


@dataclass(frozen=True)
class Evaluation:
    """One test of a job: a dataset (stem, or folder:PATH), its classes, and where results go."""

    dataset: str
    classes: str
    folder: Path

    @property
    def results(self) -> Path:
        """The file that says that it is done."""
        return self.folder / self.classes / "results.json"


@dataclass(frozen=True)
class Job:
    """One method on one dataset with one seed in one protocol.

    Attributes:
        dataset: stem of a file under configs/datasets, or folder:PATH or csv:PATH.
        shots: training images per class.
        targets: datasets to test on instead of the protocol's usual ones (xd, dg).
        config: stem under configs/trainers/<trainer>; empty: the one for the dataset.
        tag: name of a variant, part of the folder.
        opts: KEY VALUE pairs.
    """

    protocol: str
    trainer: str
    dataset: str
    seed: int
    shots: int
    data: Path
    output: Path
    targets: tuple[str, ...] = ()
    config: str = ""
    tag: str = ""
    opts: tuple[str, ...] = field(default=())

    @property
    def config_name(self) -> str:
        """Stem of the trainer's configuration file."""
        return self.config or ("embedded" if self.dataset in EMBEDDED else "vit_b16")

    @property
    def config_label(self) -> str:
        """The configuration as it stands in folders and tables: `<config>[-<tag>]`."""
        return f"{self.config_name}-{self.tag}" if self.tag else self.config_name

    @property
    def name(self) -> str:
        """The job in words, for messages."""
        method = f"{self.trainer} {self.config_label}, shots {self.shots}, seed {self.seed}"
        return f"{self.protocol} {self.dataset} {method}"

    @property
    def learns(self) -> bool:
        """Whether the method is trained at all."""
        return learns(self.trainer)

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        parts = (self.protocol, run_name(self.dataset), self.trainer, self.config_label)
        return self.output.joinpath(*parts, f"shots_{self.shots}", f"seed{self.seed}")

    def evaluations(self) -> list[Evaluation]:
        """All tests of the job; the first one ends the training."""
        protocol = PROTOCOLS[self.protocol]
        targets = self.targets or (protocol.targets or {}).get(self.dataset, ())
        return [
            *(Evaluation(self.dataset, classes, self.folder) for classes in protocol.classes),
            *(Evaluation(target, "all", self.folder / run_name(target)) for target in targets),
        ]

    def done(self) -> bool:
        """Whether all results are there and can be read."""
        return all(readable_results(evaluation.results) for evaluation in self.evaluations())

    def found(self) -> list[dict[str, Any]]:
        """The results that are there, each with its folder as "run"."""
        return [
            {**results, "run": evaluation.folder}
            for evaluation in self.evaluations()
            if (results := readable_results(evaluation.results))
        ]

    def arguments(self, evaluation: Evaluation, source: str = "") -> list[str]:
        """Arguments of train.py, without what says train or test.

        Args:
            evaluation: one of `evaluations`.
            source: label of the dataset of the training, for a test on another one.
        """
        return [
            *("--root", str(self.data)),
            *("--seed", str(self.seed)),
            *("--trainer", self.trainer),
            *dataset_flags(evaluation.dataset),
            *("--config-file", str(self.config_file())),
            *("--output-dir", str(evaluation.folder)),
            *self.opts,
            *dataset_pairs(evaluation.dataset),
            *("PROTOCOL", self.protocol),
            *("CONFIG_LABEL", self.config_label),
            *("DATASET.NUM_SHOTS", str(self.shots)),
            *("DATASET.SUBSAMPLE_CLASSES", evaluation.classes),
            *(("DATASET.SOURCE", source) if source else ()),
        ]

    def check(self) -> None:
        """Refuse what the protocol cannot work with; nothing is read or written.

        Raises:
            UserError: saying what to write instead.
        """
        if not 0 <= self.seed <= MOST_SEED or self.shots < 1:
            found = f"seed {self.seed}, shots {self.shots}"
            raise UserError(f"{found}: expected a seed from 0 to {MOST_SEED}, and shots from 1")
        if len(self.opts) % 2:
            raise UserError(
                "KEY VALUE pairs must come in twos (and SHOTS is a whole number), but these are: "
                f"{shorten(' '.join(self.opts), 400)}"
            )
        for key in self.opts[::2]:
            refuse_owned(key, self.protocol)
        check_tag(self.tag)
        self._check_targets()
        for name in dict.fromkeys((self.dataset, *self.targets)):
            if not split_name(name):
                check_name(name, dataset_names(), "dataset")
        self.config_file()
        check_trainer(self.trainer)

    def _check_targets(self) -> None:
        """Refuse no target, the source as its own target, and one twice."""
        usual = PROTOCOLS[self.protocol].targets
        if usual is None:
            if self.targets:
                raise UserError(f"{self.protocol} tests on {self.dataset} only: give no targets")
            return
        targets = [evaluation.dataset for evaluation in self.evaluations()[1:]]
        for target in targets:
            if "," in target or target != target.strip():  # --targets could not name it
                raise UserError(f'the target "{target}" has a comma or outer blanks: rename it')
        if not targets:
            raise UserError(
                f"{self.protocol} has no usual targets for {self.dataset} (only for "
                f"{' and '.join(usual)}): name them in TARGETS (--targets), as in digits,shapes"
            )
        if self.dataset in targets:
            raise UserError(f"{self.dataset} is trained on, and cannot be a target as well")
        twice = sorted({target for target in targets if targets.count(target) > 1})
        if twice:
            raise UserError(f"the target {twice[0]} is given twice")

    def config_file(self) -> Path:
        """The trainer's configuration file.

        Raises:
            UserError: no such trainer or configuration, with those that exist.
        """
        folder = CONFIGS / "trainers" / self.trainer
        path = folder / f"{self.config_name}.yaml"
        if not folder.is_dir():
            names = sorted(p.name for p in folder.parent.iterdir())
            raise UserError(
                f'no configurations for trainer "{shorten(self.trainer)}"'
                f"{meant(self.trainer, names) or '.'} Known: {', '.join(names)}"
            )
        if not path.is_file():
            names = sorted(p.stem for p in folder.glob("*.yaml") if p.stem != "per_dataset")
            raise UserError(
                f'no configuration "{shorten(self.config_name)}" in {folder}'
                f"{meant(self.config_name, names) or '.'} Known: {', '.join(names)}"
            )
        return path


def learns(trainer: str) -> bool:
    """Whether a method is trained; one that does not say so is."""
    return getattr(methods().get(trainer), "learns", True)


def dataset_names() -> list[str]:
    """The stems of configs/datasets."""
    return sorted(path.stem for path in (CONFIGS / "datasets").glob("*.yaml"))


def dataset_flags(dataset: str) -> tuple[str, ...]:
    """The flag of train.py for a stem under configs/datasets."""
    if split_name(dataset):
        return ()
    return ("--dataset-config-file", str(CONFIGS / "datasets" / f"{dataset}.yaml"))


def dataset_problem(dataset: str, data: Path) -> str:
    """Why a dataset cannot be read; empty if it can. Embedded ones are made if they are missing."""
    try:
        with redirect_stdout(io.StringIO()):
            build_dataset(dataset_cfg(*reader_of(dataset), data, shots=1))
    except (UserError, DatasetError, OSError) as error:
        return str(error)
    return ""


def reader_of(dataset: str) -> tuple[str, str]:
    """Registry name of a dataset of the command line, and the path of your own data, else ""."""
    file = CONFIGS / "datasets" / f"{dataset}.yaml"
    return split_name(dataset) or (read_yaml(file)["DATASET"]["NAME"], "")


def dataset_pairs(dataset: str) -> tuple[str, ...]:
    """The KEY VALUE pair of train.py for folder:PATH or csv:PATH."""
    return ("DATASET.NAME", dataset) if split_name(dataset) else ()
