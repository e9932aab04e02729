"""A table of settings by dataset that is named as a pair of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dassl.utils import UserError
from runs.config import build_parser, setup_cfg

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def table(tmp_path):
    """Write a table of settings by dataset."""

    def file(**rows) -> str:
        path = tmp_path / "table.yaml"
        path.write_text(yaml.safe_dump(rows))
        return str(path)

    return file


def cfg_of(*pairs: str, config: str = "embedded", dataset: str = "shapes"):
    flags = ["--trainer", "MoPD", "--config-file", f"{ROOT}/configs/trainers/MoPD/{config}.yaml"]
    if dataset:
        flags += ["--dataset-config-file", f"{ROOT}/configs/datasets/{dataset}.yaml"]
    return setup_cfg(build_parser().parse_args([*flags, *pairs]))


def test_a_row_wins_over_files_and_another_pair_over_the_row(table, capsys):
    path = table(Shapes={"OPTIM": {"LR": 0.25}, "TRAINER.MOPD.ALPHA": 0.25}, Digits={"OPTIM.LR": 9})
    cfg = cfg_of("PER_DATASET", path)
    assert (cfg.OPTIM.LR, cfg.TRAINER.MOPD.ALPHA) == (0.25, 0.25)
    assert f"Settings for Shapes from {path}: " in capsys.readouterr().out
    cfg = cfg_of("OPTIM.LR", "0.5", "PER_DATASET", path)
    assert (cfg.OPTIM.LR, cfg.TRAINER.MOPD.ALPHA) == (0.5, 0.25)
    assert cfg_of("PER_DATASET", "").OPTIM.LR == cfg_of().OPTIM.LR


def test_the_table_is_laid_over_that_of_the_trainers_file(table):
    usual = cfg_of(config="vit_b16", dataset="eurosat")
    assert (usual.OPTIM.MAX_EPOCH, usual.TRAINER.MOPD.ALPHA) == (100, 0.5)
    path = table(EuroSAT={"TRAINER.MOPD.ALPHA": 0.75})
    cfg = cfg_of("PER_DATASET", path, config="vit_b16", dataset="eurosat")
    assert (cfg.OPTIM.MAX_EPOCH, cfg.TRAINER.MOPD.ALPHA) == (100, 0.75)


def test_own_data_is_found_by_its_name_and_by_its_label(table, tmp_path):
    name = f"folder:{tmp_path}/birds"
    pairs = ("DATASET.NAME", name, "PER_DATASET")
    from datasets.own import run_name

    for key in (name, run_name(name)):
        assert cfg_of(*pairs, table(**{key: {"OPTIM.LR": 0.25}}), dataset="").OPTIM.LR == 0.25


def test_a_table_without_the_dataset_is_told(table, capsys):
    path = table(Digits={"OPTIM.LR": 9})
    assert cfg_of("PER_DATASET", path).OPTIM.LR == cfg_of().OPTIM.LR
    assert f"Note: {path} has no settings for Shapes\n" in capsys.readouterr().out


def test_mistakes_of_a_table_are_told_with_its_name(table, tmp_path):
    path = table(Shapes={"OPTIM.LRR": 1})
    with pytest.raises(UserError, match=rf'{path}, Shapes: unknown key "OPTIM.LRR", do you mean'):
        cfg_of("PER_DATASET", path)
    with pytest.raises(UserError, match="no such configuration file: .*none.yaml"):
        cfg_of("PER_DATASET", str(tmp_path / "none.yaml"))
