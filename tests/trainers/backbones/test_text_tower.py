"""The short text tower gives the features and gradients of plain 77-token CLIP."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy

import clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reference import plain_text_features
from trainers.backbones import text_tower
from trainers.backbones.text_tower import TextTower
from trainers.errors import MethodError
from trainers.prompts.learner import POSITIONS, PromptLearner, context_words

NAMES = ["cat", "great_pyrenees", "Boeing 737-800", "2012 Ferrari FF Coupe", "st.", "dog"]
WORDS = ["amber", "basil", "cedar", "dune", "ember", "fjord", "grove", "heath", "inlet"]
TOLERANCE = 1e-5


def relative(ours: torch.Tensor, plain: torch.Tensor) -> float:
    return ((ours - plain).norm() / plain.norm()).item()


def both(small_clip, frozen_clip, names, ctx, position):
    """Features and context gradients of our tower and of the plain one, same cotangent."""
    learner = PromptLearner(
        frozen_clip.text,
        names,
        n_ctx=ctx.shape[-2],
        class_specific=ctx.dim() == 3,
        position=position,
    )
    learner.ctx.data.copy_(ctx)
    ours = frozen_clip.encode_prompts(*learner())
    plain_ctx = ctx.clone().requires_grad_()
    plain = plain_text_features(small_clip, names, plain_ctx, position)
    cotangent = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1))
    (ours * cotangent).sum().backward()
    (plain * cotangent).sum().backward()
    return ours, plain, learner.ctx.grad, plain_ctx.grad


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("n_ctx", [1, 4, 5, 16])
def test_features_and_gradients_equal_plain_clip(
    small_clip, frozen_clip, position, class_specific, n_ctx
):
    torch.manual_seed(n_ctx)
    shape = (len(NAMES), n_ctx, 128) if class_specific else (n_ctx, 128)
    ours, plain, grad, plain_grad = both(
        small_clip, frozen_clip, NAMES, torch.randn(shape) * 0.1, position
    )
    assert relative(ours, plain) < TOLERANCE
    assert relative(grad, plain_grad) < TOLERANCE


@pytest.mark.parametrize("position", POSITIONS)
def test_names_up_to_the_longest_that_fits_equal_plain_clip(small_clip, frozen_clip, position):
    longest = " ".join(["oak"] * (77 - 1 - 4 - 2))  # start, context, "." and end token
    names = ["oak", longest, "oak oak oak"]
    ctx = torch.randn(4, 128, generator=torch.Generator().manual_seed(0)) * 0.1
    ours, plain, grad, plain_grad = both(small_clip, frozen_clip, names, ctx, position)
    assert relative(ours, plain) < TOLERANCE
    assert relative(grad, plain_grad) < TOLERANCE


@given(
    names=st.lists(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join),
        min_size=1,
        max_size=5,
    ),
    n_ctx=st.integers(1, 8),
    position=st.sampled_from(POSITIONS),
    class_specific=st.booleans(),
)
@settings(max_examples=12, deadline=None)
def test_any_names_and_context_lengths_equal_plain_clip(
    small_clip, frozen_clip, names, n_ctx, position, class_specific
):
    shape = (len(names), n_ctx, 128) if class_specific else (n_ctx, 128)
    ctx = torch.randn(shape, generator=torch.Generator().manual_seed(n_ctx)) * 0.1
    ours, plain, grad, plain_grad = both(small_clip, frozen_clip, names, ctx, position)
    assert relative(ours, plain) < TOLERANCE
    assert relative(grad, plain_grad) < TOLERANCE


@pytest.mark.parametrize("sets", [1, 3])
def test_a_context_for_each_image_equals_plain_clip_image_by_image(small_clip, frozen_clip, sets):
    learner = PromptLearner(frozen_clip.text, NAMES, n_ctx=4)
    ctx = torch.randn(sets, 4, 128, generator=torch.Generator().manual_seed(2)) * 0.1
    plain_ctx = ctx.clone().requires_grad_()
    ctx.requires_grad_()
    ours = frozen_clip.encode_prompts(*learner.assemble(ctx))  # (G, C, D)
    plain = torch.stack([plain_text_features(small_clip, NAMES, one) for one in plain_ctx])
    cotangent = torch.randn(plain.shape, generator=torch.Generator().manual_seed(1))
    (ours * cotangent).sum().backward()
    (plain * cotangent).sum().backward()
    assert relative(ours, plain) < TOLERANCE
    assert relative(ctx.grad, plain_ctx.grad) < TOLERANCE


def test_words_fill_the_last_slots_and_further_tokens_stay_before_the_name(small_clip, frozen_clip):
    words = "a type of pet, a photo of a"  # 8 words, 9 tokens
    learner = PromptLearner(frozen_clip.text, NAMES, n_ctx=10, words=words, right_align=True)
    ids = clip.tokenize(words)[0, 1:10]
    assert not learner.ctx[:2].any()
    assert torch.equal(learner.ctx[2:], small_clip.token_embedding(ids[:8]))
    assert learner.words == "X X a type of pet, a photo of a"
    names = [f"a {name}" for name in NAMES]  # the ninth token
    ours = frozen_clip.encode_prompts(*learner())
    assert relative(ours, plain_text_features(small_clip, names, learner.ctx.detach())) < TOLERANCE


def test_more_words_than_slots_are_refused(frozen_clip):
    with pytest.raises(MethodError, match="N_CTX is 3, but the context starts from 4 words"):
        PromptLearner(frozen_clip.text, NAMES, n_ctx=3, words="a photo of a", right_align=True)


@pytest.mark.parametrize("position", POSITIONS)
def test_one_token_too_many_names_the_class(frozen_clip, position):
    name = "_".join(["oak"] * (77 - 1 - 4 - 2 + 1))
    with pytest.raises(MethodError) as error:
        PromptLearner(frozen_clip.text, ["oak", name], n_ctx=4, position=position)
    assert str(error.value) == (
        f'the prompt of class "{name.replace("_", " ")}" has 78 tokens, but CLIP reads at most 77 '
        "(start and end token included): shorten the class name or the context"
    )


@pytest.mark.parametrize(
    "templates", [["a photo of a {}."], ["{}", "{} texture.", "art of the {}, in a video game"]]
)
def test_hard_prompts_equal_encode_text(small_clip, frozen_clip, templates):
    ours = frozen_clip.encode_templates(templates, NAMES)  # (H, C, D)
    for template, features in zip(templates, ours, strict=True):
        texts = [template.replace("{}", name.replace("_", " ")) for name in NAMES]
        with torch.no_grad():
            plain = small_clip.encode_text(clip.tokenize(texts))
        assert relative(features, plain / plain.norm(dim=-1, keepdim=True)) < TOLERANCE


def test_chunks_do_not_change_hard_prompts(frozen_clip):
    tokens = [
        [49406, *range(300, 300 + n), 49407]
        for n in (1, 5, 2, 9, 3, 3, 1)
    ]  # fmt: skip
    whole = frozen_clip.text.encode_tokens(tokens)
    parts = frozen_clip.text.encode_tokens(tokens, chunk=2)
    assert relative(parts, whole) < TOLERANCE


def test_hard_prompt_that_does_not_fit_names_the_class(frozen_clip):
    with pytest.raises(MethodError, match='class "oak_oak.*" has 78 tokens'):
        frozen_clip.encode_templates(["a photo of a {}."], ["_".join(["oak"] * 71)])


def test_context_starts_from_the_words_of_the_context(small_clip, frozen_clip):
    learner = PromptLearner(frozen_clip.text, NAMES, n_ctx=16, words="a photo of a")
    ids = clip.tokenize("a photo of a")[0, 1:5]
    assert learner.n_ctx == 4
    assert torch.equal(learner.ctx, small_clip.token_embedding(ids))


def test_class_specific_context_starts_each_class_from_the_words(small_clip, frozen_clip):
    learner = PromptLearner(frozen_clip.text, NAMES, words="a photo of a", class_specific=True)
    ids = clip.tokenize("a photo of a")[0, 1:5]
    expected = small_clip.token_embedding(ids).expand(len(NAMES), 4, 128)
    assert torch.equal(learner.ctx, expected)


def test_random_context_has_the_published_scale(frozen_clip):
    torch.manual_seed(0)
    ctx = PromptLearner(frozen_clip.text, NAMES, n_ctx=16, class_specific=True).ctx
    assert ctx.shape == (len(NAMES), 16, 128)
    assert abs(ctx.std().item() - 0.02) < 0.001 and abs(ctx.mean().item()) < 0.001


def test_only_the_context_is_saved_and_learned(frozen_clip):
    learner = PromptLearner(frozen_clip.text, NAMES, n_ctx=3)
    assert list(learner.state_dict()) == ["ctx"]
    assert [name for name, _ in learner.named_parameters()] == ["ctx"]
    assert not any(parameter.requires_grad for parameter in frozen_clip.parameters())


def test_unknown_position_and_empty_context_are_refused(frozen_clip):
    with pytest.raises(MethodError, match='"start", expected one of: end, middle, front'):
        PromptLearner(frozen_clip.text, NAMES, position="start")
    with pytest.raises(MethodError, match="N_CTX is 0, expected at least 1"):
        PromptLearner(frozen_clip.text, NAMES, n_ctx=0)


def test_ctx_init_takes_words_or_a_bool():
    assert context_words(True) == "a photo of a"
    assert context_words(False) == context_words("") == ""
    assert context_words("a_sketch_of") == "a sketch of"


@contextmanager
def at_most(tokens: int):
    """Passes of so many tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tower, "TOKENS_PER_PASS", tokens)
        yield


