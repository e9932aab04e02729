"""What a configuration leaves to the backbone, and what of it may differ from the model's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import yaml
from PIL import Image

from dassl.data.transforms import build_transform
from dassl.utils import UserError
from runs.backbone import BACKBONES, KEYS
from runs.config import build_parser, setup_cfg
from runs.folder import describe, settings_hash
from tests.tiny_models import FAMILIES
from tools import pools
from trainers.errors import MethodError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HALF = [0.5, 0.5, 0.5]
AUTO = [word for key in KEYS for word in (f"INPUT.{key}", "auto")]


def cfg_of(*words: str, config: str = "vit_b16", trainer: str = "CoOp"):
    return setup_cfg(
        build_parser().parse_args(
            [
                *("--trainer", trainer, "--seed", "1"),
                *("--dataset-config-file", str(CONFIGS / "datasets/shapes.yaml")),
                *("--config-file", str(CONFIGS / f"trainers/{trainer}/{config}.yaml")),
                *words,
            ]
        )
    )


@pytest.fixture
def tiny(open_clip_folder):
    """`tiny(family)`: the pair that names a small model."""
    return lambda family: (
        "MODEL.BACKBONE.NAME",
        f"open_clip:local-dir:{open_clip_folder(family)}",
    )


@pytest.mark.parametrize(
    ("config", "name", "side"), [("vit_b16", "RN50x4", 288), ("embedded", "", 32)]
)
def test_openais_values_come_from_the_model_where_they_are_left_to_it(config, name, side):
    named = ("MODEL.BACKBONE.NAME", name) if name else ()
    cfg, given = cfg_of(*AUTO, *named, config=config), cfg_of(config=config)
    assert (side, side) == cfg.INPUT.SIZE
    for key in set(KEYS) - {"SIZE"}:
        assert cfg.INPUT[key] == given.INPUT[key]  # those of the shipped configuration


def test_a_run_is_the_same_whether_values_are_given_or_left_to_the_model():
    left, given = (describe(cfg_of(*more, config="embedded")) for more in (AUTO, ()))
    assert left == given and settings_hash(left) == settings_hash(given)
    assert "INPUT.RESIZE" not in given  # older runs do not tell it
    squashed = describe(cfg_of("INPUT.RESIZE", "squash", config="embedded"))
    assert squashed["INPUT.RESIZE"] == "squash"


@pytest.mark.parametrize("stem", sorted(path.stem for path in BACKBONES.glob("*.yaml")))
@pytest.mark.parametrize("as_flag", [True, False])
def test_every_shipped_backbone_goes_with_a_trainers_configuration(stem, as_flag):
    words = ("--backbone", stem) if as_flag else ("MODEL.BACKBONE.NAME", stem)
    cfg = cfg_of(*words)
    told = yaml.safe_load((BACKBONES / f"{stem}.yaml").read_text())
    name = told["MODEL"]["BACKBONE"]["NAME"]
    assert name == cfg.MODEL.BACKBONE.NAME
    model, tag = name.removeprefix("open_clip:").split("/")
    theirs = open_clip.get_pretrained_cfg(model, tag)
    assert list(theirs["mean"]) == cfg.INPUT.PIXEL_MEAN
    assert list(theirs["std"]) == cfg.INPUT.PIXEL_STD
    assert theirs["interpolation"] == cfg.INPUT.INTERPOLATION
    assert theirs["resize_mode"] == cfg.INPUT.RESIZE
    side = open_clip.get_model_config(model)["vision_cfg"]["image_size"]
    assert (side, side) == cfg.INPUT.SIZE
    assert describe(cfg)["BACKBONE_DIGEST"] == name
    first = (BACKBONES / f"{stem}.yaml").read_text().splitlines()[1]
    assert first.endswith(f"MODEL.BACKBONE.NAME {stem}")


def test_a_setting_of_the_command_line_wins_over_the_file_of_a_backbone():
    cfg = cfg_of("MODEL.BACKBONE.NAME", "siglip2_b16", "INPUT.PIXEL_MEAN", "[0.4, 0.5, 0.6]")
    assert cfg.INPUT.PIXEL_MEAN == [0.4, 0.5, 0.6] and cfg.INPUT.PIXEL_STD == HALF
    assert describe(cfg)["INPUT.PIXEL_MEAN"] == [0.4, 0.5, 0.6]  # stamped into the results


def test_values_that_were_written_for_another_backbone_are_refused(tiny):
    with pytest.raises(UserError) as error:
        cfg_of(*tiny("siglip"), config="embedded")
    message = str(error.value)
    file = CONFIGS / "trainers/CoOp/embedded.yaml"
    for part in (
        "was trained with images that were made ready in another way",
        f"INPUT.PIXEL_STD [0.26862954, 0.26130258, 0.27577711] ({file}), the model's is {HALF}",
        "Name a file of configs/backbones as MODEL.BACKBONE.NAME, or set these keys to auto",
    ):
        assert part in message
    assert "INPUT.SIZE" not in message and "INPUT.INTERPOLATION" not in message
    with pytest.raises(UserError, match="INPUT.SIZE .*the model's is .32, 32."):
        cfg_of(*tiny("siglip"), *AUTO[2:])  # 224 pixels of the trainer's file
    cfg_of(*tiny("causal"), config="embedded")  # the same values as the model's


def test_a_file_that_names_the_backbone_may_set_other_values(tiny, tmp_path):
    file = tmp_path / "own.yaml"
    content = {
        "MODEL": {"BACKBONE": {"NAME": tiny("siglip")[1]}},
        "INPUT": {"PIXEL_MEAN": [0.1, 0.2, 0.3]},
    }
    words = ["--trainer", "CoOp", "--config-file", str(file), "--seed", "1"]
    words += ["--dataset-config-file", str(CONFIGS / "datasets/shapes.yaml")]
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="INPUT.TRANSFORMS without normalize .default."):
        setup_cfg(build_parser().parse_args(words))
    content["INPUT"]["TRANSFORMS"] = ["normalize"]
    file.write_text(yaml.safe_dump(content))
    cfg = setup_cfg(build_parser().parse_args(words))
    assert cfg.INPUT.PIXEL_MEAN == [0.1, 0.2, 0.3]
    # what nobody has set is the model's
    assert (cfg.INPUT.PIXEL_STD, cfg.INPUT.RESIZE, cfg.INPUT.SIZE) == (HALF, "squash", (32, 32))


def test_images_of_another_size_are_refused_when_the_model_is_loaded(
    tiny, data_root, tmp_path, refused
):
    message = refused(
        [
            *("--root", str(data_root), "--trainer", "ZeroshotCLIP", "--seed", "1"),
            *("--dataset-config-file", str(CONFIGS / "datasets/shapes.yaml")),
            *("--config-file", str(CONFIGS / "trainers/ZeroshotCLIP/embedded.yaml")),
            *("--output-dir", str(tmp_path), "--eval-only", *tiny("causal")),
            *("INPUT.SIZE", "(48, 48)"),
        ]
    )
    assert message.endswith('reads images of 32x32 pixels: set INPUT.SIZE "(32, 32)"')


@pytest.mark.parametrize("key", KEYS)
def test_another_word_than_auto_is_refused_with_what_is_expected(key):
    with pytest.raises(UserError, match=f"INPUT.{key} is 'automatic', expected .* or auto"):
        cfg_of(f"INPUT.{key}", "automatic")


@pytest.mark.parametrize("size", [(32, 32), (48, 33), (31, 90), (20, 24), (500, 375)])
@pytest.mark.parametrize("family", ["causal", "short", "siglip", "mobile"])
def test_images_are_made_ready_as_by_open_clip_pixel_by_pixel(tiny, family, size):
    cfg = cfg_of(*tiny(family), *AUTO)
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    _, name = tiny(family)
    _, _, theirs = open_clip.create_model_and_transforms(name.removeprefix("open_clip:"))
    assert torch.equal(build_transform(cfg, is_train=False)(image), theirs(image))
    assert "images" in FAMILIES[family] or family == "causal"


def test_prompts_that_are_the_same_to_the_model_are_refused(tiny, tmp_path, capsys):
    file = tmp_path / "pool.yaml"
    file.write_text(json.dumps({"templates": ["a photo of a {}.", "A photo: of a {}"]}))
    words = ("TRAINER.ZEROSHOTCLIP.POOL", str(file))
    describe(cfg_of(*words, config="embedded", trainer="ZeroshotCLIP"))
    told = cfg_of(*words, *tiny("siglip"), *AUTO, trainer="ZeroshotCLIP")
    with pytest.raises(MethodError, match="duplicate template 'A photo: of a {}'"):
        describe(told)
    assert pools.main(["check", str(file)]) == 0
    assert pools.main(["check", str(file), "--backbone", tiny("siglip")[1]]) == 1
    assert "duplicate template" in capsys.readouterr().err
