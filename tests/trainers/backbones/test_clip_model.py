"""CLIP loads from names, state dicts and TorchScript archives, in every size and precision."""

from __future__ import annotations

import clip
import pytest
import torch
from torch import nn
from torch.profiler import profile

from benchmarks.reference import plain_clip
from trainers.backbones.clip_model import FrozenCLIP, check_image_size, load_clip
from trainers.backbones.precision import Precision, resolve_precision
from trainers.errors import MethodError

CPU = resolve_precision("fp32", "cpu")
SMALL = {"text_width": 64, "text_layers": 1, "resolution": 32, "patch": 16, "width": 64}


def saved(tmp_path, **sizes):
    """A small CLIP and the file of its state dict, fp16 as OpenAI's files."""
    model = plain_clip(**{**SMALL, "layers": 1, **sizes})
    path = tmp_path / "weights.pt"
    state = model.state_dict()
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    return model, path


@pytest.mark.parametrize(
    ("embed_dim", "layers", "width"),
    [
        (512, 1, 64),  # ViT-B
        (640, (1, 1, 1, 1), 16),  # RN50x4
        (768, 2, 128),  # ViT-L
        (1024, (1, 2, 1, 1), 16),  # RN50
    ],
)
def test_all_sizes_come_from_the_weights(tmp_path, embed_dim, layers, width):
    model, path = saved(tmp_path, embed_dim=embed_dim, layers=layers, width=width)
    loaded = load_clip(str(path), CPU)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    texts = ["a photo of a cat.", "a sketch of a dog."]
    with torch.no_grad():
        image = nn.functional.normalize(model.encode_image(images), dim=-1)
        text = nn.functional.normalize(model.encode_text(clip.tokenize(texts)), dim=-1)
    assert (loaded.embed_dim, loaded.resolution) == (embed_dim, 32)
    # the file holds fp16: embeddings and LayerNorm lose digits that the model in memory has
    assert (loaded.encode_image(images) - image).abs().max() < 2e-3
    ours = loaded.encode_templates(["{}"], [t.rstrip(".") + "." for t in texts])[0]
    assert (ours - text).abs().max() < 2e-3
    # fp16 rounds numbers between 2 and 4, as its logarithm, by at most 2**-10
    assert loaded.logit_scale.item() == pytest.approx(1 / 0.07, rel=1e-3)


def test_a_torchscript_archive_gives_the_same_features_as_its_state_dict(tmp_path):
    model, path = saved(tmp_path)
    archive = tmp_path / "archive.pt"
    clip.model.convert_weights(model)
    traced = torch.jit.trace(
        model.float(), (torch.zeros(1, 3, 32, 32), clip.tokenize("a")), check_trace=False
    )
    traced.save(str(archive))
    torch.save(model.state_dict(), path)
    images = torch.randn(2, 3, 32, 32)
    a, b = (load_clip(str(p), CPU) for p in (archive, path))
    assert torch.equal(a.encode_image(images), b.encode_image(images))
    assert torch.equal(a.encode_templates(["{}"], ["cat"]), b.encode_templates(["{}"], ["cat"]))


def test_a_nested_state_dict_is_read(tmp_path):
    model, path = saved(tmp_path)
    torch.save({"state_dict": model.state_dict()}, path)
    assert load_clip(str(path), CPU).embed_dim == 512


@pytest.mark.parametrize("content", ["", "text", "half", "list", "other", "broken"])
def test_a_file_that_is_not_clip_is_refused_by_name(tmp_path, content):
    _, path = saved(tmp_path)
    whole = path.read_bytes()
    if content == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "list":
        torch.save([1, 2], path)
    elif content == "other":
        torch.save({"conv1.weight": torch.zeros(1)}, path)
    elif content == "broken":
        state = torch.load(path, weights_only=True)
        state["ln_final.weight"] = torch.zeros(3)
        torch.save(state, path)
    else:
        path.write_text(content)
    with pytest.raises(MethodError) as error:
        load_clip(str(path), CPU)
    expected = {
        "list": "holds a list, expected a state dict",
        "other": "visual.conv1.weight, positional_embedding",
        "broken": "do not fit together",
    }.get(content, "cannot be read as weights")
    assert str(path) in str(error.value) and expected in str(error.value)


def test_loading_uses_up_no_random_numbers(tmp_path):
    _, path = saved(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_clip(str(path), CPU)
    assert torch.equal(torch.rand(3), expected)


def test_towers_stay_frozen_and_in_evaluation_mode(tmp_path):
    _, path = saved(tmp_path, layers=(1, 1, 1, 1), width=16)
    loaded = load_clip(str(path), CPU).train()
    assert not any(module.training for module in loaded.modules())
    before = {k: v.clone() for k, v in loaded.state_dict().items()}
    loaded.encode_image(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 0.05), ("amp", 0.05)])
