"""open_clip's families give the features, gradients and logits of open_clip's own forward."""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from functools import cache

import open_clip
import pytest
import torch
from torch import nn

from benchmarks.reference import open_clip_text_features
from tests.tiny_models import FAMILIES, built
from trainers.backbones import openclip, text_tower
from trainers.backbones.clip_model import FrozenCLIP, load_clip
from trainers.backbones.full_tower import FullTower
from trainers.backbones.precision import resolve_precision
from trainers.errors import MethodError
from trainers.prompts.learner import POSITIONS, PromptLearner

NAMES = ["cat", "red fox", "green_circle 7", "St. Bernard's x-ray, an old one", "a"]
CPU = resolve_precision("fp32", "cpu")
TOLERANCE = 1e-5
SEEN = 1e-4  # a wrong rule differs by more


def relative(ours: torch.Tensor, plain: torch.Tensor) -> float:
    return ((ours - plain).norm() / plain.norm()).item()


class Both:
    """A family's model in our towers, and as open_clip has built it."""

    def __init__(self, folder):
        self.name = f"open_clip:local-dir:{folder}"
        self.clip = load_clip(self.name, CPU)
        self.model = built(folder)
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    def soft(self, clip: FrozenCLIP | None = None, M: int = 3) -> tuple[float, float]:
        """How far features and gradients of soft prompts differ from open_clip's."""
        clip = clip or self.clip
        learner = PromptLearner(clip.text, NAMES, n_ctx=M)
        ctx = torch.randn(M, clip.text.width, generator=torch.Generator().manual_seed(1)) * 0.2
        learner.ctx.data.copy_(ctx)
        ours = clip.encode_prompts(*learner())
        plain_ctx = ctx.clone().requires_grad_()
        words = " ".join(["x"] * M)
        ids = self.tokenizer([f"{words} {name.replace('_', ' ')}." for name in NAMES])
        S = len(clip.text.tokenizer.start)
        vectors = getattr(self.model, "text", self.model).token_embedding(ids)
        vectors = torch.cat(
            [vectors[:, :S], plain_ctx.expand(len(NAMES), -1, -1), vectors[:, S + M :]], dim=1
        )
        plain = open_clip_text_features(self.model, ids, vectors)
        cotangent = torch.randn(plain.shape, generator=torch.Generator().manual_seed(2))
        (ours * cotangent).sum().backward()
        (plain * cotangent).sum().backward()
        return relative(ours, plain), relative(learner.ctx.grad, plain_ctx.grad)

    def hard(self, clip: FrozenCLIP | None = None) -> float:
        """How far features of hard prompts differ from open_clip's."""
        ours = (clip or self.clip).encode_templates(["a photo of a {}.", "{}"], NAMES)
        texts = [
            template.replace("{}", name.replace("_", " "))
            for template in ("a photo of a {}.", "{}")
            for name in NAMES
        ]
        with torch.no_grad():
            plain = open_clip_text_features(self.model, self.tokenizer(texts))
        return relative(ours.flatten(0, 1), plain)


@pytest.fixture(scope="module")
def both(open_clip_folder):
    """`both(family)`; each is loaded once."""
    return cache(lambda family: Both(open_clip_folder(family)))


@pytest.mark.parametrize("family", FAMILIES)
def test_hard_and_soft_prompts_and_gradients_equal_open_clips_forward(both, family):
    pair = both(family)
    assert pair.hard() < TOLERANCE
    features, gradients = pair.soft()
    assert features < TOLERANCE and gradients < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_shot_logits_equal_open_clips(both, family):
    pair = both(family)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    with torch.no_grad():
        plain, _ = pair.model.get_logits(images, pair.tokenizer(texts))
    classes = pair.clip.encode_templates(["a photo of a {}."], NAMES)[0]
    ours = pair.clip.logit_scale * pair.clip.encode_image(images) @ classes.T
    bias = pair.clip.logit_bias
    assert (bias is not None) == (family == "siglip")
    assert relative(ours + (0 if bias is None else bias), plain) < TOLERANCE
    # what all classes have alike does not move an answer
    assert torch.allclose(ours.softmax(-1), plain.softmax(-1), atol=1e-5)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("family", ["eos_only", "siglip", "mobile", "norms"])
