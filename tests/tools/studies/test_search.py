"""Searches over settings: what a file may say, what is drawn, and how the best is chosen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runs.protocols import check_tag
from tools import protocol
from tools.studies.best import measure_of, searched
from tools.studies.search import LONGEST, Range, Search, tags
from tools.study import main

ROOT = Path(__file__).resolve().parents[3]
ALPHA, BETA, K = (f"TRAINER.MOPD.{knob}" for knob in ("ALPHA", "BETA", "NUM_TEACHERS"))
GRID = {BETA: [0.5, 0.0005], K: [3, 2]}


@pytest.fixture
def grid(write):
    """The file of a search over two knobs on one dataset; keys may be others."""

    def file(**keys):
        usual = {
            **{"protocols": "base2new", "datasets": "shapes", "methods": "MoPD", "seeds": [1, 2]},
            "search": {"knobs": GRID},
        }
        return write(**(usual | keys))

    return file


@pytest.fixture
def put(read):
    """Write results as if the jobs of a search had run: a score for each tag and classes."""

    def results(study, score, split="val", **settings):
        for job in study.jobs:
            setting = study.searched[job.trainer, job.tag]
            for test in job.evaluations():
                accuracy = score(setting, test.classes, job.seed)
                if accuracy is None:
                    continue
                content = {
                    **{"protocol": job.protocol, "trainer": job.trainer, "seed": job.seed},
                    **{"dataset": "Shapes", "source": "Shapes", "config": job.config_label},
                    **{"classes": test.classes, "shots": job.shots, "accuracy": accuracy},
                    **{"epoch": 1, "checkpoint": f"c{job.seed}", "config_hash": job.tag},
                    "settings": {"TEST.SPLIT": split, **setting, **settings},
                }
                test.results.parent.mkdir(parents=True, exist_ok=True)
                test.results.write_text(json.dumps(content))

    return results


def command(capsys, *words) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of tools.study."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def opts(job) -> dict[str, str]:
    return dict(zip(job.opts[::2], job.opts[1::2], strict=True))


def test_a_grid_is_every_combination_in_the_order_of_the_file_on_validation_images(grid, read):
    study = read(grid().read_text())
    assert [job.tag for job in study.jobs if job.seed == 1] == [
        "val_beta=0.5_num_teachers=3",
        "val_beta=0.5_num_teachers=2",
        "val_beta=0.0005_num_teachers=3",
        "val_beta=0.0005_num_teachers=2",
    ]
    assert opts(study.jobs[3]) == {"TEST.SPLIT": "val", BETA: "0.0005", K: "2"}
    assert len(study.jobs) == 8 and len(study.searched) == 4


def test_the_files_of_the_page_are_searches(read):
    page = (ROOT / "docs/search.md").read_text()
    grid, sample = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shipped = (ROOT / "configs/studies/embedded_search.yaml").read_text()
    assert len(read(grid).searched) == 9
    assert read(grid).searched == read(shipped).searched
    assert [j.name for j in read(grid).jobs] == [j.name for j in read(shipped).jobs]
    drawn = read(f"protocols: base2new\ndatasets: shapes\nmethods: MoPD\n{sample}")
    assert len(drawn.searched) == 20


def test_a_method_has_a_search_of_its_own_and_others_are_tested_beside_it(read):
    study = read(
        protocols="base2new", datasets="shapes", seeds=1,
        methods={
            "CoOp": None,
            "KgCoOp": {"variants": [{"tag": "slow", "opts": {"OPTIM.LR": 0.001}}]},
            "MoPD": {"search": {"knobs": {ALPHA: [0.2, 1]}}},
        },
    )  # fmt: skip
    assert [(job.trainer, job.tag) for job in study.jobs] == [
        ("CoOp", "val"), ("KgCoOp", "val_slow"), ("MoPD", "val_alpha=0.2"), ("MoPD", "val_alpha=1")
    ]  # fmt: skip
    assert all(opts(job)["TEST.SPLIT"] == "val" for job in study.jobs)
    assert list(study.searched) == [("MoPD", "val_alpha=0.2"), ("MoPD", "val_alpha=1")]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"opts": {"TEST.SPLIT": "test"}},
            "methods.MoPD.search: TEST.SPLIT is test: a search is scored on validation images only",
        ),
        (
            {"protocols": {"base2new": {"opts": {"TEST.SPLIT": "test"}}}},
            "methods.MoPD.search: TEST.SPLIT is test: a search is scored on validation images only",
        ),
        (
            {"methods": {"MoPD": None, "CoOp": {"variants": [
                {"tag": "a", "opts": {"TEST.SPLIT": "test"}}], "search": None}}},
            "methods.CoOp.variants[0]: TEST.SPLIT is test: a search is scored on validation",
        ),
        (
            {"protocols": "dg"},
            "protocols.dg: a search does not choose on other datasets: search in one of base2new, "
            "fewshot",
        ),
        ({"protocols": "fewshot"}, "shots: a search has one of them, not 1, 2, 4, 8, 16"),
        (
            {"protocols": {"base2new": None, "fewshot": {"shots": 16}}},
            "protocols: a search has one of them, not base2new, fewshot",
        ),
        (
            {"methods": {"MoPD": {"variants": [{"tag": "a"}]}}},
            "methods.MoPD.variants: a method has variants or a search, not both",
        ),
        ({"search": None}, "search: is empty, expected {knobs: {KEY: [values]}}"),
        ({"search": 3}, "search: expected {knobs: {KEY: [values]}}, found 3"),
        ({"search": {"sample": 2}}, "search.knobs: expected KEY: [values] or {low, high}, is miss"),
        (
            {"search": {"knob": {}, "knobs": GRID}},
            'search.knob: there is no key "knob", do you mean "knobs"?',
        ),
        (
            {"search": {"knobs": {"OPTIM.LRR": [1]}}},
            'search.knobs.OPTIM.LRR: unknown key "OPTIM.LRR", do you mean "OPTIM.LR"?',
        ),
        (
            {"search": {"knobs": {ALPHA: [0.5, "much"]}}},
            "search.knobs.TRAINER.MOPD.ALPHA: TRAINER.MOPD.ALPHA is 'much', expected a number",
        ),
        (
            {"search": {"knobs": {ALPHA: [0.5, "0.5"]}}},
            "search.knobs.TRAINER.MOPD.ALPHA: has the value 0.5 twice",
        ),
        ({"search": {"knobs": {"SEED": [1, 2]}}}, "search.knobs.SEED: SEED is set by the protocol"),
        (
            {"search": {"knobs": {"TEST.SPLIT": ["val"]}}},
            "search.knobs.TEST.SPLIT: is no knob: a search is scored on validation images",
        ),
        (
            {"search": {"knobs": {"TRAIN.PRINT_FREQ": [1, 2]}}},
            "search.knobs.TRAIN.PRINT_FREQ: is no knob: it says nothing about what is learned",
        ),
        (
            {"search": {"knobs": {"TRAINER.COCOOP.N_CTX": [2, 4]}}},
            "methods.MoPD.search: this setting has no effect on MoPD here:",
        ),
        (
            {"search": {"knobs": {ALPHA: {"low": 0, "high": 1}}}},
            "search.sample: is missing, and TRAINER.MOPD.ALPHA is a range to draw from",
        ),
        (
            {"search": {"sample": 2, "knobs": {ALPHA: {"low": 1, "high": 0.5}}}},
            "search.knobs.TRAINER.MOPD.ALPHA: expected low below high, found",
        ),
        (
            {"search": {"sample": 2, "knobs": {ALPHA: {"low": 0, "high": 1, "log": True}}}},
            "search.knobs.TRAINER.MOPD.ALPHA: expected low below high, and above 0 with log, found",
        ),
        (
            {"search": {"sample": 2, "knobs": {"TRAINER.MOPD.GATE": {"low": 0, "high": 1}}}},
            "search.knobs.TRAINER.MOPD.GATE.low: TRAINER.MOPD.GATE is 0, expected one of:",
        ),
        (
            {"search": {"knobs": {ALPHA: [n / 1000 for n in range(200)],
                                  BETA: [n / 1000 for n in range(60)]}}},
            "search.sample: the grid has 12,000 settings, at most 10,000 can be run: draw some",
        ),
        ({"search": {"knobs": GRID, "sample": 0}}, "search.sample: expected whole numbers from 1"),
    ],
)  # fmt: skip
def test_what_a_search_cannot_be_is_told_with_its_key(grid, capsys, keys, told):
    code, _, error = command(capsys, "status", grid(**keys))
    assert code == 1
    assert told in error and "nothing is run" in error


RANGES = {
    "OPTIM.LR": Range(1e-4, 1e-1, log=True),
    ALPHA: Range(0.0, 1.0),
    K: Range(1, 4),
    BETA: (0.1, 0.5),
}


@given(sample=st.integers(1, 40), more=st.integers(0, 40), seed=st.integers(0, 9))
def test_a_larger_sample_begins_with_a_smaller_one_and_none_is_there_twice(sample, more, seed):
    small = Search(RANGES, sample, seed).settings()
    large = Search(RANGES, sample + more, seed).settings()
    assert large[:sample] == small and len(large) == sample + more
    assert len({json.dumps(one) for one in large}) == len(large)
    for one in large:
        assert 1e-4 <= one["OPTIM.LR"] <= 1e-1 and 0 <= one[ALPHA] <= 1 and one[BETA] in (0.1, 0.5)
        assert one[K] in (1, 2, 3, 4) and isinstance(one[K], int)
        assert all(float(f"{one[key]:.4g}") == one[key] for key in ("OPTIM.LR", ALPHA))


def test_the_draws_of_a_seed_are_these_forever():
    # done jobs are found by their tags
    assert Search({"OPTIM.LR": Range(1e-4, 1e-1, True), K: (1, 2)}, 3, 1).settings() == [
        {"OPTIM.LR": 0.000253, K: 2},
        {"OPTIM.LR": 0.01956, K: 1},
        {"OPTIM.LR": 0.003064, K: 1},
    ]


def test_ranges_are_drawn_evenly_by_difference_or_by_factor():
    factors = Search({"OPTIM.LR": Range(1e-4, 1e-2, True)}, 400, 1).settings()
    differences = Search({"OPTIM.LR": Range(1e-4, 1e-2)}, 400, 1).settings()
    assert 160 < sum(one["OPTIM.LR"] < 1e-3 for one in factors) < 240
    assert 15 < sum(one["OPTIM.LR"] < 1e-3 for one in differences) < 60
    counts = [Range(1, 4).at(n / 1000) for n in range(1000)]
    assert [counts.count(k) for k in (1, 2, 3, 4)] == [250] * 4
    assert Range(1, 100, True).at(0.0) == 1 and Range(1, 100, True).at(0.999999) == 100


def test_a_sample_of_more_than_there_is_is_the_whole_grid():
    knobs = {K: Range(2, 3), BETA: (0.1, 0.5)}
    assert Search(knobs, 9, 1).settings() == [
        {K: 2, BETA: 0.1}, {K: 2, BETA: 0.5}, {K: 3, BETA: 0.1}, {K: 3, BETA: 0.5}
    ]  # fmt: skip
    few = Search(knobs, 3, 1).settings()
    assert len(few) == 3 and all(one in Search(knobs, 9, 1).settings() for one in few)


VALUES = st.one_of(
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=200),
    st.lists(st.integers(0, 9), max_size=5),
)


@given(st.lists(VALUES, min_size=2, max_size=8, unique_by=json.dumps))
def test_tags_fit_into_folders_and_tell_settings_apart(values):
    settings = [{"A.TOP": value, "B.TOP": 1} for value in values]
    found = tags(settings)
    for tag in found:
        check_tag(tag)
        assert len(tag) <= LONGEST and tag.startswith("val_")
    kinds = {}  # a knob has values of one kind
    for value, tag in zip(values, found, strict=True):
        kinds.setdefault(type(value), []).append(tag)
    assert all(len(set(group)) == len(group) for group in kinds.values())


def test_a_tag_depends_on_its_own_setting_only():
    one, other = {K: 2, "OPTIM.LR": 1e-05}, {"OPTIM.LR": 0.25, K: 3}
    assert tags([one])[0] == tags([other, one])[1] == "val_lr=1e-05_num_teachers=2"
    assert tags([dict(reversed(one.items()))]) == tags([one])
    assert tags([{"A.LR": 1, "OPTIM.LR": 0.5}]) == ["val_a.lr=1_optim.lr=0.5"]
    path = {"TRAINER.MOPD.POOL": "configs/studies/pools/h4.yaml"}
    (tag,) = tags([path])
    assert re.fullmatch(r"val_pool=h4-[0-9a-f]{8}", tag)
    assert tags([{"TRAINER.MOPD.POOL": "mine/h4.yaml"}]) != [tag]


def by_knobs(setting, classes, seed):
    """New accuracy says which setting it is; base is the same for all."""
    if classes == "base":
        return 80.0
    return {(0.5, 3): 50, (0.5, 2): 70, (0.0005, 3): 60, (0.0005, 2): 40}[
        setting[BETA], setting[K]
    ] + seed


def test_the_best_setting_of_each_dataset_becomes_a_table_that_runs_read(
    grid, read, put, capsys, data_root, tmp_path
):
    path = grid()
    put(read(path.read_text()), by_knobs)
    where = ["--data", data_root, "--output", tmp_path / "out"]
    table = tmp_path / "best.yaml"
    code, out, error = command(capsys, "best", path, *where, "--write", table)
    assert (code, error) == (0, "")
    title, _, head, _, row, _, *note, file = out.splitlines()
    assert title == ("Best settings of MoPD by H on validation images: base2new, 16 shots, 2 seeds")
    assert head.split() == [
        *("dataset", "BETA", "NUM_TEACHERS", "base", "new", "H", "settings", "tried")
    ]
    assert row.split() == [
        *("Shapes", "0.5", "2", "80.00", "+-", "0.00", "71.50", "+-", "0.71"),
        *("75.51", "+-", "0.39", "4", "of", "4"),
    ]
    assert " ".join(line.strip() for line in note) == (
        "Shapes: the configuration's own values have H 69.54, place 2; the best is ahead of them "
        "on 2 of 2 seeds"
    )
    assert file == str(table)
    assert yaml.safe_load(table.read_text()) == {"Shapes": {BETA: 0.5, K: 2}}
    results = protocol.main(
        [
            *("base2new", "--trainer", "MoPD", "--dataset", "shapes", "--seed", "1"),
            *("--shots", "1", "--data", str(data_root), "--output", str(tmp_path / "used"), "--"),
            *("PER_DATASET", str(table), "OPTIM.MAX_EPOCH", "1"),
        ]
    )
    for one in results:  # of the training, and of the test on other classes
        assert (one["settings"][BETA], one["settings"][K]) == (0.5, 2)
    # a file of somebody else stays
    other = tmp_path / "other.yaml"
    other.write_text("Shapes: {}\n")
    code, _, error = command(capsys, "best", path, *where, "--write", other)
    assert code == 1 and f"error: {other} is there, and not of this command" in error
    assert other.read_text() == "Shapes: {}\n"
    # one of this command is renewed
    assert command(capsys, "best", path, *where, "--by", "base", "--write", table)[0] == 0
    assert yaml.safe_load(table.read_text()) == {"Shapes": {BETA: 0.0005, K: 3}}


def test_of_equal_settings_the_least_changed_one_is_taken_then_the_first(grid, read, put):
    study = read(grid().read_text())
    put(study, lambda setting, classes, seed: 80.0)
    (found,) = searched(study, "H")
    # the configuration has BETA 0.0005 and NUM_TEACHERS 3
    assert [dict(one.setting) for one in found.ranked()] == [
        {BETA: 0.0005, K: 3}, {BETA: 0.5, K: 3}, {BETA: 0.0005, K: 2}, {BETA: 0.5, K: 2}
    ]  # fmt: skip
    assert found.equal() == 4
    put(study, lambda setting, classes, seed: 80.0 if setting[K] == 2 else 70.0)
    (found,) = searched(study, "H")
    assert dict(found.ranked()[0].setting) == {BETA: 0.0005, K: 2} and found.equal() == 2


def test_results_of_test_images_are_refused_by_name(grid, read, put, capsys, tmp_path):
    path = grid()
    study = read(path.read_text())
    put(study, by_knobs)
    wrong = study.jobs[5].evaluations()[1].results
    content = json.loads(wrong.read_text())
    del content["settings"]["TEST.SPLIT"]
    for split in ("test", None):
        content["settings"] |= {"TEST.SPLIT": split} if split else {}
        wrong.write_text(json.dumps(content))
        where = ["--output", tmp_path / "out", "--write", tmp_path / "best.yaml"]
        code, out, error = command(capsys, "best", path, *where)
        assert (code, out) == (1, "")
        assert f"error: {wrong} is of test images (TEST.SPLIT is test), on which nothing" in error
        assert not (tmp_path / "best.yaml").exists()
        content["settings"]["TEST.SPLIT"] = "test"


def test_results_of_other_values_are_refused_by_name(grid, read, put, capsys, tmp_path):
    path = grid()
    study = read(path.read_text())
    put(study, by_knobs, **{K: 6})
    code, _, error = command(capsys, "best", path, "--output", tmp_path / "out")
    first = study.jobs[0].evaluations()[0].results
    assert code == 1
    assert f"error: {first} was made with other settings: {K} is 6 there, 3 here" in error


def test_only_settings_with_all_of_their_seeds_count_and_no_half_search_is_written(
    grid, read, put, capsys, tmp_path
):
    path = grid()
    study = read(path.read_text())
    where = ["--output", tmp_path / "out"]
    code, _, error = command(capsys, "best", path, *where)
    assert code == 1
    assert f"has no setting with all of its seeds yet: python -m tools.study run {path}" in error

    def best_is_missing(setting, classes, seed):
        missing = setting == {BETA: 0.5, K: 2} and seed == 2
        return None if missing else by_knobs(setting, classes, seed)

    put(study, best_is_missing)
    code, out, _ = command(capsys, "best", path, *where)
    assert code == 0 and re.search(r"Shapes +0\.0005 +3 .* 3 of 4\n", out)
    code, _, error = command(capsys, "best", path, *where, "--write", tmp_path / "best.yaml")
    assert code == 1
    assert "error: the search is not done (3 of 4 settings on Shapes), and nothing is" in error
    assert not (tmp_path / "best.yaml").exists()


def test_what_is_compared_is_one_of_the_measures_of_the_protocol(grid, read, write, capsys):
    study = read(grid().read_text())
    assert [measure_of(study, by) for by in (None, "H", "base", "new")] == ["H", "H", "base", "new"]
    code, _, error = command(capsys, "best", grid(), "--by", "basse")
    assert code == 1
    assert '--by is "basse", do you mean "base"? base2new has: H, base, new' in error
    few = read(grid(protocols="fewshot", shots=4).read_text())
    assert [measure_of(few, by) for by in (None, "accuracy")] == ["all", "all"]
    code, _, error = command(capsys, "best", grid(), "--method", "MoPDD")
    assert code == 1 and '--method is "MoPDD", do you mean "MoPD"? the search has: MoPD' in error
    plain = write(protocols="base2new", datasets="shapes", methods="CoOp")
    code, _, error = command(capsys, "best", plain)
    assert code == 1 and f"error: {plain} is no search: it has no key `search`" in error


def test_a_table_is_of_one_method(grid, read, put, capsys, tmp_path):
    path = grid(methods=["MoPD", "CoOp"], search={"knobs": {"OPTIM.LR": [0.5, 0.1]}})
    put(read(path.read_text()), lambda setting, classes, seed: 100 * setting["OPTIM.LR"])
    where = ["--output", tmp_path / "out", "--write", tmp_path / "best.yaml"]
    code, out, error = command(capsys, "best", path, *where)
    assert out.count("Best settings of") == 2
    assert code == 1 and "a table is of one method, and the search has MoPD, CoOp" in error
    assert command(capsys, "best", path, *where, "--method", "CoOp")[0] == 0
    assert yaml.safe_load((tmp_path / "best.yaml").read_text()) == {"Shapes": {"OPTIM.LR": 0.5}}


def test_pictures_are_maps_of_each_two_knobs_or_a_curve(grid, read, put, capsys, tmp_path):
    path = grid(search={"knobs": {**GRID, ALPHA: [0.2, 0.8]}})
    put(read(path.read_text()), by_knobs)
    where = ["--output", tmp_path / "out", "--plots", tmp_path / "plots"]
    assert command(capsys, "best", path, *where)[0] == 0
    names = {file.name for file in (tmp_path / "plots").iterdir()}
    stems = ("BETA_NUM_TEACHERS", "BETA_ALPHA", "NUM_TEACHERS_ALPHA")
    assert names == {f"mine_Shapes_MoPD_{s}.{kind}" for s in stems for kind in ("png", "svg")}
    svg = (tmp_path / "plots/mine_Shapes_MoPD_BETA_NUM_TEACHERS.svg").read_text()
    told = ("75.51", "69.54", "BETA", "2 seeds, best of all other knobs")
    assert [text for text in told if text not in "".join(re.findall("<!-- .* -->", svg))] == []
    path = grid(search={"knobs": {ALPHA: [0.2, 0.8]}}, seeds=1)
    put(read(path.read_text()), lambda setting, classes, seed: 50.0)
    command(capsys, "best", path, *where)
    with Image.open(tmp_path / "plots/mine_Shapes_MoPD_ALPHA.png") as image:
        assert image.size == (840, 600)


def test_a_search_runs_and_its_status_and_table_are_shown(write, data_root, capsys, tmp_path):
    path = write(
        protocols="fewshot", datasets="shapes", methods="CoOp", seeds=1, shots=1,
        search={"knobs": {"OPTIM.LR": {"low": 0.001, "high": 0.1, "log": True}}, "sample": 2},
        opts={"OPTIM.MAX_EPOCH": 1},
    )  # fmt: skip
    where = ["--data", data_root, "--output", tmp_path / "out"]
    code, out, _ = command(capsys, "run", path, *where)
    assert code == 0 and "2 jobs, 0 done before, 2 to do" in out
    first, second = (f"embedded-{tag}" for tag in read_tags(path, data_root, tmp_path))
    code, out, _ = command(capsys, "status", path, *where)
    assert first in out and second in out and "2 jobs: 2 done" in out
    code, out, _ = command(capsys, "table", path, *where)
    assert first in out and second in out
    code, out, _ = command(capsys, "best", path, *where, "--write", tmp_path / "best.yaml")
    assert code == 0 and "2 of 2" in out and " by accuracy " in out
    found = list((tmp_path / "out").rglob("results.json"))
    assert len(found) == 2
    for file in found:
        content = json.loads(file.read_text())
        assert content["settings"]["TEST.SPLIT"] == "val" and content["total"] == 40


def read_tags(path, data, tmp_path):
    from tools.studies.file import read_study

    return [job.tag for job in read_study(path, data, tmp_path / "out").jobs]
