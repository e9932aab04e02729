"""Images by captions, and captions by images: the metric, the files, and a run on drawn images."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import train
from dassl.utils import UserError
from datasets.shapes import captioned
from inference import load_prompt
from inference.retrieval import Pairs, cut, drawn_pairs, read_pairs, recalls, retrieve
from tools import retrieval as command
from trainers.backbones.tokens import encode


@given(st.integers(1, 15), st.integers(1, 4), st.integers(0, 10**6))
def test_recalls_are_those_of_ranks_counted_one_by_one(N, most, seed):
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(N), rng.integers(1, most + 1, N))
    T = len(image)
    images, captions = (
        F.normalize(torch.from_numpy(rng.normal(size=(n, 8))), dim=-1) for n in (N, T)
    )
    scores = captions.numpy() @ images.numpy().T  # (T, N)
    expected = {}
    for k in (1, 5, 10):
        found = [image[t] in np.argsort(-scores[t])[:k] for t in range(T)]
        expected[f"image R@{k}"] = 100 * np.mean(found)
        found = [any(image[t] == i for t in np.argsort(-scores[:, i])[:k]) for i in range(N)]
        expected[f"text R@{k}"] = 100 * np.mean(found)
    assert recalls(images, captions, torch.from_numpy(image)) == pytest.approx(expected)


def test_more_queries_than_are_scored_at_once_are_all_counted():
    features = F.normalize(torch.randn(1300, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    order = torch.arange(1300)
    assert set(recalls(features, features, order).values()) == {100.0}
    turned = recalls(features, features.roll(1, 0), order)
    assert max(turned["image R@1"], turned["text R@1"]) == 0.0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'image,caption\na.png,one\nb.png,"two, three"\na.png,four\n'),
        (
            "a.json",
            '[{"image": "a.png", "captions": ["one", "four"]},'
            ' {"image": "b.png", "caption": "two, three"}]',
        ),
        (
            "karpathy.json",
            json.dumps(
                {
                    "images": [
                        {"filename": "a.png", "split": "test", "imgid": 0,
                         "sentences": [{"raw": "one", "tokens": ["one"]}, {"raw": "four"}]},
                        {"filename": "x.png", "split": "train", "sentences": [{"raw": "no"}]},
                        {"filename": "b.png", "split": "test", "sentences": ["two, three"]},
                    ]
                }
            ),
        ),
        (
            "coco.json",
            json.dumps(
                {
                    "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
                    "annotations": [
                        {"image_id": 7, "id": 1, "caption": "one"},
                        {"image_id": 9, "id": 2, "caption": "two, three"},
                        {"image_id": 7, "id": 3, "caption": "four"},
                    ],
                }
            ),
        ),
    ],
)  # fmt: skip
def test_every_layout_says_the_same(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    pairs = read_pairs(tmp_path / name)
    assert pairs.images == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    told = sorted(zip(pairs.captions, pairs.image, strict=True))
    assert told == [("four", 0), ("one", 0), ("two, three", 1)]
    assert read_pairs(tmp_path / name, tmp_path / "x").images[0] == str(tmp_path / "x/a.png")


def test_the_folder_of_a_coco_image_is_its_filepath(tmp_path):
    entry = {"filepath": "val2014", "filename": "c.jpg", "sentences": [{"raw": "a cat"}]}
    (tmp_path / "c.json").write_text(json.dumps({"images": [{**entry, "split": "test"}]}))
    assert read_pairs(tmp_path / "c.json").images == [str(tmp_path / "val2014/c.jpg")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read: Expecting"),
        ("[]", 'expected a list of images with captions, or "images" with one'),
        ('[{"image": "a.png"}]', "entry 0: expected an image and its captions, found {'image'"),
        ('[{"image": "a.png", "caption": 3}]', "entry 0: expected an image and its captions"),
        (
            '[{"image": "a.png", "caption": "x", "split": "val"}]',
            "has no images of split 'test', only of: val",
        ),
    ],
)
def test_files_without_pairs_are_refused(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_pairs(tmp_path / "a.json")
    assert message in str(caught.value)


def test_captions_lose_the_words_that_do_not_fit():
    text = " ".join(["crimson"] * 40)
    assert cut("a ring.", 10) == "a ring."
    short = cut(text, 20)
    assert text.startswith(short) and len(encode(short)) <= 20 < len(encode(f"{short} crimson"))


def test_a_run_finds_drawings_and_its_context_is_in_front_of_the_caption(
    runs, data_root, tmp_path, capsys
):
    run = runs("CoOp")
    found = tmp_path / "few.json"
    pairs = drawn_pairs(data_root)
    assert len(set(pairs.captions)) == len(pairs.captions) > 1000
    few = [{"image": p, "caption": c} for p, c in zip(pairs.images, pairs.captions, strict=True)]
    found.write_text(json.dumps(few[:60]))
    words = ["--run", str(run.folder), "--data", str(found), "--out", str(tmp_path / "r.json")]
    command.main(words)
    told = json.loads((tmp_path / "r.json").read_text())
    shown = capsys.readouterr().out
    for name, row in told["recalls"].items():
        assert f"{row['image R@10']:.2f}" in shown and name in shown
    # the same by hand: the context's features of the captions as class names
    prompt = load_prompt(run.folder, [one["caption"].rstrip(".") for one in few[:60]])
    texts = prompt.class_features()
    images = torch.cat(
        [prompt.trainer.image_features(prompt.transform(_picture(one["image"]))[None])
         for one in few[:60]]
    )  # fmt: skip
    own = (images.cpu() @ texts.T).argmax(dim=1) == torch.arange(60)
    assert told["recalls"]["the learned context"]["text R@1"] == pytest.approx(
        100 * own.double().mean().item()
    )
    assert told["images"] == told["captions"] == 60 and told["cut"] == 0


def _picture(path):
    from dassl.utils import read_image

    return read_image(path)


def test_a_method_without_a_context_has_plain_captions_alone(runs, data_root):
    pairs = Pairs.of([(path, [text]) for path, text in captioned(data_root)[:5]])
    found = retrieve(load_prompt(runs("ZeroshotCLIP").folder, ["x"]), pairs)
    assert list(found["recalls"]) == ["the caption alone", "a photo of"]
    assert found["recalls"]["a photo of"]["text R@5"] == 100.0


def test_images_that_are_gone_and_methods_without_fixed_features_are_told(runs, tmp_path, capsys):
    (tmp_path / "a.csv").write_text("image,caption\ngone.png,a ring\n")
    told = {"CoOp": "1 images cannot be read", "CoCoOp": "CoCoOp has no fixed classifier"}
    for method, message in told.items():
        with pytest.raises(SystemExit) as stop:
            command.main(["--run", str(runs(method).folder), "--data", str(tmp_path / "a.csv")])
        assert stop.value.code == 1 and message in capsys.readouterr().err


def test_captions_keep_their_line_breaks(tmp_path):
    (tmp_path / "a.csv").write_text('image,caption\na.png,"one\ntwo\u2028three"\nb.png,x\n')
    assert read_pairs(tmp_path / "a.csv").captions == ["one\ntwo\u2028three", "x"]


def test_a_caption_of_one_long_word_loses_its_end():
    word = "\u4e00" * 300
    assert 0 < len(encode(cut(word, 70))) <= 70 and word.startswith(cut(word, 70))
    assert cut("a ring on a table", 3) == "a ring on"


def test_captions_are_cut_by_the_words_of_the_backbone(data_root, tmp_path, open_clip_folder):
    model = f"open_clip:local-dir:{open_clip_folder('siglip')}"
    run = tmp_path / "run"
    words = ["--root", str(data_root), "--seed", "1", "--trainer", "ZeroshotCLIP", "--eval-only"]
    words += ["--dataset-config-file", "configs/datasets/shapes.yaml", "--output-dir", str(run)]
    train.main([*words, "--config-file", "configs/trainers/ZeroshotCLIP/embedded.yaml",
                "MODEL.BACKBONE.NAME", model, "INPUT.SIZE", "auto", "INPUT.PIXEL_MEAN", "auto",
                "INPUT.PIXEL_STD", "auto", "INPUT.INTERPOLATION", "auto", "INPUT.RESIZE", "auto",
                "DATASET.NUM_SHOTS", "1"])  # fmt: skip
    pairs = Pairs([captioned_image(data_root)], ["categorized " * 40], [0])
    assert retrieve(load_prompt(run, ["caption"]), pairs)["cut"] == 1


def captioned_image(data_root) -> str:
    return next(iter(captioned(data_root)))[0]
