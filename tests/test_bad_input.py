"""A mistake of the user gets one message: what, where, what was expected, how to fix it."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

import train
from tests.hostile_archives import Writer, script, two_directories, writes

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--trainer", "MoPDD"), ['there is no trainer "MoPDD", do you mean "MoPD"?', "CoOp"]),
        (("DATASET.NAME", "Shape"), ['there is no dataset "Shape", do you mean "Shapes"?']),
        (
            ("TRAINER.MOPD.ALHPA", "0.5"),
            ['command line: unknown key "TRAINER.MOPD.ALHPA", do you mean "TRAINER.MOPD.ALPHA"?'],
        ),
        (("TRAINER.MOPD.ALPHA", "much"), ["TRAINER.MOPD.ALPHA is 'much', expected a number"]),
        (
            ("TRAINER.MOPD.ALPHA", "1.5"),
            ["TRAINER.MOPD.ALPHA is 1.5, expected a number from 0 to 1"],
        ),
        (("TRAINER.MOPD.TEMPERATURE", "0"), ["TEMPERATURE is 0.0, expected a number above 0"]),
        (("TRAINER.MOPD.BETA", "-1"), ["BETA is -1.0, expected a number from 0 such as 0.1"]),
        (("TRAINER.MOPD.NUM_TEACHERS", "13"), ["NUM_TEACHERS is 13", "12 templates"]),
        (("TRAINER.MOPD.CTX_INIT", "template"), ["CTX_INIT is 'template', expected words, True"]),
        (("TRAINER.MOPD.POOL", "papper"), ["no pool 'papper'", "paper"]),
        (("TRAINER.MOPD.PREC", "fp61"), ["TRAINER.MOPD.PREC is 'fp61', expected one of: auto"]),
        (("TRAINER.MOPD.PREC", "fp16"), ["fp16, but this run is on the CPU", "fp32 or bf16"]),
        (
            ("TRAINER.MOPD.CLASS_TOKEN_POSITION", "start"),
            ["CLASS_TOKEN_POSITION is 'start', expected one of: end, middle, front"],
        ),
        (("--backbone", "ViT-B/61"), ['"ViT-B/61", do you mean "ViT-B/16"?', "neither a file"]),
        (("--backbone", "no/such.pt"), ['"no/such.pt"', "neither a file nor one of: RN50"]),
        (("DATALOADER.K_TRANSFORMS", "2"), ["DATALOADER.K_TRANSFORMS is 2", "one view", "set"]),
        (("INPUT.SIZE", "(224, 224)"), ["INPUT.SIZE is (224, 224)", 'INPUT.SIZE "(32, 32)"']),
        (("DATASET.SUBSAMPLE_CLASSES", "old"), ["old", "base", "new"]),
        (("--config-file", "no.yaml"), ["no such configuration file: no.yaml"]),
        (
            ("OPTIM.NAME", "sdg"),
            ["OPTIM.NAME is 'sdg', expected one of: adam, ", '(default: adam), do you mean "sgd"?'],
        ),
        (("OPTIM.LR",), ["KEY VALUE pairs must come in twos"]),
        (("OPTIM.LR", "-1"), ["OPTIM.LR is -1.0, expected a number from 0 such as 0.0003"]),
        (
            ("OPTIM.MAX_EPOCH", "0"),
            ["OPTIM.MAX_EPOCH is 0, expected a whole number from 1 to 1000000"],
        ),
        (("OPTIM.MAX_EPOCH", "1000001"), ["OPTIM.MAX_EPOCH is 1000001, expected a whole number"]),
        (("TRAIN.PRINT_FREQ", "0"), ["TRAIN.PRINT_FREQ is 0, expected a whole number from 1"]),
        (
            ("DATALOADER.MEMORY_MB", "-1"),
            ["DATALOADER.MEMORY_MB is -1, expected a whole number from 0"],
        ),
        (
            ("INPUT.DEVICE_AUGMENT", "True", "INPUT.TRANSFORMS", "('cutout', 'normalize')"),
            ["INPUT.DEVICE_AUGMENT cannot do cutout of INPUT.TRANSFORMS; it knows random_resized"],
        ),
        (
            ("INPUT.PIXEL_STD", "[0,1,1]"),
            ["INPUT.PIXEL_STD is [0, 1, 1], expected a list of 3 numbers above 0"],
        ),
        (("INPUT.PIXEL_STD", "[1e-320,1,1]"), ["numbers above 0, none too small for 32 bits"]),
        (("INPUT.CROP_PADDING", "100000"), ["expected a whole number from 0 to 1024"]),
        (
            ("INPUT.GB_K", "65", "INPUT.TRANSFORMS", "('gaussian_blur',)"),
            ["INPUT.GB_K is 65, too large to blur images of 32 pixels (INPUT.SIZE): expected at"],
        ),
        (("--load-epoch", "1"), ["are for --eval-only, which is not given"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_settings_are_refused_and_nothing_is_written(job, refused, tmp_path, more, parts):
    arguments = job("MoPD", *more) if len(more) % 2 == 0 else [*job("MoPD"), *more]
    message = refused(arguments)
    for part in parts:
        assert part in message
    written = [p for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != "log.txt"]
    assert written == [], "a refused run must not claim its folder"


@pytest.fixture
def trained(job, tmp_path) -> Path:
    """A finished run of MoPD."""
    train.main(job("MoPD"))
    return tmp_path / "run"


def evaluate(trained: Path, *more: str) -> tuple[str, ...]:
    settings = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "2")
    return (*settings, "DATASET.SUBSAMPLE_CLASSES", "new", *more)


def test_evaluation_without_a_model_is_refused(job, refused):
    message = refused(job("MoPD", "--eval-only"))
    assert message.startswith("no --model-dir is given")


def test_a_missing_folder_and_a_missing_epoch_are_named(job, refused, trained, tmp_path):
    message = refused(job("MoPD", *evaluate(tmp_path / "nothing")))
    assert "there is no folder" in message and "nothing" in message
    message = refused(job("MoPD", *evaluate(trained), "--load-epoch", "9"))
    assert "model.pth.tar-9" in message
    assert message.endswith("epochs that were saved (--load-epoch): 1, 2")


def test_a_test_of_another_epoch_does_not_show_old_results(job, refused, trained):
    again = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "1")
    message = refused(job("MoPD", *again))
    assert "holds the results of another checkpoint (of epoch 2)" in message


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_checkpoint_is_named(job, refused, trained, keep):
    path = trained / "prompt_learner/model.pth.tar-2"
    path.write_bytes(path.read_bytes()[:keep])
    message = refused(job("MoPD", *evaluate(trained)))
    assert str(path) in message and "truncated" in message


@pytest.mark.parametrize("way", ["--model-dir", "--resume", "INIT_WEIGHTS", "--backbone"])
def test_a_file_that_writes_when_torch_runs_it_is_refused_everywhere(
    job, refused, tmp_path, monkeypatch, way
):
    mark = tmp_path / "written"
    archive = two_directories(script(Writer(str(mark))))
    assert writes(mark, archive)  # the attack is a real one
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("has run the archive"))
    folder = tmp_path / "model/prompt_learner"
    folder.mkdir(parents=True)
    path = folder / "model.pth.tar-2"
    path.write_bytes(archive)
    (folder / "checkpoint").write_text(path.name)
    arguments = {
        "--model-dir": evaluate(tmp_path / "model"),
        "--resume": ("--resume", str(tmp_path / "model")),
        "INIT_WEIGHTS": ("MODEL.INIT_WEIGHTS", str(path)),
        "--backbone": ("--backbone", str(path)),
    }[way]
    message = refused(job("MoPD", *arguments))
    kind = "restored by code of its own" if way == "--backbone" else "is a TorchScript archive"
    assert str(path) in message and kind in message
    assert not mark.exists()


def test_a_file_that_is_no_checkpoint_is_named(job, refused, trained, tmp_path):
    path = tmp_path / "prompt_learner/model.pth.tar-2"
    path.parent.mkdir()
    torch.save({"weights": torch.zeros(1)}, path)
    message = refused(job("MoPD", *evaluate(tmp_path)))
    assert f"{path} is no checkpoint of a run: it has no epoch and no state_dict" in message


def test_a_model_is_not_tested_with_another_position_or_backbone(job, refused, trained, tmp_path):
    more = ("TRAINER.MOPD.CLASS_TOKEN_POSITION", "front")
    message = refused(job("MoPD", *evaluate(trained), *more, output=tmp_path / "other"))
    assert "was trained with TRAINER.MOPD.CLASS_TOKEN_POSITION 'end', but this run has" in message
    weights = torch.load(REPOSITORY / "assets/shapes_clip.pt", weights_only=True)
    weights["logit_scale"] += 1
    torch.save(weights, tmp_path / "other.pt")
    more = ("--backbone", str(tmp_path / "other.pt"))
    message = refused(job("MoPD", *evaluate(trained), *more, output=tmp_path / "other"))
    assert "was trained with BACKBONE_DIGEST" in message


def test_contexts_of_single_classes_are_not_tested_on_other_classes(job, refused, tmp_path):
    own = ("TRAINER.MOPD.CSC", "True")
    train.main(job("MoPD", *own))
    message = refused(job("MoPD", *evaluate(tmp_path / "run"), *own))
    assert "was trained with DATASET.SUBSAMPLE_CLASSES 'base', but this run has 'new'" in message


def test_results_of_another_model_are_not_shown(job, refused, trained, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    train.main(job("MoPD", *evaluate(trained), output=elsewhere))
    other = ("--eval-only", "--model-dir", str(tmp_path), "--load-epoch", "2")
    more = ("DATASET.SUBSAMPLE_CLASSES", "new")
    message = refused(job("MoPD", *other, *more, output=elsewhere))
    assert "holds the results of another checkpoint (of epoch 2)" in message


def test_an_edited_pool_is_another_run(job, refused, tmp_path):
    pool = tmp_path / "pool.yaml"
    settings = ("TRAINER.MOPD.POOL", str(pool), "TRAINER.MOPD.NUM_TEACHERS", "1")
    pool.write_text('["a photo of a {}.", "a {}."]')
    train.main(job("MoPD", *settings))
    pool.write_text('["a photo of a {}.", "the {}."]')
    message = refused(job("MoPD", *settings))
    assert "POOL_DIGEST is" in message


def test_resume_refuses_the_folder_of_another_run(job, refused, trained, tmp_path):
    more = ("--resume", str(trained), "OPTIM.LR", "0.5")
    message = refused(job("MoPD", *more, output=tmp_path / "next"))
    assert f"{trained} holds a run with other settings: OPTIM.LR is 0.02 there, 0.5 here" in message


def test_two_processes_do_not_share_a_folder(job, refused, tmp_path):
    (tmp_path / "run").mkdir()
    descriptor = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    message = refused(job("CoOp"))
    assert f"another process works in {tmp_path / 'run'}" in message
    os.close(descriptor)
    train.main(job("CoOp"))


def test_a_checkpoint_of_another_method_is_refused(job, refused, trained, tmp_path):
    message = refused(job("CoOp", *evaluate(trained), output=tmp_path / "other"))
    assert "was written by MoPD, but this run is CoOp" in message


def test_a_checkpoint_of_another_context_length_is_refused(job, refused, trained, tmp_path):
    settings = ("TRAINER.MOPD.CTX_INIT", "", "TRAINER.MOPD.N_CTX", "16")
    message = refused(job("MoPD", *evaluate(trained), *settings, output=tmp_path / "other"))
    assert "ctx is (4, 64), expected (16, 64)" in message and "config.yaml" in message


def test_a_checkpoint_of_another_pool_size_is_refused(job, refused, trained, tmp_path):
    settings = ("TRAINER.MOPD.POOL", "mixed")
    message = refused(job("MoPD", *evaluate(trained), *settings, output=tmp_path / "other"))
    assert "gate is (" in message and "a gate on POOL and GATE" in message


def test_other_settings_in_the_folder_of_a_run_are_refused_by_name(job, refused, trained):
    before = (trained / "config.yaml").read_bytes()
    message = refused(job("MoPD", "TRAINER.MOPD.BETA", "0.7", "OPTIM.LR", "0.01"))
    assert "TRAINER.MOPD.BETA is 0.0005 there, 0.7 here" in message
    assert "OPTIM.LR is 0.02 there, 0.01 here" in message
    assert (trained / "config.yaml").read_bytes() == before


def test_an_output_folder_that_cannot_be_written_is_named(job, refused, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(job("MoPD", output=tmp_path / "file" / "run"))
    assert f'Cannot create the folder "{tmp_path / "file" / "run"}"' in message


def test_data_without_the_dataset_is_named(job, refused, tmp_path):
    message = refused(
        job(
            "MoPD",
            *("--root", str(tmp_path)),
            *("--dataset-config-file", str(CONFIGS / "datasets" / "imagenet.yaml")),
        )
    )
    assert str(tmp_path / "imagenet") in message


def test_the_words_of_prograd_must_fit_and_stand_before_the_name(job, refused, tmp_path):
    message = refused(job("ProGrad", "TRAINER.PROGRAD.N_CTX", "3"))
    assert message == 'TRAINER.PROGRAD.N_CTX is 3, expected at least 4, for "a photo of a"'
    (tmp_path / "pool.yaml").write_text('- "{} texture."')
    message = refused(job("ProGrad", "TRAINER.PROGRAD.POOL", str(tmp_path / "pool.yaml")))
    assert (
        "'{} texture.' has no words before the class name: set TRAINER.PROGRAD.CTX_INIT" in message
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_corrupt_image_stops_training_and_is_named(job, refused, data_root, tmp_path, workers):
    train.main(job("ZeroshotCLIP", "--eval-only", output=tmp_path / "make"))  # makes the data
    root = tmp_path / "data"
    shutil.copytree(data_root / "shapes", root / "shapes")
    for image in (root / "shapes").rglob("*.png"):
        image.write_bytes(image.read_bytes()[:60])
    message = refused(job("MoPD", "--root", str(root), "DATALOADER.NUM_WORKERS", workers))
    assert str(root) in message and ".png" in message
    assert not (tmp_path / "run/base/results.json").exists()


def test_a_loss_that_is_not_finite_names_epoch_step_and_terms(job, refused, tmp_path):
    steps = ("OPTIM.WARMUP_EPOCH", "-1", "DATALOADER.TRAIN_X.BATCH_SIZE", "8")
    message = refused(job("MoPD", "OPTIM.LR", "1e30", *steps))
    assert "Loss is infinite or NaN" in message
    assert "epoch 1/2, batch 2/5" in message
    assert "Loss terms: loss nan, ce nan, mpd nan, mps" in message
    assert not (tmp_path / "run/base/results.json").exists()
    assert not list((tmp_path / "run").glob("prompt_learner/model.pth.tar*"))


@pytest.mark.parametrize("pair", [("OPTIM.LR", "1e308"), ("TRAINER.MOPD.TEMPERATURE", "1e308")])
def test_a_number_that_no_step_can_take_names_the_step(job, refused, tmp_path, pair):
    message = refused(job("MoPD", *pair, "OPTIM.WARMUP_EPOCH", "-1"))
    assert "A rate, weight or temperature is too large (" in message
    assert "epoch 1/2, batch 1/" in message and "Try a lower OPTIM.LR" in message
    assert not (tmp_path / "run/base/results.json").exists()


def test_unknown_flags_end_with_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--sede", "1"])
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_checkpoint_with_nan_gives_no_result(job, refused, trained, tmp_path):
    path = trained / "prompt_learner/model.pth.tar-2"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["ctx"][0, 0] = float("nan")
    torch.save(checkpoint, path)
    words = ("--eval-only", "--model-dir", str(trained), "--load-epoch", "2")
    message = refused(job("MoPD", *words, output=tmp_path / "test"))
    assert message.startswith("Logits of ") and "the first is image 0 of the list" in message
    assert not list((tmp_path / "test").rglob("results.json"))


@pytest.mark.parametrize("key", ["LR", "BATCH_SIZE", "TRANSFORMS", "MAX_EPOCH"])
def test_a_setting_without_a_value_is_refused_by_name(job, refused, tmp_path, key):
    text = (CONFIGS / "trainers/CoOp/embedded.yaml").read_text()
    own, count = re.subn(rf"(?m)^( *){key}:.*$", rf"\1{key}:", text, count=1)
    assert count == 1
    (tmp_path / "own.yaml").write_text(own)
    message = refused(job("CoOp", "--config-file", str(tmp_path / "own.yaml")))
    assert re.match(rf"{tmp_path}/own.yaml: [A-Z_.]*\.{key} has no value, expected ", message)


def test_a_setting_without_a_value_on_the_command_line_is_refused(job, refused):
    message = refused(job("CoOp", "OPTIM.LR", "None"))
    assert message.startswith(
        "command line: OPTIM.LR has no value, expected a number from 0 such as"
    )


def test_half_characters_in_a_prompt_are_named(job, refused, tmp_path):
    pool = tmp_path / "pool.yaml"
    pool.write_text('templates:\n- "a {}."\n- "\\ud800 {}."\n')
    message = refused(job("MoPD", "TRAINER.MOPD.POOL", str(pool)))
    found = "'\\ud800' is half a character. Write the character itself."
    assert message == f"{pool}, line 3: {found}"
    message = refused(job("CoOp", "TRAINER.COOP.CTX_INIT", "\ud800"))
    assert message.startswith("command line: TRAINER.COOP.CTX_INIT is '\\ud800', expected words")
    assert message.endswith(" without halves of characters")


def test_a_folder_whose_name_is_in_another_encoding_is_used(job, tmp_path, capsys):
    run = tmp_path / os.fsdecode(b"caf\xe9")
    first = train.main(job("CoOp", output=run))
    assert "TensorBoard needs a folder with a name in UTF-8" in capsys.readouterr().out
    again = train.main(job("CoOp", output=run))
    assert again == first
    assert "caf\\udce9/base/results.json (CoOp" in (run / "log.txt").read_text()
