"""`benchmarks.text_side` and `benchmarks.training_step`, with a small CLIP."""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks import cocoop_step, measure, text_side, training_step
from benchmarks.reference import SIZES, PlainCLIP, plain_clip
from benchmarks.text_side import TextSide, class_names
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision

SMALL = ("--size", "small", "--runs", "1")
SHIPPED = ["CoCoOp", "CoOp", "KgCoOp", "MoPD", "ProGrad", "SiPD"]


@pytest.fixture(autouse=True)
def no_processes(monkeypatch):
    """Peaks of memory are measured in fresh processes; here they are what autograd keeps."""
    monkeypatch.setattr(TextSide, "peak", lambda side, way: getattr(side, f"{way}_kept"))


def test_class_names_differ():
    names = class_names(1000)
    assert len(set(names)) == 1000 and names[:2] == ["red fox", "old fox"]


def test_both_tables_are_printed(capsys):
    text_side.main([*SMALL, "--classes", "8", "20", "--memory-at-least", "4"])
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if re.match(r"(8|20) ", line)]
    assert len(rows) == 4 and all(len(re.findall(r"\dx", row)) == 2 for row in rows)


def test_too_little_gain_ends_with_code_1(stopped):
    words = (*SMALL, "--classes", "8")
    assert "not at least 1e+06" in stopped(text_side.main, *words, "--at-least", "1e6")
    message = stopped(text_side.main, *words, "--memory-at-least", "1e6")
    assert message.startswith("peak memory is less: ") and "not at least 1e+06" in message


def test_a_wrong_text_tower_is_refused(wrong_tower, stopped):
    message = stopped(text_side.main, *SMALL, "--classes", "8")
    assert message.startswith("not the same results: features for 8 classes differ by")


def test_what_the_plain_way_keeps_is_told_by_few_classes():
    side = TextSide(24, size="small")
    assert side.plain_kept == measure.kept_bytes(side.plain, side.model.parameters())
    assert TextSide(1, size="small").plain_kept < side.plain_kept / 20


def test_a_plain_pass_that_needs_too_much_memory_is_worked_off_in_parts(monkeypatch, capsys):
    whole = TextSide(10, size="small").gradient("plain")
    need = TextSide(10, size="small").plain_kept
    monkeypatch.setattr(measure, "available_bytes", lambda device: int(need))
    side = TextSide(10, size="small")
    assert side.parts == 3  # 1.25 of what is there, half of which may be used
    assert measure.difference(whole, side.gradient("plain")) < 1e-5
    row = text_side.compare(side, 1, 1.0)
    assert row["peak"][0] == need
    shown = text_side.tables([row])
    assert "10 classes: the plain backward pass was timed in 3 parts" in shown
    assert re.search(r">\d+\.\dx", shown)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_plain_clip_encodes_templates_as_ours(precision):
    chosen = resolve_precision(precision, "cpu")
    model = plain_clip(**SIZES["small"], dtype=chosen.dtype)
    templates, names = ["a photo of a {}.", "{} at night"], ["fox", "long-tailed beetle", "oak"]
    plain, ours = (
        kind(model, chosen).encode_templates(templates, names) for kind in (PlainCLIP, FrozenCLIP)
    )
    assert plain.shape == (2, 3, 96) and plain.dtype is torch.float32
    assert measure.difference(plain, ours) < measure.TOLERANCE[precision][0]


def test_a_step_of_every_method_that_learns(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MOPD_CACHE", str(tmp_path / "cache"))
    assert set(SHIPPED) <= set(training_step.learning_methods())
    training_step.main([*SMALL, "--classes", "6", "--images", "4"])
    rows = re.findall(r"^(\w+) +6 +4 .*\d\.\dx", capsys.readouterr().out, flags=re.MULTILINE)
    assert rows == training_step.learning_methods()
    assert not (tmp_path / "cache").exists()  # of random weights nothing is kept


def test_a_plain_step_that_needs_too_much_memory_is_refused(monkeypatch, stopped, capsys):
    monkeypatch.setattr(measure, "available_bytes", lambda device: 2**20)
    words = ("--methods", "CoCoOp", *SMALL, "--classes", "6", "--images", "2")
    message = stopped(training_step.main, *words)
    assert message.startswith("CoCoOp, 6 classes: the plain way needs about 0.0 GiB")
    training_step.main([*words, "--ours"])
    assert re.search(r"^CoCoOp +6 +2 +- ", capsys.readouterr().out, flags=re.MULTILINE)


@pytest.mark.parametrize("method", SHIPPED)
def test_a_wrong_text_tower_changes_a_step(method, wrong_tower, stopped):
    words = ("--methods", method, *SMALL, "--classes", "6", "--images", "4")
    message = stopped(training_step.main, *words)
    assert message.startswith(f"not the same results: {method}'s ")


def test_cocoop_step_takes_the_flags_of_training_step(capsys, stopped):
    cocoop_step.main([*SMALL, "--classes", "6", "--ours"])
    shown = capsys.readouterr().out
    assert re.search(r"^CoCoOp +6 +1 +- ", shown, flags=re.MULTILINE)
    assert "peak memory of the process: " in shown
    message = stopped(cocoop_step.main, *SMALL, "--classes", "6", "--at-least", "1e6")
    assert message.startswith("a step is faster: ")


@pytest.mark.parametrize(
    ("family", "said"), [("eos", "times fewer"), ("siglip", "full length"), ("quick", "fewer")]
)
def test_an_open_clip_model_is_compared_with_its_own_forward(
    family, said, open_clip_folder, capsys
):
    name = f"open_clip:local-dir:{open_clip_folder(family)}"
    text_side.main(["--backbone", name, "--classes", "6", "--runs", "1", "--context", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"text tower of {name}, 2 context tokens, fp32"
    assert lines[-1].startswith("6 classes: ") and said in lines[-1]


def test_an_architecture_alone_is_measured_with_random_weights(monkeypatch, capsys):
    import open_clip

    small = {"context_length": 16, "width": 64, "heads": 2, "layers": 2}
    config = {
        **{"embed_dim": 32, "vision_cfg": {}, "custom_text": True},
        "text_cfg": {**small, "hf_tokenizer_name": "far/away", "pool_type": "eos", "eos_id": 2},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Small", config)
    text_side.main(["--backbone", "open_clip:Small", "--classes", "6", "--runs", "1"])
    assert "6 classes: 96 tokens plain" in capsys.readouterr().out


def test_a_wrong_tower_of_an_open_clip_model_is_refused(wrong_tower, stopped, open_clip_folder):
    name = f"open_clip:local-dir:{open_clip_folder('eos')}"
    message = stopped(text_side.main, "--backbone", name, "--classes", "6", "--runs", "1")
    assert message.startswith("not the same results: features for 6 classes differ by")
