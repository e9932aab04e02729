"""Run a whole protocol for one method, dataset and seed; what is done already is not done again.

    python -m tools.protocol base2new --trainer MoPD --dataset shapes --seed 1 [-- KEY VALUE ...]

The scripts under `scripts/` call this. Folder of a run:
`<output>/<protocol>/<dataset>/<trainer>/<config>/shots_<n>/seed<s>/`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from tools.config import REPOSITORY, check_name
from tools.tables import base2new_table, find_results

CONFIGS = REPOSITORY / "configs"
# settings that an argument of the protocol gives
OWNED = {
    "SEED": "give it as SEED (--seed)",
    "OUTPUT_DIR": "use OUTPUT (--output) and TAG (--tag)",
    "PROTOCOL": "it is the name of the script",
    "TRAINER.NAME": "it follows from the script (--trainer)",
    "DATASET.NAME": "give it as DATASET (--dataset)",
    "DATASET.ROOT": "use DATA (--data)",
    "DATASET.NUM_SHOTS": "give it as SHOTS (--shots)",
    "DATASET.SUBSAMPLE_CLASSES": "it tests base and new classes",
    "TEST.NO_TEST": "it tests at the end",
}
EMBEDDED = ("shapes", "digits")  # datasets for the small CLIP that comes with the repository


@dataclass(frozen=True)
class Job:
    """One method on one dataset with one seed."""

    trainer: str
    dataset: str
    seed: int
    shots: int
    data: Path
    output: Path
    config: str = ""
    tag: str = ""
    opts: tuple[str, ...] = ()

    @property
    def config_name(self) -> str:
        """Stem of the trainer's configuration file."""
        return self.config or ("embedded" if self.dataset in EMBEDDED else "vit_b16")

    def folder(self, protocol: str) -> Path:
        """Folder of the run."""
        config = f"{self.config_name}-{self.tag}" if self.tag else self.config_name
        parts = (protocol, self.dataset, self.trainer, config, f"shots_{self.shots}")
        return self.output.joinpath(*parts, f"seed{self.seed}")

    def arguments(self, protocol: str) -> list[str]:
        """Arguments of train.py, without what says train or test."""
        return [
            *("--root", str(self.data)),
            *("--seed", str(self.seed)),
            *("--trainer", self.trainer),
            *("--dataset-config-file", str(CONFIGS / "datasets" / f"{self.dataset}.yaml")),
            *("--config-file", str(self.config_file())),
            *("--output-dir", str(self.folder(protocol))),
        ]

    def settings(self, protocol: str, classes: str) -> list[str]:
        """KEY VALUE pairs of train.py."""
        return [
            *self.opts,
            *("PROTOCOL", protocol),
            *("DATASET.NUM_SHOTS", str(self.shots)),
            *("DATASET.SUBSAMPLE_CLASSES", classes),
        ]

    def check(self) -> None:
        """Refuse what no protocol can work with.

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
            if key in OWNED:
                raise UserError(f"{key} is set by the protocol: {OWNED[key]}")
        self.config_file()
        check_name(self.trainer, TRAINER_REGISTRY, "trainer", "--trainer")

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


def base2new(job: Job) -> list[dict[str, Any]]:
    """Train on the base classes, test on base and on new classes.

    Returns:
        The results of both tests.

    Raises:
        UserError: see `Job.check`; or contexts of single classes, which new classes do not have.
    """
    job.check()
    parse = train.build_parser().parse_args
    base, new = (
        [*job.arguments("base2new"), *job.settings("base2new", classes)]
        for classes in ("base", "new")
    )
    if not getattr(TRAINER_REGISTRY.get(job.trainer), "learns", True):
        runs = [train.run(parse(["--eval-only", *arguments])) for arguments in (base, new)]
        return [results for results in runs if results]
    cfg = train.setup_cfg(parse(base))
    if cfg.TRAINER.get(job.trainer.upper(), {}).get("CSC"):
        raise UserError(
            f"TRAINER.{job.trainer.upper()}.CSC True learns a context for each base class, and "
            "new classes have none: base2new needs CSC False"
        )
    trained = train.run(parse(base))
    assert trained is not None
    model = ["--eval-only", "--model-dir", str(job.folder("base2new"))]
    if cfg.TEST.FINAL_MODEL != "best_val":
        model += ["--load-epoch", str(trained["epoch"])]
    tested = train.run(parse([*model, *new]))
    assert tested is not None
    return [trained, tested]


PROTOCOLS = {"base2new": base2new}


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this tool."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.protocol",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("protocol", choices=sorted(PROTOCOLS))
    add("--trainer", required=True, help="name of the trainer, e.g. MoPD")
    add("--dataset", required=True, help="stem of a file under configs/datasets")
    add("--seed", type=int, required=True)
    add("--shots", type=int, default=16, help="training images per class")
    add("--config", default="", help="stem of a file under configs/trainers/<trainer>")
    add("--data", type=Path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--output", type=Path, default=REPOSITORY / "output", help="folder of all runs")
    add("--tag", default="", help="appended to the configuration's name in the run's folder")
    add("opts", nargs="*", default=[], help="KEY VALUE pairs, as for train.py")
    return parser


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the protocol, print its table, and return the results.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # behind "--" come KEY VALUE pairs, whatever they begin with
    at = words.index("--") if "--" in words else len(words)
    args = vars(build_parser().parse_intermixed_args(words[:at]))
    protocol = args.pop("protocol")
    job = Job(**{**args, "opts": (*args["opts"], *words[at + 1 :])})
    try:
        results = PROTOCOLS[protocol](job)
        table = base2new_table(find_results(job.folder(protocol)))
    except train.EXPECTED_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(table)
    return results


if __name__ == "__main__":
    train.command_line(main)
