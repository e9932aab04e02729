"""What a protocol is, and a job: one method on one dataset with one seed in one protocol.

Folder of a job: `<output>/<protocol>/<dataset>/<trainer>/<config>[-<tag>]/shots_<n>/seed<s>/`; a
test on another dataset has the folder `<dataset>/` in it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.errors import DatasetError
from datasets.own import run_name, split_name
from runs.config import REPOSITORY, check_name, dataset_cfg, methods, read_yaml
from runs.folder import read_results

CONFIGS = REPOSITORY / "configs"
# settings that an argument of the protocol gives
OWNED = {
    "SEED": "give it as SEED (--seed)",
    "OUTPUT_DIR": "use OUTPUT (--output) and TAG (--tag)",
    "PROTOCOL": "it is the name of the script",
    "CONFIG_LABEL": "it follows from CONFIG (--config) and TAG (--tag)",
    "TRAINER.NAME": "it follows from the script (--trainer)",
    "DATASET.NAME": "give it as DATASET (--dataset)",
    "DATASET.PATH": "give the dataset as folder:PATH or csv:PATH",
    "DATASET.SOURCE": "it is DATASET (--dataset)",
    "DATASET.ROOT": "use DATA (--data)",
    "DATASET.NUM_SHOTS": "give it as SHOTS (--shots)",
    "DATASET.SUBSAMPLE_CLASSES": "it tests {classes} classes",
    "TEST.NO_TEST": "it tests at the end",
}
# datasets for the small CLIP that comes with the repository
EMBEDDED = ("shapes", "digits", "shapes_blurred", "shapes_negative")
PAPER_DATASETS = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)


@dataclass(frozen=True)
class Protocol:
    """What is trained and what is tested.

    Attributes:
        classes: the class subsets of the training dataset that are tested; trained is the first.
        shots: the usual numbers of training images per class.
        targets: other datasets that are tested, by training dataset; None: there are none.
    """

    classes: tuple[str, ...]
    shots: tuple[int, ...] = (16,)
    targets: Mapping[str, tuple[str, ...]] | None = None


PROTOCOLS = {
    "base2new": Protocol(("base", "new")),
    "fewshot": Protocol(("all",), shots=(1, 2, 4, 8, 16)),
    "xd": Protocol(("all",), targets={"imagenet": PAPER_DATASETS[1:], "shapes": ("digits",)}),
    "dg": Protocol(
        ("all",),
        targets={
            "imagenet": ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
            "shapes": ("shapes_blurred", "shapes_negative"),
        },
    ),
}


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
        try:
            return all(read_results(evaluation.results) for evaluation in self.evaluations())
        except (ValueError, OSError):
            return False

    def found(self) -> list[dict[str, Any]]:
        """The results that are there, each with its folder as "run"."""
        found = []
        for evaluation in self.evaluations():
            try:
                results = read_results(evaluation.results)
            except (ValueError, OSError):  # damaged: not done, and the run says so
                continue
            if results:
                found.append({**results, "run": evaluation.folder})
        return found

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

    def command(self) -> list[str]:
        """Arguments of `python -m tools.protocol` for this job."""
        return [
            *(self.protocol, "--trainer", self.trainer, "--dataset", self.dataset),
            *("--seed", str(self.seed), "--shots", str(self.shots)),
            *("--data", str(self.data), "--output", str(self.output)),
            *("--targets", ",".join(self.targets), "--config", self.config, "--tag", self.tag),
            *("--", *self.opts),
        ]

    def check(self) -> None:
        """Refuse what the protocol cannot work with; nothing is read or written.

        Raises:
            UserError: saying what to write instead.
        """
        if self.seed < 0 or self.shots < 1:
            raise UserError(f"seed {self.seed}, shots {self.shots}: expected 0 or more, 1 or more")
        if len(self.opts) % 2:
            raise UserError(
                "KEY VALUE pairs must come in twos (and SHOTS is a whole number), but these are: "
                f"{' '.join(self.opts)}"
            )
        for key in self.opts[::2]:
            refuse_owned(key, self.protocol)
        check_tag(self.tag)
        self._check_targets()
        self.config_file()
        check_name(self.trainer, methods(), "trainer", "--trainer")

    def _check_targets(self) -> None:
        """Refuse no target, the source as its own target, and one twice."""
        usual = PROTOCOLS[self.protocol].targets
        if usual is None:
            if self.targets:
                raise UserError(f"{self.protocol} tests on {self.dataset} only: give no targets")
            return
        targets = [evaluation.dataset for evaluation in self.evaluations()[1:]]
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
            known = ", ".join(sorted(p.name for p in folder.parent.iterdir()))
            raise UserError(f'no configurations for trainer "{self.trainer}"; known: {known}')
        if not path.is_file():
            found = sorted(p.stem for p in folder.glob("*.yaml") if p.stem != "per_dataset")
            known = ", ".join(found)
            raise UserError(f'no configuration "{self.config_name}" in {folder}; known: {known}')
        return path


def learns(trainer: str) -> bool:
    """Whether a method is trained; one that does not say so is."""
    return getattr(methods().get(trainer), "learns", True)


def dataset_flags(dataset: str) -> tuple[str, ...]:
    """The flag of train.py for a stem under configs/datasets."""
    if split_name(dataset):
        return ()
    return ("--dataset-config-file", str(CONFIGS / "datasets" / f"{dataset}.yaml"))


def dataset_problem(dataset: str, data: Path) -> str:
    """Why a dataset cannot be read; empty if it can. Embedded ones are made if they are missing."""
    try:
        file = CONFIGS / "datasets" / f"{dataset}.yaml"
        name, path = split_name(dataset) or (read_yaml(file)["DATASET"]["NAME"], "")
        with redirect_stdout(io.StringIO()):
            build_dataset(dataset_cfg(name, path, data, shots=1))
    except (UserError, DatasetError, OSError) as error:
        return str(error)
    return ""


def dataset_pairs(dataset: str) -> tuple[str, ...]:
    """The KEY VALUE pair of train.py for folder:PATH or csv:PATH."""
    return ("DATASET.NAME", dataset) if split_name(dataset) else ()


def refuse_owned(key: str, protocol: str) -> None:
    """Refuse a setting that the protocol itself sets.

    Raises:
        UserError: saying what to use instead.
    """
    if key in OWNED:
        classes = " and ".join(PROTOCOLS[protocol].classes)
        raise UserError(f"{key} is set by the protocol: {OWNED[key].format(classes=classes)}")


def check_tag(tag: str) -> None:
    """Refuse a tag that cannot be part of a folder's name.

    Raises:
        UserError: as said.
    """
    if not re.fullmatch(r"[\w.+=-]*", tag):
        raise UserError(f'the tag is "{tag}", expected letters, digits and _ . + = - only')