def encoded(clip, learner, ctx, tokens):
    """Features and context gradient with passes of so many tokens, and what autograd keeps."""
    ctx = ctx.clone().requires_grad_()
    cotangent = None
    weights = {p.untyped_storage().data_ptr() for p in (*clip.parameters(), *learner.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with at_most(tokens):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = clip.encode_prompts(*learner.assemble(ctx))
        cotangent = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
        (features * cotangent).sum().backward()
    return features.detach(), ctx.grad, sum(kept.values())


@pytest.fixture
def exact_clip(frozen_clip, in_float64):
    """The frozen CLIP in float64: in float32, sums in another order differ by up to 1e-6."""
    return deepcopy(frozen_clip).double()


@pytest.mark.parametrize(
    ("position", "shape"),
    [
        *((position, (4, 128)) for position in POSITIONS),  # generic
        *((position, (6, 4, 128)) for position in POSITIONS),  # class-specific
        ("end", (3, 4, 128)),  # G sets, whose class names are at the end
    ],
)
@pytest.mark.parametrize("tokens", [1, 15, 40, 60])
def test_passes_of_few_tokens_change_neither_features_nor_gradients(
    exact_clip, position, shape, tokens
):
    own = shape[0] == len(NAMES)
    learner = PromptLearner(exact_clip.text, NAMES, 4, class_specific=own, position=position)
    learner.double()
    ctx = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double() * 0.1
    whole, grad, _ = encoded(exact_clip, learner, ctx, 2**14)
    parts, parts_grad, _ = encoded(exact_clip, learner, ctx, tokens)
    assert relative(parts, whole) < 1e-12
    assert relative(parts_grad, grad) < 1e-12
    with torch.no_grad(), at_most(tokens):
        assert relative(exact_clip.encode_prompts(*learner.assemble(ctx)), whole) < 1e-12


def test_gradients_can_be_taken_twice_through_passes(exact_clip):
    learner = PromptLearner(exact_clip.text, NAMES, n_ctx=4).double()
    grads = []
    for tokens in (2**14, 20):
        with at_most(tokens):
            features = exact_clip.encode_prompts(*learner())
            first = torch.autograd.grad(features[0].sum(), learner.ctx, retain_graph=True)
            grads.append(torch.cat([*first, *torch.autograd.grad(features[1].sum(), learner.ctx)]))
    assert relative(grads[1], grads[0]) < 1e-12


def test_what_the_backward_pass_keeps_does_not_grow_with_the_classes(frozen_clip):
    kept = {}
    for count in (50, 100, 200):
        learner = PromptLearner(frozen_clip.text, ["oak"] * count, n_ctx=4)  # 3 tokens a class
        ctx = learner.ctx.detach()
        kept[count] = [encoded(frozen_clip, learner, ctx, tokens)[2] for tokens in (2**14, 100)]
    whole, parts = zip(*kept.values(), strict=True)
    assert whole[2] > 1.8 * whole[1] > 3 * whole[0]
    assert parts[2] < whole[2] / 10
    # a class more: its 3 token vectors and its feature, but no activations
    growth = (parts[2] - parts[1]) / 100
    assert growth < 1.1 * 4 * (3 * 128 + 96)


def test_below_the_bound_all_classes_are_one_pass(frozen_clip, monkeypatch):
    passes = []
    encode = TextTower._encode
    monkeypatch.setattr(
        TextTower, "_encode", lambda self, *args: passes.append(args[2]) or encode(self, *args)
    )
    learner = PromptLearner(frozen_clip.text, NAMES, n_ctx=4)
    prefix, suffix, layout = learner()
    N = len(prefix) + len(suffix)
    with at_most(N):
        frozen_clip.text(prefix, suffix, layout)
    assert passes == [layout]
    with at_most(N - 1):
        frozen_clip.text(prefix, suffix, layout)
    assert len(passes) == 3


@pytest.mark.parametrize(
    ("shape", "most"),
    [
        *(((4, 128), most) for most in (15, 20, 30)),  # generic
        *(((6, 4, 128), most) for most in (20, 30, 40)),  # class-specific
        *(((5, 4, 128), most) for most in (20, 30, 60, 120, 180)),  # G sets
    ],
)
def test_no_pass_is_larger_than_the_bound(frozen_clip, monkeypatch, shape, most):
    sizes = []
    encode = TextTower._encode

    def spy(self, prefix, suffix, layout):
        sizes.append(len(prefix) * (prefix.shape[1] + suffix.shape[1]))
        return encode(self, prefix, suffix, layout)

    monkeypatch.setattr(TextTower, "_encode", spy)
    learner = PromptLearner(
        frozen_clip.text, NAMES, 4, class_specific=shape[0] == len(NAMES), position="end"
    )
    prefix, suffix, layout = learner.assemble(torch.zeros(shape))
    with at_most(most), torch.no_grad():
        frozen_clip.text(prefix, suffix, layout)
    assert max(sizes) <= most < sum(sizes)
    assert len(sizes) <= 2 * sum(sizes) / most
