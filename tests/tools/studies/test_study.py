"""Studies: what a file may say, and runs that fail, are cut off and go on."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import yaml

from dassl.utils import UserError
from tools import protocol
from tools.studies import runner as study_runner
from tools.studies.file import read_study
from tools.studies.runner import Runner, last_error, log_path, places, running, state
from tools.study import main, run, status
from trainers.prompts.pool import load_pool

ROOT = Path(__file__).resolve().parents[3]
STUDIES = ROOT / "configs/studies"
SHORT = {"OPTIM.MAX_EPOCH": 2, "TRAIN.CHECKPOINT_FREQ": 1}


@pytest.fixture
def write(tmp_path):
    """Write a study, given as keys or as text."""

    def file(content=None, **keys) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(content if content is not None else yaml.safe_dump(keys, sort_keys=False))
        return path

    return file


@pytest.fixture
def read(write, data_root, tmp_path):
    """The study of some keys, or of a text."""
    return lambda content=None, **keys: read_study(
        write(content, **keys), data_root, tmp_path / "out"
    )


def mistakes(read, content=None, **keys) -> list[str]:
    """What is said of a wrong study, without its first line."""
    with pytest.raises(UserError) as error:
        read(content, **keys)
    head, *lines = str(error.value).splitlines()
    assert re.fullmatch(rf".*/mine.yaml: {len(lines)} mistakes?, nothing is run", head), head
    return [line.strip() for line in lines]


# ---- files ------------------------------------------------------------------------------------


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
        ("seeds: expected whole numbers from 0, found [-1]", ""),
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
        ("methods: [", r"mine.yaml is not valid YAML: "),
        ("methods:\n  CoOp:\n  CoOp:\n", r'mine.yaml, line 2: "CoOp" is there 2 times'),
    ],
)
def test_files_that_are_no_study_are_refused(read, text, message):
    with pytest.raises(UserError, match=message):
        read(text)


def test_a_missing_file_lists_the_shipped_studies(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["status", str(tmp_path / "none.yaml")])
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert "no such study" in message and "embedded_base2new" in message


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


# ---- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "count", "jobs", "expected"),
    [
        (None, 0, 0, [None]),
        (None, 0, 3, [None] * 3),
        ("", 0, 0, [None]),
        ("0,1", 0, 0, [None]),  # no GPU, whatever is said
        (None, 2, 0, ["0", "1"]),
        ("5,7", 2, 0, ["5", "7"]),
        ("5,7", 2, 3, ["5", "7", "5"]),
        (None, 4, 1, ["0"]),
    ],
)
def test_one_job_for_each_gpu_unless_told_otherwise(monkeypatch, visible, count, jobs, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert places(jobs) == expected


def test_each_job_sees_its_own_gpu_and_two_run_at_a_time(read, tmp_path, monkeypatch, capsys):
    fake = tmp_path / "python"
    # stands for a job: says what it sees, waits until two have begun, and fails
    fake.write_text(
        f"#!/bin/sh\necho $CUDA_VISIBLE_DEVICES >> {tmp_path}/seen\n"
        f"while [ $(wc -l < {tmp_path}/seen) -lt 2 ]; do sleep 0.05; done\n"
        "echo error: no\necho luck\nexit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(study_runner.sys, "executable", str(fake))
    study = read(protocols="base2new", datasets="shapes", methods="CoOp", seeds=[1, 2, 3, 4])
    failures = Runner(study, ["5", "7"]).run()
    seen = (tmp_path / "seen").read_text().split()
    assert sorted(seen[:2]) == ["5", "7"] and sorted(seen) == ["5", "5", "7", "7"]
    assert sorted((f.job.seed, f.error) for f in failures) == [
        (s, "error: no luck") for s in (1, 2, 3, 4)
    ]
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "mine: 4 jobs, 0 done before, 4 to do, 2 at a time on GPU 5, 7"
    assert re.fullmatch(
        r"\[1/4\] base2new shapes CoOp embedded, shots 16, seed [12]: FAILED, error: no luck "
        r"\(\d s, \d s left\)",
        others[0],
    )
    assert len(others) == 4 and "left" not in others[3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_ends_all_jobs_first(read, tmp_path, monkeypatch, capsys, number):
    fake = tmp_path / "python"
    # stands for a job: works until it is interrupted
    fake.write_text(
        f"#!{sys.executable}\nimport pathlib, time\npathlib.Path('{tmp_path}/begun').touch()\n"
        f"try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
        f"    pathlib.Path('{tmp_path}/ended').touch()\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(study_runner.sys, "executable", str(fake))
    study = read(protocols="base2new", datasets="shapes", methods="CoOp", seeds=[1, 2])

    def interrupt() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        run(study)
    thread.join()
    assert stop.value.code == 130 and (tmp_path / "ended").exists()
    message = "interrupted: the same command continues where the jobs were\n"
    assert capsys.readouterr().err == message
    assert [state(study, job) for job in study.jobs] == ["to do", "to do"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# ---- runs -------------------------------------------------------------------------------------


def results(folder: Path) -> dict[str, dict]:
    """All results below a folder, without what differs from run to run."""
    found = {}
    for path in folder.rglob("results.json"):
        content = json.loads(path.read_text())
        del content["seconds"], content["memory"]
        found[str(path.relative_to(folder))] = content
    return found


def test_a_failing_job_is_reported_and_the_others_are_done(write, data_root, tmp_path, capsys):
    path = write(
        protocols="fewshot", shots=1, seeds=1, config="embedded", opts=SHORT,
        datasets=["folder:no/such", "shapes"], methods=["ZeroshotCLIP"],
    )  # fmt: skip
    where = ["--data", str(data_root), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        main(["table", str(path), *where])
    assert "has no results yet: python -m tools.study run" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["run", str(path), *where])
    assert stop.value.code == 1
    shown = capsys.readouterr()
    assert "datasets that cannot be used: folder:no/such; jobs that need them: 1" in shown.out
    assert "2 jobs, 0 done before, 1 to do, 1 at a time" in shown.out
    assert "[2/2] fewshot shapes ZeroshotCLIP embedded, shots 1, seed 1: Shapes all" in shown.out
    study = read_study(path, data_root, tmp_path / "out")
    broken, good = study.jobs
    log = log_path(study, broken, failed=True)
    assert log.is_file() and "no/such" in last_error(log)
    report = shown.err.splitlines()
    assert "1 of 2 jobs failed:" in report and f"    log: {log}" in report
    assert (state(study, broken), state(study, good)) == ("failed", "done")
    lines = status(study).splitlines()
    assert lines[0].split() == ["protocol", "dataset", "method", "config", "shots", "seed", "1"]
    assert lines[2].split()[-1] == "failed" and lines[3].split()[-1] == "done"
    assert lines[5] == "2 jobs: 1 done, 1 failed" and lines[-1] == f"    log: {log}"
    main(["table", str(path), *where])
    shown = capsys.readouterr()
    assert "Shapes" in shown.out and "1 of 2 jobs are missing" in shown.err
    # other settings under the same name are not taken for done
    changed = (
        path.read_text()
        .replace(
            "protocols",
            "methods: {ZeroshotCLIP: {opts: {TRAINER.ZEROSHOTCLIP.POOL: mixed}}}\nprotocols",
        )
        .replace("methods:\n- ZeroshotCLIP\n", "")
    )
    path.write_text(changed.replace("- folder:no/such\n", ""))
    with pytest.raises(SystemExit):
        main(["run", str(path), *where])
    assert "POOL is 'single' there, 'mixed' here" in capsys.readouterr().err


def test_a_study_that_is_killed_at_random_goes_on_to_the_same_results(write, data_root, tmp_path):
    path = write(
        protocols="xd", datasets="shapes", shots=2, seeds=1, methods="MoPD",
        opts={"OPTIM.MAX_EPOCH": 10, "TRAIN.CHECKPOINT_FREQ": 1},
    )  # fmt: skip
    (whole,) = read_study(path, data_root, tmp_path / "whole").jobs
    protocol.main(whole.command())
    study = read_study(path, data_root, tmp_path / "cut")
    (job,) = study.jobs

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "tools.study", "run", str(path)]
        return subprocess.Popen(
            [*command, "--data", str(data_root), "--output", str(tmp_path / "cut")],
            cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def wait_until(happened) -> None:
        deadline = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    log = log_path(study, job)
    for _ in range(2):
        with start() as process:
            wait_until(lambda process=process: running(log) or process.poll() is not None)
            assert state(study, job) in ("running", "done")
            time.sleep(random.uniform(0, 4))
            os.killpg(process.pid, signal.SIGKILL)
        wait_until(lambda: not running(log))
        assert state(study, job) in ("to do", "cut off", "done")
    with start() as process:
        assert process.wait() == 0
    assert results(tmp_path / "cut") == results(tmp_path / "whole")
    assert state(study, job) == "done"