def test_lower_precision_is_close_and_features_and_gradients_stay_fp32(tmp_path, name, tolerance):
    from trainers.prompts.learner import PromptLearner

    _, path = saved(tmp_path)
    full, low = load_clip(str(path), CPU), load_clip(str(path), resolve_precision(name, "cpu"))
    images = torch.randn(2, 3, 32, 32)
    assert low.visual.conv1.weight.dtype == (torch.bfloat16 if name == "bf16" else torch.float32)
    assert low.text.ln_final.weight.dtype == torch.float32
    features, exact = low.encode_image(images), full.encode_image(images)
    assert features.dtype == torch.float32
    assert 0 < (features - exact).norm() / exact.norm() < tolerance
    torch.manual_seed(0)
    learner = PromptLearner(low.text, ["cat", "red fox"], n_ctx=4)
    text = low.encode_prompts(*learner())
    text[0].sum().backward()
    assert text.dtype == learner.ctx.grad.dtype == torch.float32 and learner.ctx.grad.any()
    exact = full.encode_prompts(*learner())
    assert 0 < ((text - exact).norm() / exact.norm()).item() < tolerance


def test_auto_precision_fits_the_device():
    assert resolve_precision("auto", "cpu") == Precision("fp32", torch.device("cpu"), torch.float32)
    assert resolve_precision("auto", "cuda") == Precision(
        "fp16", torch.device("cuda"), torch.float16
    )


def test_gradients_are_scaled_only_where_they_pass_through_fp16():
    assert resolve_precision("fp32", "cpu").scaler() is None
    assert resolve_precision("bf16", "cpu").scaler() is None
    assert resolve_precision("amp", "cpu").scaler() is None
    assert resolve_precision("bf16", "cuda").scaler() is None


def test_images_of_another_size_are_refused(frozen_clip):
    check_image_size(frozen_clip, (32, 32), "small")
    with pytest.raises(MethodError) as error:
        check_image_size(frozen_clip, (224, 224), "small")
    assert str(error.value) == (
        "INPUT.SIZE is (224, 224), but small reads images of 32x32 pixels: "
        'set INPUT.SIZE "(32, 32)"'
    )


def openai_built(weights, dtype):
    """The model as OpenAI's builder leaves it, its fp16 parameters in another dtype."""
    model = clip.model.build_model(dict(weights))
    for parameter in model.parameters():
        if parameter.dtype is torch.float16:
            parameter.data = parameter.data.to(dtype)
    return model


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("layers", [2, (1, 2, 1, 1)])  # a ViT, a ResNet
def test_every_tensor_is_as_openais_builder_leaves_it(tmp_path, precision, half, layers):
    model = plain_clip(**{**SMALL, "layers": layers})
    generator = torch.Generator().manual_seed(0)
    weights = {  # fp32 values that fp16 cannot hold, if not `half`
        key: value + 1e-4 * torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for key, value in model.state_dict().items()
    }
    if half:
        clip.model.convert_weights(model)
        weights = {key: weights[key].to(value.dtype) for key, value in model.state_dict().items()}
    torch.save(weights, tmp_path / "weights.pt")
    towers = resolve_precision(precision, "cpu")
    loaded = load_clip(str(tmp_path / "weights.pt"), towers)
    expected = FrozenCLIP(openai_built(weights, towers.dtype), towers)
    found = loaded.state_dict()
    assert list(found) == list(expected.state_dict())
    for key, value in expected.state_dict().items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value), key
    for ours, theirs in zip(loaded.text.blocks, expected.text.blocks, strict=True):
        assert torch.equal(ours.attn_mask, theirs.attn_mask)


def test_no_weights_are_drawn(tmp_path, monkeypatch):
    _, path = saved(tmp_path, layers=(1, 1, 1, 1))
    drawn = []
    for name in ("normal_", "uniform_", "kaiming_uniform_", "xavier_uniform_"):
        real = getattr(nn.init, name)

        def spy(tensor, *args, real=real, **options):
            drawn.extend([] if tensor.is_meta else [tensor])
            return real(tensor, *args, **options)

        monkeypatch.setattr(nn.init, name, spy)
    load_clip(str(path), CPU)
    assert drawn == []


@pytest.mark.parametrize("half", [True, False])
def test_a_file_that_changes_later_does_not_change_the_towers(tmp_path, half):
    model, path = saved(tmp_path)
    if not half:
        torch.save(model.state_dict(), path)
    loaded = load_clip(str(path), CPU)
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert all(torch.equal(value, before[key]) for key, value in loaded.state_dict().items())


def test_a_state_dict_of_an_old_torch_is_read(tmp_path):
    model, path = saved(tmp_path)
    new = load_clip(str(path), CPU).state_dict()
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    old = load_clip(str(path), CPU).state_dict()
    assert all(torch.equal(value, new[key]) for key, value in old.items())


@pytest.mark.parametrize("layers", [2, (1, 1, 1, 1)])  # a ViT, a ResNet
def test_the_image_tower_builds_no_graph_and_attends_in_one_kernel(layers):
    model = plain_clip(**{**SMALL, "layers": layers})
    images = torch.randn(3, 3, 32, 32)
    exact = nn.functional.normalize(model.encode_image(images), dim=-1)
    loaded = FrozenCLIP(model, CPU)
    with profile() as trace:
        features = loaded.encode_image(images)
    calls = {event.key: event.count for event in trace.key_averages()}
    blocks = layers if isinstance(layers, int) else 1  # a ResNet attends once, to pool
    assert calls["aten::scaled_dot_product_attention"] == blocks
    assert not {"aten::softmax", "aten::baddbmm", "aten::bmm"} & calls.keys()
    assert features.grad_fn is None and not features.requires_grad
    assert exact.grad_fn is not None and torch.allclose(features, exact, atol=1e-6)
