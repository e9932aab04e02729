"""What a run refuses, or says, because its numbers would mean nothing."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import train
from datasets.reader import words
from trainers.backbones.tokens import encode, plain_name


@pytest.fixture
def photos(tmp_path):
    """A folder of four images in train and in test for each of some classes."""

    def make(*names: str):
        for part in ("train", "test"):
            for number, name in enumerate(names):
                (tmp_path / "photos" / part / name).mkdir(parents=True)
                for i in range(4):
                    path = tmp_path / "photos" / part / name / f"{i}.png"
                    Image.new("RGB", (32, 32), (40 * number, 20 * i, 90)).save(path)
        return f"folder:{tmp_path}/photos"

    return make


def test_one_class_in_a_half_is_refused(job, refused, photos, tmp_path):
    pairs = ("DATASET.NAME", photos("cat", "dog", "owl"))
    new = ("--eval-only", *pairs, "DATASET.SUBSAMPLE_CLASSES", "new")
    message = refused(job("ZeroshotCLIP", *new))
    assert "has one new class only, of which every answer is right" in message
    assert not list((tmp_path / "run").rglob("results.json"))
    found = train.main(job("ZeroshotCLIP", "--eval-only", *pairs))  # base: cat and dog
    assert found["num_classes"] == 2


def test_classes_with_one_prompt_are_named(job, photos, capsys):
    pairs = ("DATASET.NAME", photos("Blue Jay", "CAT", "blue_jay", "cat", "owl"))
    train.main(job("ZeroshotCLIP", "--eval-only", *pairs, "DATASET.SUBSAMPLE_CLASSES", "all"))
    note = "Note: classes with one prompt, which cannot be told apart: "
    assert f"{note}Blue Jay = blue_jay, CAT = cat\n" in capsys.readouterr().out


@given(st.lists(st.text("aA's.-_&; 1é\u00a0ﬁﬀ", max_size=5), max_size=20))
def test_names_have_one_prompt_where_they_have_the_same_tokens(names):
    names = [*names, "blue-jay", "blue - jay", "a&b", "a&amp;b", "no 1", "no1"]
    by_words, by_tokens = defaultdict(list), defaultdict(list)
    for name in names:
        by_words[words(name)].append(name)
        by_tokens[tuple(encode(plain_name(name)))].append(name)
    assert list(by_words.values()) == list(by_tokens.values())


def test_what_is_asked_of_results_that_exist_is_said_to_be_left_out(job, capsys, tmp_path):
    train.main(job("ZeroshotCLIP", "--eval-only"))
    train.main(job("ZeroshotCLIP", "--eval-only"))
    assert "Note: TEST." not in capsys.readouterr().out
    train.main(job("ZeroshotCLIP", "--eval-only", "TEST.COMPUTE_CMAT", "True"))
    assert "Note: TEST.COMPUTE_CMAT is not done for results that exist" in capsys.readouterr().out
    assert not list(tmp_path.rglob("cmat*"))
    for every, told in (("0", 0), ("1", 1), ("2", 0)):
        pairs = ("--output-dir", str(tmp_path / "trained"), "TRAIN.CHECKPOINT_FREQ", every)
        train.main(job("CoOp", *pairs))
        assert capsys.readouterr().out.count("Note: TRAIN.CHECKPOINT_FREQ makes no") == told


def test_a_warm_up_longer_than_the_training_is_refused(job, refused):
    message = refused(job("CoOp", "OPTIM.WARMUP_EPOCH", "3"))
    assert message == (
        "OPTIM.WARMUP_EPOCH is 3, longer than the training: expected at most OPTIM.MAX_EPOCH 2"
    )
