"""The commands of the README run as they are written, short of training time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runs.results import find_results
from tests.tools.results.results_tree import write_base2new
from tools.results.summary import summarise
from tools.results.trade import trade_words

ROOT = Path(__file__).resolve().parents[1]
SHORT = "OPTIM.MAX_EPOCH 2"
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line]
# what is added to a command so that it ends soon; the rest stays as a reader types it
ADDED = {
    "make demo": f"VENV={sys.executable} --old-file .venv/installed --no-print-directory",
    "python -m benchmarks.text_side": "--classes 8 --runs 1 --at-least 2",
    "python -m benchmarks.cocoop_step": "--classes 8 --runs 1 --at-least 2",
}


def test_the_readme_has_the_commands_that_are_run_here():
    assert COMMANDS == [
        "make demo",
        "make test",
        "bash scripts/mopd/base2new.sh shapes 1",
        "bash scripts/coop/base2new.sh shapes 1",
        "bash scripts/zsclip/base2new.sh shapes 1",
        "TAG=two_teachers bash scripts/mopd/base2new.sh shapes 2 8 TRAINER.MOPD.NUM_TEACHERS 2 "
        "TRAINER.MOPD.ALPHA 0.5",
        "python -m tools.tables output/base2new/shapes",
        'make demo METHODS="zsclip zsclip2 coop cocoop kgcoop prograd sipd mopd"',
        "python -m tools.prepare_data oxford_pets",
        "python -m tools.doctor oxford_pets",
        "bash scripts/mopd/base2new.sh oxford_pets 1",
        "bash scripts/mopd/base2new.sh imagenet 1",
        "python -m tools.study run configs/studies/base2new.yaml",
        "python -m tools.study status configs/studies/base2new.yaml",
        "python -m tools.study table configs/studies/base2new.yaml",
        "TAG=my_pool bash scripts/mopd/base2new.sh shapes 1 TRAINER.MOPD.POOL my_pool.yaml "
        "TRAINER.MOPD.NUM_TEACHERS 2",
        "python -m benchmarks.text_side",
        "python -m benchmarks.cocoop_step",
        "bash scripts/kgcoop/base2new.sh shapes 1 16 CACHE.VIEWS True",
        "python -m tools.cache list",
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_root):
    """Run a command as in a clone, with data and output elsewhere."""
    work = tmp_path_factory.mktemp("readme")
    environment = {**os.environ, "DATA": str(data_root), "OUTPUT": str(work / "output")}
    environment |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def call(command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT, env={**environment, **more}, capture_output=True, text=True,
        )  # fmt: skip

    call.work, call.data = work, data_root
    return call


def test_every_script_command_prints_its_row(run):
    pool = re.search(r"```yaml\n(# my_pool.yaml.*?)```", README, re.DOTALL)[1]
    (run.work / "my_pool.yaml").write_text(pool)
    scripts = [c for c in COMMANDS if "bash scripts" in c and " shapes " in c]
    assert len(scripts) == 6
    for command in scripts:
        command = command.replace("my_pool.yaml", str(run.work / "my_pool.yaml"))
        if "zsclip" not in command:
            command += f" {SHORT}"
        done = run(command)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.strip().splitlines()[-1].startswith("Shapes"), command
    tables = next(c for c in COMMANDS if "tools.tables" in c)
    done = run(tables.replace("output/", f"{run.work}/output/"))
    assert done.returncode == 0, done.stderr
    rows = [
        line.split()[:2]
        for line in done.stdout.splitlines()
        if line[:4] in ("CoOp", "KgCo", "MoPD", "Zero")
    ]
    assert sorted(rows) == [
        ["CoOp", "embedded"],
        ["KgCoOp", "embedded"],
        ["MoPD", "embedded"],
        ["MoPD", "embedded-my_pool"],
        ["MoPD", "embedded-two_teachers"],
        ["ZeroshotCLIP", "embedded"],
    ]
    done = run(next(c for c in COMMANDS if "tools.cache" in c))
    assert done.returncode == 0 and "Shapes, base classes, 16 shots, seed 1" in done.stdout


@pytest.mark.parametrize("dataset", ["oxford_pets", "imagenet"])
def test_without_the_images_a_command_says_what_is_missing_and_how_to_get_it(run, dataset):
    done = run(f"bash scripts/mopd/base2new.sh {dataset} 1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"there is no {run.data / dataset}" in done.stderr
    assert f"python -m tools.prepare_data {dataset}" in done.stderr
    done = run(f"python -m tools.doctor {dataset} --data {run.data}")
    assert done.returncode == 1 and f"python -m tools.prepare_data {dataset}" in done.stdout
    done = run(f"python -m tools.prepare_data {dataset} --data {run.data} --dry-run")
    assert done.returncode == 0, done.stderr
    assert not (run.data / dataset).exists()


def test_the_study_of_the_main_table_names_each_dataset_that_is_missing(run):
    commands = [c for c in COMMANDS if "tools.study" in c]
    where = f"--data {run.data} --output {run.work}/study"
    found = {c.split()[3]: run(f"{c} {where}") for c in commands}
    assert found["run"].returncode == 1 and "Traceback" not in found["run"].stderr
    assert "220 of 220 jobs failed" in found["run"].stderr
    for dataset in ("imagenet", "oxford_pets", "ucf101"):
        assert f"python -m tools.prepare_data {dataset}" in found["run"].stderr
    assert found["status"].returncode == 0 and "220 jobs: 220 failed" in found["status"].stdout
    assert found["table"].returncode == 1 and "has no results yet" in found["table"].stderr


def test_the_demo_ends_with_its_table_of_all_methods_and_what_they_gain(run):
    plain, every = (command for command in COMMANDS if command.startswith("make demo"))
    assert plain == "make demo"
    command = f'{every} {ADDED["make demo"]} DEMO={run.work}/demo OPTS="1 {SHORT}"'
    done = run(command)
    assert done.returncode == 0, done.stderr
    table, said = done.stdout.split("\n\n")[-2:]
    rows = [line.split() for line in table.splitlines()[-8:]]
    assert [row[1] for row in rows] == [
        *("CoCoOp", "CoOp", "KgCoOp", "MoPD", "ProGrad", "SiPD", "ZeroshotCLIP", "ZeroshotCLIP2"),
    ]
    assert all(row[0] == "Shapes" and row[3] == "1" for row in rows)
    *words, png, svg = said.splitlines()
    picture = run.work / "demo/plots/base2new_Shapes_new_over_base"
    assert [png, svg] == [f"{picture}.png", f"{picture}.svg"]
    assert Path(png).is_file() and Path(svg).is_file()
    assert words[0].startswith("On Shapes, against ZeroshotCLIP (base ")
    assert all(f" {row[1]} " in " ".join(words) for row in rows)
    again = run(command)
    assert again.returncode == 0 and again.stdout.endswith(f"{table}\n\n{said}")


def test_the_readme_shows_what_the_demo_says_of_its_table(tmp_path):
    table, said = re.search(r"```text\n(dataset.*?)```", README, re.DOTALL)[1].split("\n\n")
    for line in table.splitlines()[2:]:
        row = line.split()
        write_base2new(tmp_path, float(row[5]), float(row[6]), trainer=row[1])
    (summary,) = summarise(find_results(tmp_path))
    shown = " ".join(line for line in said.splitlines() if not line.startswith(".demo/plots/"))
    number = re.compile(r"\d+\.\d")
    made = trade_words(summary, "Shapes")
    assert number.sub("#", shown) == number.sub("#", made)
    # the table is rounded, and its differences may round to the next tenth
    expected = [float(value) for value in number.findall(made)]
    assert [float(value) for value in number.findall(shown)] == pytest.approx(expected, abs=0.11)


def test_make_test_calls_pytest_on_everything(run):
    done = run("make --dry-run test")
    assert done.returncode == 0 and "-m pytest" in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if "benchmarks" in c])
def test_a_benchmark_command_prints_the_ratio(run, command):
    done = run(f"{command} {ADDED[command]}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d\.\dx", done.stdout)
