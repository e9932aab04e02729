"""What `tools.words` reads in learned contexts."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from runs.trained import TrainedRun
from tests.tools.results import calls
from tools.learned.words import nearest, token_text
from tools.words import main
from trainers.backbones.tokens import encode

refused = partial(calls.refused, main)
ROOT = Path(__file__).resolve().parents[3]
SINGLE = ("TRAINER.COOP.CSC", "True", "TRAINER.COOP.CTX_INIT", "my", "OPTIM.LR", "1e-4")


def rows(text: str) -> list[list[str]]:
    """The cells of all vectors."""
    lines = [line for line in text.splitlines() if re.match(r"\d+  ", line)]
    return [re.split(r"\s{2,}", line) for line in lines]


def test_each_vector_has_its_nearest_tokens_with_distances(trained, capsys):
    run = trained("base2new", "MoPD")
    main(["--run", str(run), "--top", "3"])
    shown = capsys.readouterr().out
    backbone = yaml.safe_load((run / "config.yaml").read_text())["MODEL.BACKBONE.NAME"]
    table = torch.load(ROOT / backbone, weights_only=True)["token_embedding.weight"].double()
    state = torch.load(run / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]
    expected = []
    for m, vector in enumerate(state["ctx"].double(), start=1):
        distances, tokens = (table - vector).norm(dim=-1).sort()
        pairs = zip(distances[:3].tolist(), tokens[:3].tolist(), strict=True)
        expected.append([str(m), *(f"{token_text(i)} {distance:.4f}" for distance, i in pairs)])
    assert rows(shown) == expected
    assert "Read this with care" in shown and "meta-net" not in shown


def test_the_distances_are_those_of_each_pair():
    generator = torch.Generator().manual_seed(0)
    ctx, table = torch.randn(3, 5, generator=generator), torch.randn(7, 5, generator=generator)
    distances, tokens = nearest(ctx, table, 7)
    for m in range(3):
        assert sorted(tokens[m].tolist()) == list(range(7))
        for distance, token in zip(distances[m], tokens[m], strict=True):
            assert distance == pytest.approx(float((ctx[m] - table[token]).norm()), rel=1e-5)
    assert nearest(ctx, table, 9)[0].shape == (3, 7)


def test_contexts_of_single_classes_are_read_one_by_one(trained, data_root, capsys):
    run = trained("fewshot", "CoOp", *SINGLE)
    main(["--run", str(run), "--data", str(data_root), "--top", "1"])
    shown = capsys.readouterr().out
    names = TrainedRun.of(run).open(data=data_root).dm.dataset.classnames
    # one token for each class, near the word that it started from
    assert [row[1].split()[0] for row in rows(shown)] == ["my"] * len(names)
    assert [line for line in shown.splitlines() if line in names] == names


def test_without_the_data_classes_have_numbers(trained, tmp_path, capsys):
    run = trained("fewshot", "CoOp", *SINGLE)
    (tmp_path / "shapes").mkdir()
    main(["--run", str(run), "--data", str(tmp_path), "--top", "1"])
    shown = capsys.readouterr().out
    assert "Note: classes have numbers, as their names cannot be read: " in shown
    assert "\nclass 0\n" in shown and f"\nclass {len(rows(shown)) - 1}\n" in shown


def test_the_words_of_cocoop_are_said_to_move(trained, capsys):
    main(["--run", str(trained("base2new", "CoCoOp"))])
    assert "The meta-net moves all vectors for each image" in capsys.readouterr().out


def test_tokens_are_shown_so_that_they_can_be_read():
    assert [token_text(i) for i in encode("cat")] == ["cat"]
    assert token_text(0) == "!-" and token_text(256) == "!"
    assert token_text(49406) == "<|startoftext|>" and token_text(49407) == "<|endoftext|>"
    shown = [token_text(i) for i in range(49408)]
    assert all(text.isprintable() and " " not in text and text for text in shown)


def test_what_cannot_be_read_is_refused(trained, copied, capsys):
    run = copied(trained("base2new", "MoPD"))
    message = refused(capsys, "--run", str(run), "--load-epoch", "9")
    assert "epochs that were saved (--load-epoch): 1, 2" in message
    path = run / "prompt_learner/model.pth.tar-2"
    content = torch.load(path, weights_only=True)
    for ctx, told in ((None, "has no context vectors (ctx)"), (torch.zeros(2, 3), "of width 3")):
        content["state_dict"]["ctx"] = ctx
        torch.save(content, path)
        assert told in refused(capsys, "--run", str(run))
    with pytest.raises(SystemExit) as stop:
        main(["--run", str(run), "--top", "0"])
    assert stop.value.code == 2
    assert "--top: '0', expected a whole number from 1" in capsys.readouterr().err
