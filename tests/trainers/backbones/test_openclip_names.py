"""Names of open_clip's models: found, told apart by content, or refused with advice."""

from __future__ import annotations

import json
import shutil
import sys

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_models import write_model
from trainers.backbones import openclip_names
from trainers.backbones.clip_model import load_clip
from trainers.backbones.families import family_of, find_weights, weights_digest
from trainers.backbones.parts import Preprocessing
from trainers.backbones.precision import resolve_precision
from trainers.errors import MethodError

CPU = resolve_precision("fp32", "cpu")
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing is asked for on the internet."""

    def no(*_, **__):
        raise OSError("no route to host")

    for module in (open_clip.factory, open_clip.pretrained):
        monkeypatch.setattr(module, "download_pretrained_from_hf", no)


def refused(name: str) -> str:
    with pytest.raises(MethodError) as error:
        load_clip(name, CPU)
    return str(error.value)


def edited(folder, copy, change):
    """A copy of a model's folder with other settings."""
    shutil.copytree(folder, copy)
    path = copy / "open_clip_config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return f"open_clip:local-dir:{copy}"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ViT-B-61/openai", ('no architecture "ViT-B-61"', 'mean "ViT-B-16"', "hf-hub:ORG/REPO")),
        ("ViT-B-16", ("no tag is given", "laion2b_s34b_b88k")),
        ("ViT-B-16/lion2b_s34b_b88k", ('neither a file nor a tag', 'mean "laion2b_s34b_b88k"')),
        ("local-dir:/no/such/folder", ("/no/such/folder is no folder with open_clip_config.json",)),
        ("ViT-B-32/openai", ("trained with QuickGELU", "open_clip:ViT-B-32-quickgelu/openai")),
        ("ViT-B-16/laion2b_s34b_b88k", ("no route to host", "HF_HOME", "local-dir:PATH")),
        ("hf-hub:org/repo", ("no route to host", "HF_HOME")),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_with_what_to_do(name, parts):
    message = refused(f"open_clip:{name}")
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ({"embed_cls": True, "tokenizer_kwargs": {}}, "appends a class token"),
        ({"pool_type": "eos", "eos_id": 5}, "is not that of the end token of its tokenizer"),
        ({"pool_type": "argmax", "hf_tokenizer_name": "here"}, "needs a package|cannot be loaded"),
    ],
)
def test_a_tower_that_is_not_supported_is_named(open_clip_folder, tmp_path, text, words):
    def change(content):
        content["model_cfg"]["text_cfg"] |= text

    name = edited(open_clip_folder("short"), tmp_path / "model", change)
    if "embed_cls" in text:  # it has one more parameter and position
        path = tmp_path / "model/open_clip_model.safetensors"
        state = load_file(path)
        state["text.cls_emb"] = torch.zeros(32)
        state["text.positional_embedding"] = torch.zeros(33, 32)
        save_file(state, path)
    with pytest.raises(MethodError, match=words):
        load_clip(name, CPU)


def test_coca_and_towers_of_transformers_are_named():
    class Model:
        text = torch.nn.Module()

    from trainers.backbones.openclip import parts

    with pytest.raises(MethodError, match="a text tower of Hugging Face's transformers"):
        parts(Model, None, None, "open_clip:roberta-ViT-B-32/laion2b_s12b_b32k")
    Model.text_decoder = None
    with pytest.raises(MethodError, match="is CoCa, .*docs/backbones.md has the families"):
        parts(Model, None, None, "open_clip:coca_ViT-B-32/laion2b_s13b_b90k")


def test_a_missing_package_is_told(monkeypatch, open_clip_folder):
    name = f"open_clip:local-dir:{open_clip_folder('siglip')}"
    openclip_tokenizer = family_of(name)._tokenizer
    openclip_tokenizer.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = refused(name)
    assert message.startswith(f"{name} needs a package that is missing")
    assert message.endswith("pip install transformers sentencepiece")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    message = refused("open_clip:ViT-B-16/laion2b_s34b_b88k")
    assert message.endswith(f'pip install "{openclip_names.PACKAGE}"')


def test_the_range_that_is_named_is_that_of_the_requirements():
    from trainers.backbones.paths import REPOSITORY

    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    assert openclip_names.PACKAGE in lines


def test_a_folder_without_weights_is_never_filled_with_random_ones(open_clip_folder, tmp_path):
    name = edited(open_clip_folder("causal"), tmp_path / "model", lambda content: None)
    (tmp_path / "model/open_clip_model.safetensors").unlink()
    assert "there are no weights in" in refused(name)


