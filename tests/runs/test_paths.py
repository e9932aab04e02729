"""Paths that cannot be, in every option, setting and variable that takes one."""

from __future__ import annotations

from importlib import import_module

import pytest

import train

HOME = "~nosuchuser/x"
TOLD = "there is no home folder ~nosuchuser: write the whole path"


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--root", "--root: DATASET.ROOT"),
        ("--output-dir", "--output-dir: OUTPUT_DIR"),
        ("--resume", "--resume: RESUME"),
        *((flag, flag) for flag in ("--model-dir", "--config-file", "--dataset-config-file")),
    ],
)
def test_a_flag_of_train_is_named(job, refused, flag, named):
    words = job("CoOp")
    if flag in words:
        words[words.index(flag) + 1] = HOME
    else:
        words = [flag, HOME, *words]
    assert refused(words) == f"{named} is {HOME!r}: {TOLD}"


@pytest.mark.parametrize(
    ("module", "words", "option"),
    [
        ("prepare_data", "dtd --data", "--data"),
        ("doctor", "--data", "--data"),
        ("cache", "list --dir", "--dir"),
        ("plots", "x --out", "--out"),
        ("plots", "--out y", "DIR"),
        ("tables", "x --out", "--out"),
        ("tables", "", "DIR"),
        ("study", "run x --data", "--data"),
        ("study", "run x --output", "--output"),
        ("study", "status", "file"),
        ("measure_embedded", "--data", "--data"),
        ("pretrain_embedded", "--out", "--out"),
        ("protocol", "base2new --trainer CoOp --dataset shapes --seed 1 --data", "--data"),
        ("protocol", "base2new --trainer CoOp --dataset shapes --seed 1 --output", "--output"),
    ],
)
def test_an_option_of_a_tool_is_named(capsys, module, words, option):
    with pytest.raises(SystemExit) as stop:
        import_module(f"tools.{module}").main([*words.split(), HOME])
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: argument {option}: {TOLD}\n")


@pytest.mark.parametrize(
    "key",
    [
        *("DATASET.ROOT", "OUTPUT_DIR", "RESUME", "CACHE.DIR", "MODEL.BACKBONE.NAME"),
        *("MODEL.INIT_WEIGHTS", "TRAINER.MOPD.POOL"),
    ],
)
def test_a_setting_is_named(job, refused, key):
    assert refused(job("MoPD", key, HOME)) == f"command line: {key} is {HOME!r}: {TOLD}"
    message = refused(job("MoPD", key, "a\0b"))
    assert message.startswith(f"command line: {key} is 'a\\x00b', expected a path or name ")
    assert message.endswith(" without NUL characters")


def test_a_setting_of_a_file_is_named_with_it(job, refused, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text('OUTPUT_DIR: "a\\0b"\n')
    words = job("CoOp")
    words[words.index("--dataset-config-file") + 1] = str(path)
    at = words.index("--output-dir")
    message = refused([*words[:at], *words[at + 2 :], "DATASET.NAME", "Shapes"])
    assert message.startswith(f"{path}: OUTPUT_DIR is 'a\\x00b', expected a path or name ")


def test_the_variable_of_the_cache_is_named(job, refused, monkeypatch):
    monkeypatch.setenv("MOPD_CACHE", HOME)
    assert refused(job("CoOp")) == f"environment: MOPD_CACHE is {HOME!r}: {TOLD}"


def test_own_data_is_named(job, refused):
    name = f"folder:{HOME}"
    assert refused(job("CoOp", "DATASET.NAME", name)) == f'"{name}": {TOLD}'
    told = refused(job("CoOp", "DATASET.NAME", "Folder", "DATASET.PATH", HOME))
    assert told == f"command line: DATASET.PATH is {HOME!r}: {TOLD}"


def test_a_home_folder_is_put_in_full_everywhere(job, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["--no-train", *job("ZeroshotCLIP", "OUTPUT_DIR", "~/there")]
    train.main(words)
    assert (tmp_path / "there/log.txt").is_file()
    words[words.index("--output-dir") + 1] = "~/flag"
    train.main(words[:-2])
    assert (tmp_path / "flag/log.txt").is_file()