def test_any_layout_of_a_prompt_equals_open_clips_forward(both, family, position, class_specific):
    pair = both(family)
    tower = pair.clip.text
    learner = PromptLearner(tower, NAMES, n_ctx=4, class_specific=class_specific, position=position)
    learner.ctx.data.normal_(std=0.2, generator=torch.Generator().manual_seed(3))
    ours = pair.clip.encode_prompts(*learner())
    prefix, suffix, layout = learner()
    index, ends = layout.padded(len(prefix), tower.context_length, prefix.device)
    pad = tower.token_embedding.weight[tower.tokenizer.pad][None]
    vectors = torch.cat([prefix, suffix, pad])[index]
    ids = torch.full(index.shape, tower.tokenizer.pad)
    ids[torch.arange(len(ids)), ends] = tower.tokenizer.end[-1]  # what the rule looks for
    plain = open_clip_text_features(pair.model, ids, vectors)
    assert relative(ours, plain) < TOLERANCE


@pytest.mark.parametrize("family", ["siglip", "clipa", "eos_only"])
def test_many_classes_and_sets_are_computed_in_parts_with_the_same_result(
    both, family, monkeypatch
):
    clip = both(family).clip
    learner = PromptLearner(clip.text, NAMES * 3, n_ctx=2)
    ctx = torch.randn(3, 2, clip.text.width, generator=torch.Generator().manual_seed(2)) * 0.2

    def computed():
        own = ctx.clone().requires_grad_()
        features = clip.encode_prompts(*learner.assemble(own))
        features[..., 0].sum().backward()
        return features.detach(), own.grad

    whole = computed()
    monkeypatch.setattr(text_tower, "TOKENS_PER_PASS", 150)
    parts = computed()
    assert whole[0].shape == (3, 15, 32)
    assert relative(parts[0], whole[0]) < TOLERANCE and relative(parts[1], whole[1]) < TOLERANCE


def cut_padding(clip, model):
    """Prompts as long as the longest needs, instead of the context length."""
    parts = openclip.parts(model, clip.text.tokenizer, clip.preprocessing, "a model").text
    short = dataclasses.replace(parts, positional_embedding=parts.positional_embedding[:31])
    clip.text = FullTower(short)


def causal_instead(clip, model):
    """What comes later is not seen, as in OpenAI's tower."""
    clip.text.causal = True


def argmax_for_eos(clip, model):
    """The highest id is read: with this tokenizer a word's."""
    model.text_pool_type = "argmax"


def no_quick_gelu(clip, model):
    """GELU where the weights belong to QuickGELU."""
    clip.text.quick = False
    for block in clip.text.blocks:
        block.mlp.gelu = nn.GELU()


def quick_gelu(clip, model):
    """QuickGELU where the weights belong to GELU."""
    clip.text.quick = True


def exact_gelu(clip, model):
    """GELU without SigLIP 2's approximation."""
    for block in clip.text.blocks:
        block.mlp.gelu = nn.GELU()


def no_layer_scale(clip, model):
    for block in clip.text.blocks:
        block.ls_1 = block.ls_2 = nn.Identity()


def no_bias(clip, model):
    nn.init.zeros_(clip.text.text_projection.bias)


def first_word(clip, model):
    """A class name is cut as if it began the text."""
    tokenizer = clip.text.tokenizer
    tokenizer.__dict__["_encode"] = lambda text, inside: type(tokenizer)._encode(
        tokenizer, text, False
    )


def no_head_scale(clip, model):
    for block in clip.text.blocks:
        block.attn.head_scale = None


@pytest.mark.parametrize(
    ("family", "mutation"),
    [
        ("siglip", cut_padding),
        ("siglip", causal_instead),
        ("siglip", exact_gelu),
        ("siglip", no_bias),
        ("siglip", first_word),
        ("mobile", causal_instead),
        ("clipa", cut_padding),
        ("eos", argmax_for_eos),
        ("eos_only", argmax_for_eos),
        ("quick", no_quick_gelu),
        ("quick", no_layer_scale),
        ("short", no_layer_scale),
        ("causal", quick_gelu),
        ("norms", no_head_scale),
    ],
)
def test_a_wrong_rule_is_seen(both, family, mutation):
    pair = both(family)
    assert max(pair.soft()) < TOLERANCE
    changed = deepcopy(pair)
    mutation(changed.clip, changed.model)
    assert max(changed.soft()) > SEEN


