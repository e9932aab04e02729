"""What a study file may say, and the studies that are shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dassl.utils import UserError
from tools.studies.file import read_study
from trainers.prompts.pool import load_pool

ROOT = Path(__file__).resolve().parents[3]
STUDIES = ROOT / "configs/studies"


def mistakes(read, content=None, **keys) -> list[str]:
    """What is said of a wrong study, without its first line."""
    with pytest.raises(UserError) as error:
        read(content, **keys)
    head, *lines = str(error.value).splitlines()
    assert re.fullmatch(rf".*/mine.yaml: {len(lines)} mistakes?, nothing is run", head), head
    return [line.strip() for line in lines]


def test_jobs_are_all_combinations_seed_by_seed(read, tmp_path):
    study = read(
        protocols={"base2new": {"datasets": ["shapes", "digits"]}, "fewshot": {"shots": [1, 4]}},
        datasets="shapes",
        methods={
            "CoOp": None,
            "MoPD": {
                "config": "embedded",
                "opts": {"OPTIM.LR": 0.1},
                "variants": [
                    {"tag": "", "opts": {}},
                    {"tag": "k2", "opts": {"TRAINER.MOPD.NUM_TEACHERS": 2, "OPTIM.LR": 0.2}},
                ],
            },
        },
        seeds=[1, 2],
        opts={"OPTIM.MAX_EPOCH": 3},
    )
    found = [
        (j.protocol, j.dataset, j.trainer, j.config_label, j.seed, j.shots) for j in study.jobs
    ]
    methods = [("CoOp", "embedded"), ("MoPD", "embedded"), ("MoPD", "embedded-k2")]
    assert found == [
        (name, dataset, *method, seed, shots)
        for seed in (1, 2)
        for name, dataset, shots in (
            ("base2new", "shapes", 16),
            ("base2new", "digits", 16),
            ("fewshot", "shapes", 1),
            ("fewshot", "shapes", 4),
        )
        for method in methods
    ]
    assert study.jobs[0].opts == ("OPTIM.MAX_EPOCH", "3")
    k2 = dict(zip(study.jobs[2].opts[::2], study.jobs[2].opts[1::2], strict=True))
    assert k2 == {"OPTIM.MAX_EPOCH": "3", "OPTIM.LR": "0.2", "TRAINER.MOPD.NUM_TEACHERS": "2"}
    assert study.jobs[0].output == tmp_path / "out"


def test_a_method_that_learns_nothing_runs_with_the_first_seed_only(read):
    study = read(protocols="base2new", datasets="shapes", methods=["ZeroshotCLIP", "CoOp"])
    assert [(j.trainer, j.seed) for j in study.jobs] == [
        ("ZeroshotCLIP", 1), ("CoOp", 1), ("CoOp", 2), ("CoOp", 3)
    ]  # fmt: skip


def test_all_mistakes_are_told_at_once_with_their_keys(read):
    found = mistakes(
        read,
        protocol="base2new",
        protocols={"base2neww": None, "xd": {"targets": ["digit"], "shots": 0, "seed": 1}},
        datasets=["shapes", "shape"],
        methods={
            "MoPDD": None,
            "CoOp": {"variants": [{"tag": "a/b", "opts": {"OPTIM.LRR": 1}}, {"opts": {}}]},
            "MoPD": {"opts": {"SEED": 1, "TRAINER.MOPD.ALPHA": "much", "OPTIM": {"LR": 1}}},
        },
        seeds=[-1],
        config=3,
    )
    parts = [
        ('protocol: there is no key "protocol", do you mean "protocols"?', ""),
        ("config: expected a text, found 3", ""),
        ('methods.MoPDD: there is no method "MoPDD", do you mean "MoPD"?', "CoOp"),
        ('methods.CoOp.variants[0].tag: the tag is "a/b", expected letters', ""),
        ('methods.CoOp.variants[0].opts: unknown key "OPTIM.LRR", do you mean "OPTIM.LR"?', ""),
        ("methods.CoOp.variants[1]: expected {tag: ..., opts: {...}}, found {'opts': {}}", ""),
        ("methods.MoPD.opts: SEED is set by the protocol: give it as SEED", ""),
        ("methods.MoPD.opts: TRAINER.MOPD.ALPHA is 'much', expected a number", ""),
        ("methods.MoPD.opts.OPTIM: expected one value; a KEY is written with dots", ""),
        ('protocols.base2neww: there is no protocol "base2neww", do you mean "base2new"?', "dg"),
        ('protocols.xd.seed: there is no key "seed", do you mean "seeds"?', ""),
        ("seeds: expected whole numbers from 0 to 4294967295, found [-1]", ""),
        ("protocols.xd.shots: expected whole numbers from 1, found 0", ""),
        ('datasets[1]: there is no dataset "shape", do you mean "shapes"?', "digits, "),
        ('protocols.xd.targets[0]: there is no dataset "digit", do you mean "digits"?', ""),
    ]
    assert len(found) == len(parts), found
    for line, (start, part) in zip(found, parts, strict=True):
        assert line.startswith(start) and part in line


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"methods": {"MoPD": {"opts": {"TRAINER.MOPD.NUM_TEACHERS": 13}}}},
            "methods.MoPD: TRAINER.MOPD.NUM_TEACHERS is 13, but pool 'embedded' has 12 templates",
        ),
        (
            {"methods": {"MoPD": {"opts": {"TRAINER.MOPD.POOL": "papper"}}}},
            "methods.MoPD: no pool 'papper'",
        ),
        (
            {"methods": {"CoOp": {"opts": {"TRAINER.COOP.CSC": True}}}},
            "methods.CoOp: TRAINER.COOP.CSC True learns a context for each class",
        ),
        (
            {"methods": {"CoOp": {"config": "rn50"}}},
            'methods.CoOp: no configuration "rn50" in',
        ),
        (
            {"methods": {"CoOp": {"variants": [{"tag": "a"}, {"tag": "a"}]}}},
            "2 jobs would share the folder",
        ),
        ({"methods": "CoOp", "protocols": "dg", "datasets": "digits"}, "methods.CoOp: dg has no"),
        ({"methods": "CoOp", "datasets": "foo:x"}, ""),
        ({"methods": "CoOp", "seeds": []}, "there are no jobs"),
        ({"methods": "CoOp", "opts": ["OPTIM.LR", 1]}, "opts: expected KEY: VALUE, as in OPTIM.LR"),
        (
            {"methods": "CoOp", "protocols": {"base2new": {"targets": "digits"}}},
            "protocols.base2new.targets: base2new has no targets",
        ),
    ],
    ids=str,
)
def test_what_only_shows_when_all_is_put_together_is_a_mistake_too(read, keys, expected):
    (found,) = mistakes(read, **{"protocols": "base2new", "datasets": "shapes", "seeds": 1} | keys)
    assert found.startswith(expected)


def test_settings_seeds_and_shots_are_read_by_the_table_of_settings(read):
    opts = {
        "OPTIM.LR": float("inf"),
        "OPTIM.MAX_EPOCH": True,
        "OUTPUT": 1,
        "MODEL.BACKBONE.NAME": 16,
        "INPUT.SIZE": [32],
        "TEST.SPLIT": None,
        "TRAINER.COOP.CTX_INIT": None,
    }
    found = mistakes(
        read, protocols="fewshot", datasets="shapes", methods=["CoOp"], opts=opts,
        seeds=[2**32], shots=[1.5],
    )  # fmt: skip
    assert [line.partition(", do you")[0] for line in found] == [
        "seeds: expected whole numbers from 0 to 4294967295, found [4294967296]",
        "shots: expected whole numbers from 1, found [1.5]",
        "opts: OPTIM.LR is inf, expected a number from 0 such as 0.0003",
        "opts: OPTIM.MAX_EPOCH is True, expected a whole number from 1 to 1000000 such as 10",
        'opts: unknown key "OUTPUT"',
        "opts: MODEL.BACKBONE.NAME is 16, expected a path or name (default: not given); put it in "
        "quotes",
        "opts: INPUT.SIZE is (32,), expected a list of 2 whole numbers from 1 or auto such as "
        "(224, 224)",
        "opts: TEST.SPLIT has no value, expected one of: val, test (default: test); without the "
        "key its default is taken",
    ]


def test_no_words_and_lists_of_a_study_reach_its_jobs(read):
    opts = {"TRAINER.COOP.CTX_INIT": None, "INPUT.TRANSFORMS": ["normalize"], "OPTIM.LR": 1e-5}
    study = read(protocols="fewshot", datasets="shapes", methods=["CoOp"], opts=opts, seeds=1)
    assert study.jobs[0].opts == (
        "TRAINER.COOP.CTX_INIT", "", "INPUT.TRANSFORMS", "['normalize']", "OPTIM.LR", "1e-05"
    )  # fmt: skip


def test_training_on_a_dataset_for_tests_only_is_a_mistake_of_the_file(read):
    (found,) = mistakes(read, protocols="fewshot", datasets="shapes_blurred", methods=["CoOp"])
    assert "ShapesBlurred is only for testing" in found


def test_shared_keys_are_checked_beside_an_unknown_protocol(read):
    found = mistakes(
        read, protocols="base2nw", datasets="shape", seeds="x", methods=["CoOp"]
    )  # fmt: skip
    for part in ("base2nw", "shape", "seeds"):
        assert any(part in line for line in found), part


def test_missing_parts_are_named(read):
    assert mistakes(read, description="nothing") == ["protocols: is missing", "methods: is missing"]
    assert mistakes(read, protocols="base2new", methods="CoOp") == [
        "protocols.base2new.datasets: is missing, here and for the whole study"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", r"mine.yaml: expected keys such as protocols and methods"),
        ("methods: [", r"mine.yaml, line 1, column 11: not valid YAML, "),
        (
            "methods:\n  CoOp:\n  CoOp:\n",
            r"mine.yaml, line 3: key 'CoOp' appears twice",
        ),
    ],
)
def test_files_that_are_no_study_are_refused(read, text, message):
    with pytest.raises(UserError, match=message):
        read(text)


def test_shipped_studies_are_sound_and_cover_every_protocol(tmp_path):
    found: dict[bool, set[str]] = {True: set(), False: set()}
    paths = sorted(STUDIES.glob("*.yaml"))
    for path in paths:
        study = read_study(path, tmp_path, tmp_path)
        embedded = path.stem.startswith("embedded")
        found[embedded] |= {job.protocol for job in study.jobs}
        assert path.read_text().startswith(
            f"# python -m tools.study run configs/studies/{path.name}\n"
        )
    assert found[True] == found[False] == {"base2new", "fewshot", "xd", "dg"}
    names = {path.stem for path in paths}
    knobs = "pool_size teachers alpha beta temperature noise pools gates"
    assert {f"mopd_{knob}" for knob in knobs.split()} <= names


def test_the_study_of_the_page_is_sound(read):
    page = (ROOT / "docs/protocols.md").read_text()
    study = read(re.search(r"```yaml\n(# my_study.yaml.*?)```", page, re.DOTALL)[1])
    jobs = [(j.protocol, j.dataset, j.config_label, j.shots) for j in study.jobs if j.seed == 1]
    assert len(study.jobs) == 3 * len(jobs) == 3 * 3 * (2 + 2 + 1)
    assert ("xd", "shapes", "embedded-h4", 16) in jobs


SECTIONS = (
    "ImageNet", "Caltech101", "OxfordPets", "StanfordCars", "OxfordFlowers", "Food101",
    "FGVCAircraft", "SUN397", "DescribableTextures", "EuroSAT", "UCF101", "Shapes", "Digits",
)  # fmt: skip


@pytest.mark.parametrize("dataset", SECTIONS)
def test_pools_of_the_studies_are_those_of_the_paper_cut_grown_or_with_noise(dataset):
    full = load_pool("embedded" if dataset in ("Shapes", "Digits") else "paper", dataset)
    noisy = load_pool("noisy", dataset)

    def pool(name: str) -> list[str]:
        return load_pool(str(STUDIES / f"pools/{name}.yaml"), dataset)

    for size in (1, 2, 4, 6, 8, 10):
        assert pool(f"h{size}") == full[:size]
    assert len(pool("h24")) == 24 and set(full) < set(pool("h24"))
    replaced_before: set[int] = set()
    for share in (25, 50, 75):
        found = pool(f"noise{share}")
        replaced = {i for i in range(12) if found[i] != full[i]}
        assert len(replaced) == 12 * share / 100 and replaced >= replaced_before
        assert all(found[i] == noisy[i] for i in replaced)
        replaced_before = replaced
