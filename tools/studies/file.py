"""Study files: one YAML that says which jobs there are. All mistakes are told at once.

docs/protocols.md explains the keys.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from dassl.utils import UserError
from datasets.own import split_name
from runs.command import expected_errors
from runs.config import CONFIGS, check_setting, methods
from runs.jobs import Job, dataset_names, learns
from runs.merging import read_yaml
from runs.protocols import PROTOCOLS, check_tag, refuse_owned
from runs.run import refuse_test_only
from runs.run_job import check_contexts, settings
from runs.settings import ROWS
from tools.studies.values import Values, listed
from trainers.errors import brief, meant

SHARED_KEYS = ("datasets", "seeds", "shots", "targets", "opts")
STUDY_KEYS = ("description", "protocols", "methods", "config", *SHARED_KEYS)
METHOD_KEYS = ("config", "opts", "variants")
VARIANT_KEYS = ("tag", "opts")
SEEDS = (1, 2, 3)
NUMBERS = {
    "seeds": replace(ROWS["SEED"], least=0),
    "shots": replace(ROWS["DATASET.NUM_SHOTS"], least=1),
}


@dataclass(frozen=True)
class Study:
    """A study file and its jobs, in the order in which they run."""

    path: Path
    jobs: list[Job]

    @property
    def name(self) -> str:
        """Stem of the file."""
        return self.path.stem


def read_study(path: Path, data: Path, output: Path) -> Study:
    """The study of a file; nothing is written and nothing heavy is loaded.

    Args:
        path: the YAML file.
        data: folder of the datasets.
        output: folder of all runs.

    Raises:
        UserError: all mistakes of the file, one a line, each with its key.
    """
    values = Values()
    jobs = _Reader(values).jobs(_load(path), data.absolute(), output.absolute())
    if not values.mistakes:
        _check(jobs, values)
    if values.mistakes:
        count = len(values.mistakes)
        head = f"{path}: {count} mistake{'s' * (count > 1)}, nothing is run"
        raise UserError("\n  ".join([head, *values.mistakes]))
    return Study(path, [job for _, job in jobs])


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        found = sorted(p.stem for p in (CONFIGS / "studies").glob("*.yaml"))
        hint = meant(path.stem, found) or ";"
        raise UserError(f"no such study: {path}{hint} configs/studies has: {', '.join(found)}")
    content = read_yaml(path)
    if not isinstance(content, dict):
        expected = "expected keys such as protocols and methods"
        raise UserError(f"{path}: {expected}, found {brief(content)}")
    return content


@dataclass(frozen=True)
class _Part:
    """What the study, or one protocol of it, says about its jobs."""

    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    shots: tuple[int, ...]
    targets: tuple[str, ...]
    opts: dict[str, str]


@dataclass(frozen=True)
class _Variant:
    """A method with a tag; `key` is where it stands in the file."""

    key: str
    trainer: str
    config: str
    tag: str
    opts: dict[str, str]


@dataclass
class _Reader:
    """Knows what the keys of a study mean."""

    values: Values

    def jobs(self, content: dict, data: Path, output: Path) -> list[tuple[str, Job]]:
        """All jobs with the key that they come from: seed by seed, so that tables fill evenly."""
        self.values.keys(content, STUDY_KEYS, "")
        for key in ("protocols", "methods"):
            if not content.get(key):
                self.values.mistake(key, "is missing")
        config = self.values.text(content.get("config", ""), "config")
        variants = list(self._variants(content.get("methods"), config))
        shared = {key: content[key] for key in SHARED_KEYS if key in content}
        jobs = []
        for protocol, own in self.values.mapping(content.get("protocols"), "protocols"):
            if not self.values.known(protocol, PROTOCOLS, "protocol", f"protocols.{protocol}"):
                continue
            part = self._part(shared, own, protocol)
            for seed, dataset, shots, variant in product(
                part.seeds, part.datasets, part.shots, variants
            ):
                # what learns nothing gives the same with every seed
                if seed != part.seeds[0] and not learns(variant.trainer):
                    continue
                opts = part.opts | variant.opts
                job = Job(
                    protocol=protocol, trainer=variant.trainer, dataset=dataset, seed=seed,
                    shots=shots, data=data, output=output, targets=part.targets,
                    config=variant.config, tag=variant.tag,
                    opts=tuple(word for pair in opts.items() for word in pair),
                )  # fmt: skip
                jobs.append((variant.key, job))
        if not jobs and shared.get("datasets"):  # the mistakes in what is shared all the same
            self._part(shared, {}, "base2new")
        return sorted(jobs, key=lambda job: job[1].seed)

    def _part(self, shared: dict, own: dict, protocol: str) -> _Part:
        """Settings of a protocol: its own ones, else those of the whole study."""
        key = f"protocols.{protocol}"
        self.values.keys(own, SHARED_KEYS, key)
        where = {name: f"{key}.{name}" if name in own else name for name in SHARED_KEYS}
        values = shared | own
        if not values.get("datasets"):
            self.values.mistake(f"{key}.datasets", "is missing, here and for the whole study")
        targets = values.get("targets", []) if PROTOCOLS[protocol].targets is not None else []
        if "targets" in own and PROTOCOLS[protocol].targets is None:
            self.values.mistake(where["targets"], f"{protocol} has no targets")
        usual = {"seeds": SEEDS, "shots": PROTOCOLS[protocol].shots}
        seeds, shots = (
            self.values.numbers(values.get(name, usual[name]), where[name], row)
            for name, row in NUMBERS.items()
        )
        opts = self._opts(shared.get("opts"), "opts", protocol)
        return _Part(
            datasets=self._datasets(values.get("datasets"), where["datasets"]),
            seeds=seeds,
            shots=shots,
            targets=self._datasets(targets, where["targets"]),
            opts=opts | self._opts(own.get("opts"), f"{key}.opts", protocol),
        )

    def _variants(self, named: Any, config: str) -> Iterator[_Variant]:
        """Every method with each of its tags."""
        for trainer, own in self.values.mapping(named, "methods"):
            key = f"methods.{trainer}"
            if not self.values.known(trainer, methods().registered_names(), "method", key):
                continue
            self.values.keys(own, METHOD_KEYS, key)
            chosen = self.values.text(own.get("config", config), f"{key}.config")
            opts = self._opts(own.get("opts"), f"{key}.opts")
            variants = own.get("variants", [{"tag": "", "opts": {}}])
            if not isinstance(variants, list) or not variants:
                self.values.mistake(f"{key}.variants", "expected a list of {tag: ..., opts: {...}}")
                continue
            for index, variant in enumerate(variants):
                place = f"{key}.variants[{index}]" if "variants" in own else key
                if not isinstance(variant, dict) or "tag" not in variant:
                    self.values.mistake(
                        place, f"expected {{tag: ..., opts: {{...}}}}, found {brief(variant)}"
                    )
                    continue
                self.values.keys(variant, VARIANT_KEYS, place)
                tag = self.values.text(variant["tag"], f"{place}.tag")
                try:
                    check_tag(tag)
                except UserError as error:
                    self.values.mistake(f"{place}.tag", str(error))
                more = self._opts(variant.get("opts"), f"{place}.opts")
                yield _Variant(place, trainer, chosen, tag, opts | more)

    def _opts(self, opts: Any, key: str, protocol: str = "base2new") -> dict[str, str]:
        """Settings as KEY VALUE pairs; each is checked where it stands."""
        if opts is None:
            return {}
        if not isinstance(opts, dict):
            self.values.mistake(
                key, f"expected KEY: VALUE, as in OPTIM.LR: 0.002, found {brief(opts)}"
            )
            return {}
        pairs = {}
        for name, value in opts.items():
            if isinstance(value, dict):
                self.values.mistake(
                    f"{key}.{name}", "expected one value; a KEY is written with dots"
                )
                continue
            pairs[str(name)] = "" if value is None else str(value)
            try:
                refuse_owned(str(name), protocol)
                check_setting(str(name), value, "setting")
            except UserError as error:
                self.values.mistake(key, str(error).removeprefix("setting: "))
        return pairs

    def _datasets(self, value: Any, key: str) -> tuple[str, ...]:
        """Stems of configs/datasets, or folder:PATH or csv:PATH."""
        known, found = dataset_names(), []
        for index, name in enumerate(listed(value)):
            place = f"{key}[{index}]" if isinstance(value, list) else key
            try:
                own = split_name(str(name))
            except ValueError as error:
                self.values.mistake(place, str(error))
                continue
            if own or self.values.known(name, known, "dataset", place):
                found.append(str(name))
        return tuple(found)


def _check(jobs: list[tuple[str, Job]], values: Values) -> None:
    """What only shows when all is put together; seeds and shots make no difference for it."""
    if not jobs:
        values.mistakes.append("there are no jobs: name at least one dataset, seed and shot")
    folders = Counter(job.folder for _, job in jobs)
    for folder, count in folders.items():
        if count > 1:
            values.mistakes.append(f"{count} jobs would share the folder {folder}: give tags")
    seen = set()
    for key, job in jobs:
        kind = (key, job.protocol, job.dataset, job.targets, job.opts)
        if kind in seen:
            continue
        seen.add(kind)
        try:
            job.check()
            cfg = settings(job, job.evaluations()[0])
            check_contexts(job, cfg)
            refuse_test_only(cfg)
            trainer = methods().get(job.trainer)
            # the method's own checks of its knobs, without building it
            trainer.check_cfg(object.__new__(trainer), cfg)
        except expected_errors() + (AssertionError,) as error:
            values.mistake(key, f"{error} ({job.protocol}, {job.dataset})", known=str(error))
