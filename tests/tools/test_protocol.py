"""base2new end to end: through the tool, and through the scripts as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dassl.engine import SimpleTrainer
from runs import command
from tools import protocol
from tools.results.summary import harmonic_mean

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1")


def arguments(trainer: str, data: Path, output: Path, *opts: str, shots: int = 2) -> list[str]:
    return [
        *("base2new", "--trainer", trainer, "--dataset", "shapes", "--seed", "1"),
        *("--shots", str(shots), "--data", str(data), "--output", str(output)),
        *opts,
    ]


@pytest.mark.parametrize("trainer", ["ZeroshotCLIP", "CoOp", "MoPD"])
def test_base2new_tests_both_halves_and_prints_the_table(data_root, tmp_path, capsys, trainer):
    settings = () if trainer == "ZeroshotCLIP" else SHORT
    base, new = protocol.main(arguments(trainer, data_root, tmp_path, *settings))
    folder = tmp_path / f"base2new/shapes/{trainer}/embedded/shots_2/seed1"
    for results, classes in ((base, "base"), (new, "new")):
        assert results == json.loads((folder / classes / "results.json").read_text())
        assert results["classes"] == classes and results["protocol"] == "base2new"
        assert results["trainer"] == trainer and results["shots"] == 2
    assert base["config_hash"] == new["config_hash"]
    header, _, row = capsys.readouterr().out.strip().splitlines()[-3:]
    names = ["dataset", "method", "config", "shots", "seed", "base", "new", "H", "time"]
    assert header.split() == names
    h = harmonic_mean(base["accuracy"], new["accuracy"])
    numbers = [f"{value:.2f}" for value in (base["accuracy"], new["accuracy"], h)]
    assert row.split()[:8] == ["Shapes", trainer, "embedded", "2", "1", *numbers]


def test_base2new_again_trains_nothing_and_shows_the_same_table(data_root, tmp_path, capsys):
    first = protocol.main(arguments("CoOp", data_root, tmp_path, *SHORT))
    table = capsys.readouterr().out.strip().splitlines()[-3:]
    assert protocol.main(arguments("CoOp", data_root, tmp_path, *SHORT)) == first
    shown = capsys.readouterr().out
    assert shown.count("Results exist already") == 2 and "epoch [" not in shown
    assert shown.strip().splitlines()[-3:] == table


# tools.protocol in a process that waits in its third epoch for its end
WAITING = """
import sys, time
from dassl.engine import SimpleTrainer
from tools import protocol

def wait(trainer):
    if trainer.epoch == 2:
        print("waits", flush=True)
        time.sleep(600)

