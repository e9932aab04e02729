"""`tools.pools stats` and `choose`, against direct calculations and on the embedded world."""

import json
import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tools.learned.pool_look import RULES, Teachers, places, pool_numbers
from tools.pools import main
from trainers.prompts.pool import load_pool


def teachers(H=6, C=3, D=8, N=40, seed=0):
    make = torch.Generator().manual_seed(seed)
    features = F.normalize(torch.randn(H, C, D, generator=make), dim=-1)
    images = F.normalize(torch.randn(N, D, generator=make), dim=-1)
    label = torch.randint(C, (N,), generator=make)
    return Teachers([f"{h} {{}}" for h in range(H)], features, images, label, 20.0, "Shapes")


def test_numbers_are_those_of_a_direct_calculation():
    found = teachers()
    H, C, _ = found.features.shape
    told = pool_numbers(found)
    cosine = {
        (g, h): float(np.mean([found.features[g, c] @ found.features[h, c] for c in range(C)]))
        for g in range(H)
        for h in range(H)
    }
    pairs = [cosine[pair] for pair in combinations(range(H), 2)]
    assert told["mean_cosine"] == pytest.approx(np.mean(pairs), abs=1e-5)
    for h in range(H):
        twin = max((g for g in range(H) if g != h), key=lambda g: cosine[g, h])
        assert told["twin"][h] == twin
        assert told["redundancy"][h] == pytest.approx(cosine[twin, h], abs=1e-5)
        right = [
            max(range(C), key=lambda c: float(image @ found.features[h, c])) == int(y)
            for image, y in zip(found.images, found.label, strict=True)
        ]
        assert told["accuracy"][h] == pytest.approx(100 * np.mean(right), abs=1e-3)


def test_places_are_the_main_components_of_the_class_features():
    found = teachers()
    flat = found.features.flatten(1).double().numpy() / math.sqrt(found.features.shape[1])
    left, values, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    assert np.allclose(places(found.likeness()).abs().numpy(), np.abs(expected), atol=1e-4)
    assert places(torch.ones(1, 1)).tolist() == [[0.0, 0.0]]


def test_coverage_takes_one_of_each_kind_and_accuracy_the_best_ensemble():
    found = teachers(H=4, D=16)
    twins = Teachers(
        [*found.pool, *found.pool],
        torch.cat([found.features, F.normalize(found.features + 0.01, dim=-1)]),
        found.images, found.label, found.scale, "Shapes",
    )  # fmt: skip
    assert {h % 4 for h in RULES["coverage"](twins, 4, 0)} == {0, 1, 2, 3}
    (best,) = RULES["accuracy"](found, 1, 0)
    right = [found.accuracy(one) for one in found.features]
    assert right[best] == max(right)
    chosen = RULES["accuracy"](found, 2, 0)
    pairs = {h: found.accuracy(found.ensemble([best, h])) for h in range(4) if h != best}
    assert chosen[0] == best and pairs[chosen[1]] == max(pairs.values())


def test_random_draws_are_seeded_and_nested():
    found = teachers()
    assert RULES["random"](found, 6, 3)[:4] == RULES["random"](found, 4, 3)
    assert sorted(RULES["random"](found, 6, 3)) == list(range(6))
    assert RULES["random"](found, 6, 3) != RULES["random"](found, 6, 4)


def test_stats_of_a_single_teacher(data_root, capsys):
    flags = ["--dataset", "shapes", "--shots", "1", "--data", str(data_root)]
    assert main(["stats", "single", *flags]) == 0
    shown = capsys.readouterr().out
    assert "1 teachers, 20 classes, 20 training images." in shown and "cosine" not in shown


def test_stats_and_choose_of_the_embedded_pool(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--dataset", "shapes", "--shots", "2", "--data", str(data_root)]
    assert main(["stats", "embedded", *flags, "--out", "stats"]) == 0
    told = json.loads((tmp_path / "stats/stats.json").read_text())
    assert told["teachers"] == load_pool("embedded", "shapes") and told["images"] == 40
    best = told["teachers"][max(range(12), key=told["accuracy"].__getitem__)]
    assert best.startswith("a sketch") and best in capsys.readouterr().out
    # each teacher is most like one of its own medium
    for text, twin in zip(told["teachers"], told["twin"], strict=True):
        assert text[:6] == told["teachers"][twin][:6]
    assert {path.name for path in (tmp_path / "stats").iterdir()} == {
        *("stats.json", "teachers.png", "teachers.svg")
    }
    command = ["choose", "embedded", *flags, "--count", "3", "--out", "three.yaml"]
    assert main(command) == 0
    chosen = load_pool("three.yaml", "shapes")
    assert {text.split()[1].rstrip(",") for text in chosen} == {"photo", "sketch", "icon"}
    before = (tmp_path / "three.yaml").read_bytes()
    assert main(command) == 1
    assert "three.yaml exists already: give another --out" in capsys.readouterr().err
    assert (tmp_path / "three.yaml").read_bytes() == before
    assert main([*command[:-1], "more.yaml", "--count", "13"]) == 1
    assert "--count is 13, but embedded has 12 teachers" in capsys.readouterr().err


def test_images_to_test_on_choose_no_teachers(data_root, tmp_path, capsys):
    flags = ["--dataset", "shapes_blurred", "--classes", "all", "--data", str(data_root)]
    assert main(["stats", "single", *flags]) == 1
    assert "shapes_blurred has no training images: give another" in capsys.readouterr().err


def test_a_part_of_a_pool_of_your_own_includes_that_one(data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed.yaml").write_text("- a snapshot of a {}.\n- a sketch of a {}.\n")
    flags = ["--dataset", "shapes", "--shots", "1", "--data", str(data_root), "--count", "1"]
    assert main(["choose", "./mixed.yaml", *flags, "--out", "one.yaml"]) == 0
    (one,) = load_pool("one.yaml", "shapes")
    assert one in ("a snapshot of a {}.", "a sketch of a {}.")
