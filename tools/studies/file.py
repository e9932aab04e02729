"""Study files: one YAML that says which jobs there are. All mistakes are told at once.

docs/protocols.md explains the keys.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
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
from tools.studies.search import SPLIT, TAG, Search, read_search, tags
from tools.studies.values import Values, listed
from trainers.errors import brief, meant

SHARED_KEYS = ("datasets", "seeds", "shots", "targets", "opts")
STUDY_KEYS = ("description", "protocols", "methods", "config", "search", *SHARED_KEYS)
METHOD_KEYS = ("config", "opts", "variants", "search")
VARIANT_KEYS = ("tag", "opts")
SEEDS = (1, 2, 3)
NUMBERS = {
    "seeds": replace(ROWS["SEED"], least=0),
    "shots": replace(ROWS["DATASET.NUM_SHOTS"], least=1),
}


@dataclass(frozen=True)
class Study:
    """A study file and its jobs, in the order in which they run.

    Attributes:
        searched: knobs by trainer and tag, in the order of the file; empty: it is no search.
    """

    path: Path
    jobs: list[Job]
    searched: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

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
    reader = _Reader(values)
    jobs = reader.jobs(_load(path), data.absolute(), output.absolute())
    if not values.mistakes:
        _check(jobs, values, bool(reader.searched))
    if values.mistakes:
        count = len(values.mistakes)
        head = f"{path}: {count} mistake{'s' * (count > 1)}, nothing is run"
        raise UserError("\n  ".join([head, *values.mistakes]))
    return Study(path, [job for _, job in jobs], reader.searched)


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
    """Knows what the keys of a study mean; `searched` is that of the study."""

    values: Values
    searched: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def jobs(self, content: dict, data: Path, output: Path) -> list[tuple[str, Job]]:
        """All jobs with the key that they come from: seed by seed, so that tables fill evenly."""
        self.values.keys(content, STUDY_KEYS, "")
        for key in ("protocols", "methods"):
            if not content.get(key):
                self.values.mistake(key, "is missing")
        if "search" in content and content["search"] is None:
            self.values.mistake("search", "is empty, expected {knobs: {KEY: [values]}}")
        config = self.values.text(content.get("config", ""), "config")
        named = self.values.mapping(content.get("methods"), "methods")
        whole = content.get("search")
        searches = whole is not None or any(own.get("search") is not None for _, own in named)
        variants = list(self._variants(named, config, whole, searches))
        # no test image is used to choose; what says otherwise is refused
        split = {SPLIT: "val"} if searches else {}
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
                opts = split | part.opts | variant.opts
                job = Job(
                    protocol=protocol, trainer=variant.trainer, dataset=dataset, seed=seed,
                    shots=shots, data=data, output=output, targets=part.targets,
                    config=variant.config, tag=variant.tag,
                    opts=tuple(word for pair in opts.items() for word in pair),
                )  # fmt: skip
                jobs.append((variant.key, job))
        if searches:
            self._check_comparable([job for _, job in jobs])
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

    def _check_comparable(self, jobs: list[Job]) -> None:
        """Refuse a search in which settings would be compared over different tests."""
        for name in dict.fromkeys(job.protocol for job in jobs):
            if PROTOCOLS[name].targets is not None:
                known = ", ".join(k for k, one in PROTOCOLS.items() if one.targets is None)
                why = f"a search does not choose on other datasets: search in one of {known}"
                self.values.mistake(f"protocols.{name}", why)
        for key, found in (
            ("protocols", {job.protocol for job in jobs}),
            ("shots", {job.shots for job in jobs}),
        ):
            if len(found) > 1:
                several = ", ".join(map(str, sorted(found)))
                self.values.mistake(key, f"a search has one of them, not {several}")

    def _settings(
        self, trainer: str, own: dict, key: str, whole: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Tags and settings of the search of a method, its own or that of the study."""
        place = f"{key}.search" if "search" in own else "search"
        if "variants" in own:
            self.values.mistake(f"{key}.variants", "a method has variants or a search, not both")
            return
        search: Search | None = read_search(own.get("search", whole), place, self.values)
        settings = search.settings() if search else []
        for tag, setting in zip(tags(settings), settings, strict=True):
            self.searched[trainer, tag] = setting
            yield tag, setting

    def _variants(
        self, named: list[tuple[str, dict]], config: str, whole: Any, searches: bool
    ) -> Iterator[_Variant]:
        """Every method with each of its tags, or of the settings of its search.

        Args:
            named: methods, and what the file says about each.
            config: of the study.
            whole: the search of the study, if there is one.
            searches: the study has a search, perhaps of another method.
        """
        for trainer, own in named:
            key = f"methods.{trainer}"
            if not self.values.known(trainer, methods().registered_names(), "method", key):
                continue
            self.values.keys(own, METHOD_KEYS, key)
            chosen = self.values.text(own.get("config", config), f"{key}.config")
            opts = self._opts(own.get("opts"), f"{key}.opts")
            if own.get("search", whole) is not None:
                for tag, setting in self._settings(trainer, own, key, whole):
                    knobs = {name: str(value) for name, value in setting.items()}
                    yield _Variant(f"{key}.search", trainer, chosen, tag, opts | knobs)
                continue
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
                tag = "_".join(filter(None, (TAG if searches else "", tag)))
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


def _check(jobs: list[tuple[str, Job]], values: Values, searches: bool) -> None:
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
            if searches and cfg.TEST.SPLIT != "val":
                what = f"{SPLIT} is {cfg.TEST.SPLIT}: a search is scored on validation images only"
                raise UserError(f"{what}, leave the setting out")
            trainer = methods().get(job.trainer)
            # the method's own checks of its knobs, without building it
            trainer.check_cfg(object.__new__(trainer), cfg)
        except expected_errors() + (AssertionError,) as error:
            values.mistake(key, f"{error} ({job.protocol}, {job.dataset})", known=str(error))