def test_weights_of_another_architecture_and_damaged_ones_are_refused(open_clip_folder, tmp_path):
    def wider(content):
        content["model_cfg"]["text_cfg"]["width"] = 64

    message = refused(edited(open_clip_folder("causal"), tmp_path / "wide", wider))
    assert "cannot be loaded by open_clip" in message
    assert message.endswith("Are the weights complete, and those of this architecture?")
    (tmp_path / "weights.pt").write_text("text")
    message = refused(f"open_clip:MobileCLIP-S1/{tmp_path / 'weights.pt'}")
    assert "cannot be loaded by open_clip" in message and "arbitrary code" not in message


def test_an_architecture_with_a_file_loads_it(tmp_path, monkeypatch, open_clip_folder):
    folder = open_clip_folder("short")
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny-B-16", config)
    monkeypatch.setitem(
        open_clip.pretrained._PRETRAINED, "Tiny-B-16", {"web": {"mean": HALF, "std": HALF}}
    )
    model = load_clip(f"open_clip:local-dir:{folder}", CPU)
    torch.save(load_file(folder / "open_clip_model.safetensors"), tmp_path / "weights.pt")
    monkeypatch.chdir(tmp_path)
    name = "open_clip:Tiny-B-16/weights.pt"
    other = load_clip(name, CPU)
    templates = ["a photo of a {}."], ["cat"]
    assert torch.equal(other.encode_templates(*templates), model.encode_templates(*templates))
    assert find_weights(name) == tmp_path / "weights.pt"
    assert other.preprocessing == Preprocessing((32, 32), HALF, HALF)  # as all its tags
    before = weights_digest(name)
    monkeypatch.setitem(
        open_clip.factory._MODEL_CONFIGS, "Tiny-B-16", {**config, "quick_gelu": True}
    )
    assert weights_digest(name) != before


def test_a_folder_is_told_apart_by_all_that_is_read_from_it(open_clip_folder, tmp_path):
    source = open_clip_folder("siglip")
    name = f"open_clip:local-dir:{source}"
    first = weights_digest(name)
    assert len(first) == 12
    shutil.copytree(source, tmp_path / "same")
    assert weights_digest(f"open_clip:local-dir:{tmp_path / 'same'}") == first
    found = set()
    for number, file in enumerate(("open_clip_config.json", "tokenizer.json")):
        copy = tmp_path / f"{number}"
        shutil.copytree(source, copy)
        (copy / file).write_text((copy / file).read_text() + " ")
        found.add(weights_digest(f"open_clip:local-dir:{copy}"))
    copy = tmp_path / "weights"
    write_model(copy, "siglip")
    path = copy / "open_clip_model.safetensors"
    state = load_file(path)
    state["logit_scale"] += 1
    save_file(state, path)
    found.add(weights_digest(f"open_clip:local-dir:{copy}"))
    assert len(found | {first}) == 4


def test_a_tag_stands_for_itself_and_a_repository_for_its_commit(tmp_path, monkeypatch):
    name = "open_clip:ViT-B-16-SigLIP2/webli"
    assert weights_digest(name) == name
    commit = tmp_path / "snapshots/0123456789abcdef"
    commit.mkdir(parents=True)
    monkeypatch.setattr(
        open_clip.pretrained,
        "download_pretrained_from_hf",
        lambda repo, filename=None: commit / filename,
    )
    name = "open_clip:hf-hub:org/repo"
    assert weights_digest(name) == f"{name}@0123456789ab"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B/16", Preprocessing((224, 224))),
        ("RN50x4", Preprocessing((288, 288))),
        ("assets/shapes_clip.pt", Preprocessing((32, 32))),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", Preprocessing((224, 224))),
        (
            "open_clip:ViT-B-16-SigLIP2/webli",
            Preprocessing((224, 224), HALF, HALF, resize="squash"),
        ),
        (
            "open_clip:PE-Core-B-16/meta",
            Preprocessing((224, 224), HALF, HALF, "bilinear", "squash"),
        ),
        (
            "open_clip:MobileCLIP-S1/datacompdr",
            Preprocessing((256, 256), (0.0,) * 3, (1.0,) * 3, "bilinear"),
        ),
    ],
)
def test_preprocessing_is_known_without_weights(name, expected):
    assert family_of(name).preprocessing(name) == expected


def test_every_architecture_of_open_clip_with_a_tag_has_a_preprocessing():
    for model, tag in open_clip.list_pretrained():
        family_of("open_clip:").preprocessing(f"open_clip:{model}/{tag}")


def test_a_resize_mode_that_is_not_supported_is_named(open_clip_folder, tmp_path):
    def change(content):
        content["preprocess_cfg"]["resize_mode"] = "longest"

    name = edited(open_clip_folder("causal"), tmp_path / "model", change)
    assert "resize mode 'longest', which is not supported" in refused(name)
