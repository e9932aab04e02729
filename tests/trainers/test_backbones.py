"""Every method trains, resumes and is tested on every family of open_clip; nothing else is done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import train
from dassl.engine import SimpleTrainer
from inference import export, load_prompt
from tests.tiny_models import FAMILIES
from tests.trainers.test_every_method import METHODS
from tools import words
from trainers.backbones.clip_model import FrozenCLIP

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = ("cat", "red fox", "green circle", "an old sketch")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Eight images of each of four classes, of no size that a model reads."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for name in NAMES:
        (folder / name).mkdir()
        for number in range(8):
            pixels = torch.randint(256, (40, 48, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def arguments(images, open_clip_folder, cache):
    """Arguments of train.py for two epochs on a family."""

    def make(family: str, method: str, output: Path, *more: str) -> list[str]:
        return [
            *("--seed", "1", "--trainer", method, "--output-dir", str(output)),
            *("--config-file", str(CONFIGS / f"trainers/{method}/embedded.yaml")),
            *("DATASET.NAME", f"folder:{images}", "DATASET.NUM_SHOTS", "2"),
            *("OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"),
            *("MODEL.BACKBONE.NAME", f"open_clip:local-dir:{open_clip_folder(family)}"),
            *(w for key in ("PIXEL_MEAN", "PIXEL_STD", "SIZE") for w in (f"INPUT.{key}", "auto")),
            *("INPUT.INTERPOLATION", "auto", "INPUT.RESIZE", "auto"),
            *("CACHE.DIR", str(cache.folder), *more),
        ]

    return make


def ctx(run: Path, epoch: int) -> torch.Tensor:
    path = run / f"prompt_learner/model.pth.tar-{epoch}"
    return torch.load(path, weights_only=True)["state_dict"]["ctx"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_method_trains_two_epochs_and_resumes(
    family, method, arguments, tmp_path, monkeypatch
):
    words_of_run = arguments(family, method, tmp_path)
    if method.startswith("Zeroshot"):
        results = train.main(["--eval-only", *words_of_run])
        assert results["total"] and results["backbone"].startswith("open_clip:")
        return

    def cut_off(self) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SimpleTrainer, "before_epoch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train.main(words_of_run)
    results = train.main(words_of_run)
    first, second = ctx(tmp_path, 1), ctx(tmp_path, 2)
    assert results["epoch"] == 2 and torch.isfinite(second).all()
    assert first.shape == second.shape and not torch.equal(first, second)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["split"] for line in lines] == ["train", "train", "test"]


@pytest.mark.parametrize("family", ["short", "siglip"])
def test_a_resumed_run_ends_bit_for_bit_as_a_whole_one(family, arguments, tmp_path, monkeypatch):
    whole = train.main(arguments(family, "MoPD", tmp_path / "whole"))

    def cut_off(self) -> None:
        if self.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SimpleTrainer, "before_epoch", cut_off)
        with pytest.raises(KeyboardInterrupt):
            train.main(arguments(family, "MoPD", tmp_path / "cut"))
    cut = train.main(arguments(family, "MoPD", tmp_path / "cut"))
    assert cut["correct"] == whole["correct"] and cut["config_hash"] == whole["config_hash"]
    assert torch.equal(ctx(tmp_path / "cut", 2), ctx(tmp_path / "whole", 2))


def test_what_was_trained_is_exported_loaded_and_read(
    arguments, tmp_path, images, capsys, monkeypatch, open_clip_folder
):
    run = tmp_path / "run"
    train.main(arguments("siglip", "CoOp", run))
    export(run, tmp_path / "export")
    about = json.loads((tmp_path / "export/prompt.json").read_text())
    assert about["preprocessing"] == {
        **{"size": [32, 32], "interpolation": "bicubic", "crop": None},
        **{"mean": [0.5] * 3, "std": [0.5] * 3, "instance_norm": False},
    }
    assert about["backbone"]["open_clip"] == ["local-dir:siglip"]
    card = (tmp_path / "export/README.md").read_text()
    assert 'open_clip.create_model("local-dir:siglip", require_pretrained=True)' in card
    assert "T.Resize((32, 32), T.InterpolationMode.BICUBIC)," in card and "CenterCrop" not in card
    picture = Image.open(images / "cat/0.png").convert("RGB")
    logits = []
    for folder in (run, tmp_path / "export"):
        prompt = load_prompt(folder, ["cat", "a dog"])
        assert isinstance(prompt.trainer.clip, FrozenCLIP)
        logits.append(prompt.logits(prompt.transform(picture)[None]))
    assert torch.equal(*logits)
    # the lines of the card, with open_clip alone
    prompt = load_prompt(tmp_path / "export")
    best = prompt.classes[prompt.logits(prompt.transform(picture)[None]).argmax()]
    monkeypatch.chdir(tmp_path / "export")
    Path("siglip").symlink_to(open_clip_folder("siglip"))
    picture.save("photo.jpg", format="PNG")
    capsys.readouterr()
    exec(card.partition("```python\n")[2].partition("```")[0], {})
    assert capsys.readouterr().out.startswith(f"{best} ")
    words.main(["--run", str(run), "--top", "2"])
    assert "nearest" in capsys.readouterr().out


def test_class_names_that_are_the_same_to_the_model_are_refused(arguments, tmp_path):
    run = tmp_path / "run"
    train.main(["--eval-only", *arguments("siglip", "ZeroshotCLIP", run)])
    prompt = load_prompt(run, ["cat", "dog"])
    with pytest.raises(ValueError, match="has a class twice, as CLIP reads it: 'cat' and 'Cat!'"):
        prompt.for_classes(["cat", "Cat!"])  # SigLIP reads neither case nor punctuation


def test_a_checkpoint_of_another_backbone_is_refused(arguments, tmp_path, refused):
    train.main(arguments("causal", "CoOp", tmp_path / "run"))
    model = ["--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "2"]
    message = refused([*model, *arguments("eos", "CoOp", tmp_path / "other")])
    assert "was trained with BACKBONE_DIGEST" in message


def test_features_of_models_are_kept_apart(arguments, tmp_path, cache):
    for family in ("causal", "quick", "causal"):
        output = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        train.main(["--eval-only", *arguments(family, "ZeroshotCLIP", output)])
    kinds = [entry.kind for entry in cache.entries()]
    assert kinds.count("images") == kinds.count("prompts") == 2