SimpleTrainer.before_epoch = wait
protocol.main(sys.argv[1:])
"""


def test_a_killed_run_continues_and_gives_the_same_results(data_root, tmp_path):
    opts = ("OPTIM.MAX_EPOCH", "12", "TRAIN.CHECKPOINT_FREQ", "1")
    whole = protocol.main(arguments("MoPD", data_root, tmp_path / "whole", *opts))
    cut = arguments("MoPD", data_root, tmp_path / "cut", *opts)
    run = tmp_path / "cut/base2new/shapes/MoPD/embedded/shots_2/seed1"
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, *cut], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and "waits\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGKILL)
    assert (run / "prompt_learner/model.pth.tar-2").exists()
    assert not (run / "base/results.json").exists() and not (run / "new/results.json").exists()
    resumed = protocol.main(cut)
    for a, b in zip(whole, resumed, strict=True):
        for key in ("accuracy", "macro_f1", "correct", "total", "config_hash", "epoch"):
            assert a[key] == b[key], key


def test_ctrl_c_ends_with_one_line_and_no_results(data_root, tmp_path, monkeypatch, capsys):
    def interrupted(trainer) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(SimpleTrainer, "before_epoch", interrupted)
    call = arguments("CoOp", data_root, tmp_path, *SHORT)
    with pytest.raises(SystemExit) as stop:
        command.run(lambda: protocol.main(call), resumes=True)
    assert stop.value.code == 130
    message = "interrupted: the same command continues where it was\n"
    assert capsys.readouterr().err == message
    assert not list(tmp_path.rglob("results.json"))
    assert list(tmp_path.rglob("model.pth.tar-1"))


def test_a_wrong_dataset_or_configuration_lists_what_there_is(data_root, tmp_path, capsys):
    for flags, parts in (
        (("--dataset", "shape"), ('no dataset "shape", do you mean "shapes"? Known: ', "dtd")),
        (("--config", "rn50"), ('no configuration "rn50"', "embedded, vit_b16")),
        (("--config", "embeded"), ('"embeded" in ', 'CoOp, do you mean "embedded"? Known: ')),
        (("--trainer", "MoPDD"), ('trainer "MoPDD", do you mean "MoPD"?', "CoCoOp, CoOp")),
        (("--shots", "0"), ("shots 0",)),
        (("--seed", "-1"), ("seed -1",)),
    ):
        with pytest.raises(SystemExit) as stop:
            protocol.main([*arguments("CoOp", data_root, tmp_path), *flags])
        assert stop.value.code == 1
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        for part in parts:
            assert part in message


def test_a_wrong_target_or_protocol_is_told_with_the_closest(data_root, tmp_path, capsys):
    words = arguments("CoOp", data_root, tmp_path)
    for name, code, told in (
        ("xd", 1, 'there is no dataset "digit", do you mean "digits"?'),
        ("base2neww", 2, "invalid choice: 'base2neww'"),
    ):
        with pytest.raises(SystemExit) as stop:
            protocol.main([name, *words[1:], "--targets", "digit"])
        shown = capsys.readouterr().err
        assert stop.value.code == code and told in shown
    assert shown.endswith(', do you mean "base2new"?\n')


def test_tags_keep_variants_apart(data_root, tmp_path):
    for tag, beta in (("", "0.1"), ("beta", "0.7")):
        protocol.main(
            [
                *arguments("MoPD", data_root, tmp_path, "--tag", tag, *SHORT),
                *("TRAINER.MOPD.BETA", beta),
            ]
        )
    runs = sorted(p.name for p in (tmp_path / "base2new/shapes/MoPD").iterdir())
    assert runs == ["embedded", "embedded-beta"]


@pytest.mark.parametrize("method", ["zsclip", "coop", "mopd"])
def test_scripts_run_from_any_folder_with_relative_paths(data_root, tmp_path, method):
    short = () if method == "zsclip" else SHORT
    done = subprocess.run(
        ["bash", str(ROOT / f"scripts/{method}/base2new.sh"), "shapes", "1", "1", *short],
        cwd=tmp_path,
        env={**os.environ, "DATA": str(data_root), "OUTPUT": "runs", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("Shapes")
    results = sorted(p.parent.name for p in (tmp_path / "runs").rglob("results.json"))
    assert results == ["base", "new"]
    assert list((tmp_path / "runs").glob("base2new/shapes/*/embedded/shots_1/seed1"))


@pytest.mark.parametrize(
    "own", ["train.py", "datasets/__init__.py", "tools.py", "clip/__init__.py", "yaml.py"]
)
def test_files_of_the_working_folder_are_never_run(data_root, tmp_path, own):
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/zsclip/base2new.sh"), "shapes", "1", "1"],
        cwd=tmp_path,
        env={**os.environ, "DATA": str(data_root), "OUTPUT": "runs", "PYTHON": sys.executable}
        # an empty entry is the working folder, as of `PYTHONPATH=$PYTHONPATH:/opt`
        | {"PYTHONPATH": ":/opt"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("own", ["yaml.py", "runs/__init__.py", "trainers/__init__.py"])
def test_a_command_from_another_folder_runs_no_files_of_it(tmp_path, own):
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    done = subprocess.run(
        [sys.executable, "-m", "tools.pools", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "single" in done.stdout, done.stderr
    assert not (tmp_path / "marker").exists()


def test_a_checkout_for_windows_keeps_the_ends_of_lines(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    call = ["git", "check-attr", "eol", "text", "--", "scripts/run.sh", "assets/shapes_clip.pt"]
    shown = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "scripts/run.sh: eol: lf" in shown and "assets/shapes_clip.pt: text: unset" in shown


def test_a_script_without_arguments_says_how_to_call_it(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/mopd/base2new.sh"), "shapes"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "DATASET SEED [SHOTS] [KEY VALUE ...]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_script_call_ends_with_code_1(data_root, tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "scripts/mopd/base2new.sh"), "shapes", "1", "OPTIM.LRR", "0.1"],
        cwd=tmp_path,
        env={**os.environ, "DATA": str(data_root), "OUTPUT": "runs", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'unknown key "OPTIM.LRR", do you mean "OPTIM.LR"?' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("SEED", "5"), "SEED is set by the protocol: give it as SEED (--seed)"),
        (("DATASET.SUBSAMPLE_CLASSES", "all"), "it tests base and new classes"),
        (("OUTPUT_DIR", "x"), "use OUTPUT (--output) and TAG (--tag)"),
        (("16x",), "must come in twos (and SHOTS is a whole number), but these are: 16x"),
        (("TRAINER.COOP.CSC", "True"), "new classes have none: base2new needs CSC False"),
    ],
)
def test_settings_that_contradict_the_protocol_are_refused(
    data_root, tmp_path, capsys, opts, message
):
    with pytest.raises(SystemExit) as stop:
        protocol.main(arguments("CoOp", data_root, tmp_path, "--", *opts))
    assert stop.value.code == 1 and message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_values_may_begin_with_a_minus(data_root, tmp_path):
    pairs = ("TRAINER.COOP.CTX_INIT", "-photo", "OPTIM.WARMUP_EPOCH", "-1", *SHORT)
    results = protocol.main(arguments("CoOp", data_root, tmp_path, "--", *pairs))
    settings = (tmp_path / "base2new/shapes/CoOp/embedded/shots_2/seed1/config.yaml").read_text()
    assert "TRAINER.COOP.CTX_INIT: -photo" in settings and len(results) == 2


def test_with_the_best_epoch_base_and_new_are_tested_with_the_same_model(data_root, tmp_path):
    best = ("OPTIM.MAX_EPOCH", "4", "TEST.FINAL_MODEL", "best_val")
    base, new = protocol.main(arguments("CoOp", data_root, tmp_path, *best))
    assert base["checkpoint"] == new["checkpoint"] and base["epoch"] == new["epoch"] <= 4