def test_a_rule_that_finds_another_position_is_refused_when_a_model_is_loaded(
    both, monkeypatch, open_clip_folder
):
    name, right = both("eos").name, openclip.read_position
    monkeypatch.setattr(openclip, "read_position", lambda pool, ids, eos: right("argmax", ids, eos))
    with pytest.raises(MethodError, match="which is not that of the end token of its tokenizer"):
        load_clip(name, CPU)


def test_each_tower_computes_no_more_than_it_must(both):
    tokens = {}
    for family in FAMILIES:
        tower = both(family).clip.text
        learner = PromptLearner(tower, NAMES, n_ctx=3)
        prefix, suffix, layout = learner()
        tokens[family] = tower.tokens(len(prefix), layout), len(prefix) + len(suffix)
    short = {f for f, (computed, needed) in tokens.items() if computed == needed}
    assert short == {"causal", "quick", "short", "eos", "eos_only", "norms"}
    assert {f: tokens[f][0] for f in FAMILIES if f not in short} == {
        "siglip": 5 * 64, "mobile": 5 * 77, "clipa": 5 * 32
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_those_of_open_clips_tokenizer(both, family):
    pair = both(family)
    tokenizer, length = pair.clip.text.tokenizer, pair.clip.text.context_length
    for text in ("a photo of a red fox.", "Cat", "x-ray 12, of 'a'", "photo"):
        ids = tokenizer.prompt(text, text, length)
        row = pair.tokenizer([text])[0].tolist()
        assert ids + [tokenizer.pad] * (length - len(ids)) == row
        assert tokenizer.clean(text) == tokenizer.clean(f" {text} ")
    around = {
        "eos": ((0,), (2,), 1), "eos_only": ((), (1,), 0), "siglip": ((), (1,), 0),
        "clipa": ((2,), (0,), 0),
    }.get(family, ((49406,), (49407,), 0))  # fmt: skip
    assert (tokenizer.start, tokenizer.end, tokenizer.pad) == around


def test_the_eps_of_norms_and_the_width_of_features_are_the_models(both):
    assert both("siglip").clip.text.ln_final.eps == 1e-6
    assert both("causal").clip.text.ln_final.eps == 1e-5
    assert {both(family).clip.embed_dim for family in FAMILIES} == {32}


def test_the_context_starts_from_words_as_the_models_tokenizer_reads_them(both):
    for family in ("siglip", "eos", "causal"):
        pair = both(family)
        learner = PromptLearner(pair.clip.text, NAMES, words="a photo of a")
        embedding = getattr(pair.model, "text", pair.model).token_embedding
        start = len(pair.clip.text.tokenizer.start)
        ids = pair.tokenizer(["a photo of a"])[0, start : start + 4]
        assert torch.equal(learner.ctx, embedding(ids))


def test_a_context_that_is_longer_than_the_tower_is_refused(both):
    with pytest.raises(MethodError) as error:
        PromptLearner(both("short").clip.text, NAMES, n_ctx=31)
    assert str(error.value) == (
        "the context has 31 tokens, but prompts of this backbone have room for 30 beside start and "
        "end token, which the class name needs as well: set a smaller N_CTX"
    )
    with pytest.raises(MethodError, match="reads at most 32"):
        PromptLearner(both("short").clip.text, NAMES, n_ctx=29)


@pytest.mark.parametrize("name", ["bf16", "amp"])
@pytest.mark.parametrize("family", ["quick", "mobile", "norms", "siglip"])
def test_lower_precision_is_close(both, open_clip_folder, family, name):
    pair = both(family)
    low = load_clip(pair.name, resolve_precision(name, "cpu"))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert 0 < relative(low.encode_image(images), pair.clip.encode_image(images)) < 0.05
    learner = PromptLearner(low.text, NAMES, n_ctx=2)
    features = low.encode_prompts(*learner())
    features[:, 0].sum().backward()
    assert features.dtype == learner.ctx.grad.dtype == torch.float32 and learner.ctx.grad.any()
    assert 0 < relative(features, pair.clip.encode_prompts(*learner())) < 0.05


def test_loading_uses_up_no_random_numbers(both):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_clip(both("siglip").name, CPU)
    assert torch.equal(torch.rand(3), expected)
