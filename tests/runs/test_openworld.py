"""openworld.json: against the model of all classes, and bound to the results of both halves."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dassl.engine import build_trainer
from runs.openworld import FIGURES, read_openworld
from runs.trained import TrainedRun
from tests.runs.short_runs import base2new
from tools import predictions


def results(run, half):
    return json.loads((run / half / "results.json").read_text())


def of_all_classes(run, data):
    """Logits (N, C) and labels of all test images by a model of all classes, image by image."""
    cfg = TrainedRun.of(run).cfg(results(run, "new"), data)
    cfg.defrost()
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.CACHE.FEATURES = "all", False
    cfg.freeze()
    trainer = build_trainer(cfg)
    trainer.load_model(str(run), epoch=2)
    trainer.set_model_mode("eval")
    with torch.no_grad():
        parts = [(trainer.model_inference(b["img"]), b["label"]) for b in trainer.test_loader]
    return (torch.cat(column).numpy() for column in zip(*parts, strict=True))


def expected(logits, label, middle):
    """The figures by their definitions, pair by pair."""
    is_base = label < middle
    odds = np.exp(logits.astype(float))
    among_base = odds[:, :middle].max(1) / odds[:, :middle].sum(1)
    among_all = odds[:, :middle].max(1) / odds.sum(1)
    of_all = logits.argmax(1) == label
    base_hit = (logits[:, :middle].argmax(1) == label)[is_base]
    new_hit = (logits[:, middle:].argmax(1) == label - middle)[~is_base]
    pairs = [
        is_hit and new_is_hit and score > new_score
        for score, is_hit in zip(among_all[is_base], base_hit, strict=True)
        for new_score, new_is_hit in zip(among_all[~is_base], new_hit, strict=True)
    ]
    return {
        "base": 100 * of_all[is_base].mean(),
        "new": 100 * of_all[~is_base].mean(),
        "auroc": 100 * roc_auc_score(is_base, among_base),
        "openworld_auc": 100 * np.mean(pairs),
    }


def test_the_figures_are_those_of_a_model_of_all_classes(kept_run, data_root):
    found = json.loads((kept_run / "openworld.json").read_text())
    logits, label = of_all_classes(kept_run, data_root)
    middle = results(kept_run, "base")["num_classes"]
    wanted = expected(logits, label, middle)
    # one pair of scores that differ by rounding changes less
    assert {key: found[key] for key in FIGURES} == pytest.approx(wanted, rel=1e-5)
    assert 0 < found["openworld_auc"] < found["auroc"]


def test_a_file_of_other_results_is_none(kept_run, tmp_path):
    base, new = (results(kept_run, half) for half in ("base", "new"))
    assert read_openworld(kept_run, base, new)["base"] > 0
    for key, other in (("checkpoint", "0" * 12), ("correct", 1), ("content", None)):
        assert read_openworld(kept_run, {**base, key: other}, new) is None
        assert read_openworld(kept_run, base, {**new, key: other}) is None
    assert read_openworld(tmp_path, base, new) is None
    text = (kept_run / "openworld.json").read_text()
    for damaged in ("", "[]", text[:-20], text.replace('"auroc": ', '"auroc": 9')):
        (tmp_path / "openworld.json").write_text(damaged)
        assert read_openworld(tmp_path, base, new) is None
    older = json.loads(text)  # has other figures under the same names
    del older["of"]["version"]
    (tmp_path / "openworld.json").write_text(json.dumps(older))
    assert read_openworld(tmp_path, base, new) is None
    (tmp_path / "openworld.json").write_text(text)
    assert read_openworld(tmp_path, base, new) == json.loads(text)


def test_a_method_with_a_prompt_for_each_image_is_measured_afterwards(data_root, tmp_path, capsys):
    run = base2new("CoCoOp", data_root, tmp_path)
    note = "Note: no open-world figures (CoCoOp needs the text tower for each image); python -m "
    assert f"{note}tools.predictions make {run} makes them" in capsys.readouterr().out
    assert not (run / "openworld.json").exists()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    predictions.main(["make", str(run), "--data", str(data_root)])
    made = [run / "base/predictions.npz", run / "new/predictions.npz", run / "openworld.json"]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in made]
    assert all(path.read_bytes() == content for path, content in before.items())
    logits, label = of_all_classes(run, data_root)
    found = json.loads((run / "openworld.json").read_text())
    wanted = expected(logits, label, results(run, "base")["num_classes"])
    assert {key: found[key] for key in FIGURES} == pytest.approx(wanted, rel=1e-5)


def test_no_image_is_read_for_it(data_root, tmp_path, capsys):
    run = base2new("CoOp", data_root, tmp_path, "CACHE.FEATURES", "False")
    assert "no open-world figures (CACHE.FEATURES is False, or CoOp" in capsys.readouterr().out
    assert not (run / "openworld.json").exists() and (run / "new/results.json").is_file()


def test_base_images_that_have_changed_since_are_told(kept_run, data_root, tmp_path, capsys):
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(kept_run, run)
    shutil.copytree(data_root, data, symlinks=True)
    (run / "openworld.json").unlink()
    with np.load(run / "base/predictions.npz") as file:
        first, second = (data / name for name in file["path"][:2])
    shutil.copy(second, first)
    with pytest.raises(SystemExit):
        predictions.main(["make", str(run), "--data", str(data)])
    told = capsys.readouterr().err
    assert "base was tested on other images or labels than there are" in told
    assert not (run / "openworld.json").exists()
