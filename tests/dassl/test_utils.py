"""Registry, meters, files, seeds, images and torch helpers."""

import json
import random
import struct
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import dassl.utils as utils
from dassl.utils import (
    AverageMeter,
    FolderError,
    ImageError,
    MetricMeter,
    MissingFileError,
    Registry,
    UserError,
)

# ---- registry and names


def test_registry_keeps_order_and_returns_what_was_registered():
    registry = Registry("METHOD")

    @registry.register()
    class Beta:
        pass

    def alpha():
        pass

    assert registry.register(alpha) is None
    assert registry.get("Beta") is Beta
    assert registry.get("alpha") is alpha
    assert registry.registered_names() == ["Beta", "alpha"]


def test_registry_refuses_duplicates_unless_forced():
    registry = Registry("METHOD")
    registry.register(len)
    with pytest.raises(KeyError) as error:
        registry.register(len)
    assert error.value.args == (
        'An object named "len" was already registered in "METHOD" registry',
    )
    registry.register(len, force=True)
    assert registry.registered_names() == ["len"]


def test_registry_names_what_is_unknown():
    with pytest.raises(KeyError) as error:
        Registry("METHOD").get("CoOp")
    assert error.value.args == ('Object name "CoOp" does not exist in "METHOD" registry',)


def test_check_availability_proposes_the_nearest_name():
    utils.check_availability("CoOp", ["CoOp", "MoPD"])
    with pytest.raises(UserError) as error:
        utils.check_availability("MoPd", ["CoOp", "MoPD"])
    assert str(error.value) == (
        "The requested one is expected to belong to ['CoOp', 'MoPD'], "
        "but got [MoPd] (do you mean [MoPD]?)"
    )


def test_most_similar_string_is_the_last_of_equals_and_none_without_candidates():
    assert utils.get_most_similar_str_to_a_from_b("ab", ["xb", "ay"]) == "ay"
    assert utils.get_most_similar_str_to_a_from_b("ab", []) is None


def test_tolist_wraps_everything_but_lists():
    assert utils.tolist_if_not([1]) == [1]
    assert utils.tolist_if_not((1, 2)) == [(1, 2)]
    assert utils.tolist_if_not("a") == ["a"]


# ---- errors


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (MissingFileError, FileNotFoundError),
        (FolderError, OSError),
        (utils.ChoiceError, AssertionError),
        (ImageError, ValueError),
    ],
)
def test_user_errors_are_also_what_upstream_raises(kind, base):
    error = kind("what, where, fix")
    assert isinstance(error, UserError)
    assert isinstance(error, base)
    assert str(error) == "what, where, fix"


def test_a_worker_traceback_is_cut_back_to_the_message():
    text = (
        "Caught ImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        'last):\n  File "x.py", line 1, in f\n'
        'dassl.utils.errors.ImageError: "a.png" is bad\nreally\n'
    )
    assert str(ImageError(text)) == '"a.png" is bad\nreally'


# ---- meters


def test_meter_string_is_what_the_epoch_line_shows():
    meter = MetricMeter()
    meter.update({"loss": 1.5, "acc": torch.tensor(2.0)})
    meter.update(None)
    meter.update({"loss": torch.tensor([2.5]), "acc": 4})
    assert str(meter) == "loss 2.5000 (2.0000) acc 4.0000 (3.0000)"
    assert str(MetricMeter()) == ""


def test_meter_takes_mappings_only():
    with pytest.raises(TypeError):
        MetricMeter().update([1.0])  # type: ignore[arg-type]


def test_weighted_average_and_exponential_average():
    meter = AverageMeter()
    meter.update(1.0, n=3)
    meter.update(5.0)
    assert (meter.val, meter.sum, meter.count, meter.avg) == (5.0, 8.0, 4, 2.0)
    ema = AverageMeter(ema=True)
    ema.update(10.0)
    ema.update(20.0)
    assert ema.avg == pytest.approx(0.9 * 1.0 + 2.0)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_average_of_a_meter_is_the_mean(values):
    meter = MetricMeter(delimiter="\t")
    for value in values:
        meter.update({"loss": value, "twice": 2 * value})
    averages = meter.averages()
    assert averages["loss"] == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert averages["twice"] == pytest.approx(2 * averages["loss"], rel=1e-9, abs=1e-6)
    assert meter.meters["loss"].count == len(values)
    assert str(meter).count("\t") == 1


# ---- files


def test_json_is_written_with_indent_and_parents(tmp_path):
    path = tmp_path / "a" / "b.json"
    utils.write_json({"x": [1]}, path)
    assert path.read_text() == '{\n    "x": [\n        1\n    ]\n}'
    assert utils.read_json(path) == {"x": [1]}


def test_json_to_a_bare_name_raises_as_upstream(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        utils.write_json({}, "bare.json")


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "x.json"
    utils.write_json({"old": 1}, path)
    with pytest.raises(TypeError):
        utils.write_json({"new": object()}, path)
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_mkdir_is_repeatable_and_names_the_folder_it_cannot_make(tmp_path):
    utils.mkdir_if_missing(tmp_path / "a" / "b")
    utils.mkdir_if_missing(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=str(tmp_path / "file" / "out")):
        utils.mkdir_if_missing(tmp_path / "file" / "out")
    with pytest.raises(FileNotFoundError):
        utils.mkdir_if_missing("")


def test_check_isfile_warns_and_never_raises(tmp_path):
    (tmp_path / "a").write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert utils.check_isfile(tmp_path / "a")
    with pytest.warns(UserWarning, match=f'No file found at "{tmp_path / "b"}"'):
        assert not utils.check_isfile(tmp_path / "b")


def test_hidden_names_are_left_out(tmp_path):
    for name in ("b", ".hidden", "a"):
        (tmp_path / name).write_text("")
    assert sorted(utils.listdir_nohidden(tmp_path)) == ["a", "b"]
    assert utils.listdir_nohidden(tmp_path, sort=True) == ["a", "b"]


def test_download_keeps_the_old_file_when_it_fails(tmp_path, capsys):
    source, target = tmp_path / "source.bin", tmp_path / "target.bin"
    source.write_bytes(b"x" * 3000)
    utils.download_url(source.as_uri(), target)
    assert target.read_bytes() == source.read_bytes()
    assert "100%" in capsys.readouterr().out
    with pytest.raises(OSError):
        utils.download_url((tmp_path / "absent").as_uri(), target)
    assert target.read_bytes() == source.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source.bin", "target.bin"]


# ---- images


def test_images_become_rgb(tmp_path):
    Image.new("LA", (3, 2), (7, 128)).save(tmp_path / "grey.png")
    image = utils.read_image(str(tmp_path / "grey.png"))
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), (7, 7, 7))


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_a_broken_image_is_named_and_stops_the_run(tmp_path, content):
    path = tmp_path / "x.png"
    if content == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        content = path.read_bytes()[:4000]
    path.write_bytes(content)
    with pytest.raises(ImageError, match="the run stops here") as error:
        utils.read_image(str(path))
    assert str(error.value).startswith(f'"{path}" is not a readable image')


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=f'No file exists at "{tmp_path / "x.png"}"'):
        utils.read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_values_of_16_bits_are_scaled_to_8(tmp_path, suffix):
    values = np.array([[0, 257, 128, 129, 30_000, 65_535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    pixels = np.asarray(utils.read_image(tmp_path / f"x.{suffix}"))
    assert pixels[0, :, 0].tolist() == [0, 1, 0, 1, 117, 255]
    assert (pixels == pixels[..., :1]).all()


def test_grey_values_of_12_bits_and_where_white_is_0_are_scaled_as_well(tmp_path):
    """Pillow reads both as 16 bits from black to white, and writes neither."""
    twelve = bytes((0x00, 0x08, 0x00, 0xFF, 0xF0, 0x10))  # 0, 2048, 4095, 16
    sixteen = np.array([0, 32_896, 65_535, 257], "<u2").tobytes()
    for bits, white, data, expected in (
        (12, 255, twelve, [0, 128, 255, 1]),
        (16, 255, sixteen, [0, 128, 255, 1]),
        (16, 0, sixteen, [255, 127, 0, 254]),
    ):
        fields = {256: 4, 257: 1, 258: bits, 259: 1, 262: int(white > 0), 273: 8, 277: 1, 278: 1}
        fields[279] = len(data)
        table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
        head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
        (tmp_path / "x.tif").write_bytes(
            head + data + struct.pack("<H", len(fields)) + table + bytes(4)
        )
        pixels = np.asarray(utils.read_image(tmp_path / "x.tif"))
        assert pixels[0, :, 0].tolist() == expected
    (tmp_path / "x.ppm").write_bytes(b"P5 3 1 4095\n" + np.array([0, 2048, 4095], ">u2").tobytes())
    assert np.asarray(utils.read_image(tmp_path / "x.ppm"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.int32, "whole numbers of 32 bits"), (np.float32, "decimal numbers")]
)
def test_values_whose_range_is_not_known_are_refused(tmp_path, dtype, kind):
    path = tmp_path / "x.tif"
    Image.fromarray(np.array([[0, 1, 300]], dtype=dtype)).save(path)
    with pytest.raises(ImageError) as error:
        utils.read_image(path)
    assert str(error.value).startswith(f'"{path}" has pixels that are {kind}, whose range')


def test_palettes_cmyk_and_black_and_white_become_the_colours_that_they_show(tmp_path):
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for mode in ("P", "CMYK"):
        red.convert(mode).save(tmp_path / f"{mode}.tif")
        assert utils.read_image(tmp_path / f"{mode}.tif").getpixel((1, 1)) == (255, 0, 0)
    Image.new("1", (4, 4), 1).save(tmp_path / "white.png")
    assert utils.read_image(tmp_path / "white.png").getpixel((1, 1)) == (255, 255, 255)


def test_a_picture_with_too_many_pixels_is_no_damaged_file(tmp_path, monkeypatch):
    Image.new("L", (40, 40)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(ImageError, match="has too many pixels .*1600 pixels.*1400 pixels") as error:
        utils.read_image(tmp_path / "huge.png")
    assert "scale it down" in str(error.value) and "good copy" not in str(error.value)


# ---- torch


def test_a_seed_fixes_python_numpy_and_torch():
    def draw():
        return random.random(), float(np.random.rand()), torch.rand(1).item()

    utils.set_random_seed(3)
    first = draw()
    utils.set_random_seed(3)
    assert draw() == first
    assert first[0] == random.Random(3).random()


def test_device_is_the_cpu_unless_cuda_is_there_and_wanted(monkeypatch):
    assert utils.get_device(False) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert utils.get_device(True) == torch.device("cuda")
    assert utils.get_device(False) == torch.device("cpu")


def test_environment_report_ends_with_pillow():
    import PIL

    report = utils.collect_env_info()
    assert "PyTorch version" in report
    assert report.endswith(f"\n        Pillow ({PIL.__version__})")


def small_model() -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


def test_parameters_are_counted_trainable_or_not():
    model = small_model()
    model[0].requires_grad_(False)
    total = (3 * 4 * 9 + 4) + (4 + 4) + (4 * 2 + 2)
    assert utils.count_num_param(model) == total
    assert utils.count_num_param(params=model.parameters()) == total
    assert utils.count_num_param(params=[{"params": model[2].parameters()}]) == 10
    with pytest.raises(ValueError):
        utils.count_num_param()


def test_layers_are_opened_and_frozen():
    model = small_model()
    utils.open_specified_layers(model, "2")
    assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 2
    assert [m.training for m in model] == [False, False, True]
    utils.open_all_layers(model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model)
    with pytest.raises(UserError, match="'head'"):
        utils.open_specified_layers(model, ["head"])


def test_initialisation_of_weights_and_biases():
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(200, 200), nn.BatchNorm1d(200))
    nn.init.zeros_(model[1].weight)
    utils.init_network_weights(model, "normal", 0.02)
    assert model[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model[0].bias.abs().max() == 0
    assert model[1].weight.min() == 1
    with pytest.raises(NotImplementedError):
        utils.init_network_weights(model, "magic")


def test_pretrained_weights_are_taken_where_name_and_shape_match(tmp_path, capsys):
    source = {"module.0.weight": torch.ones(4, 2), "0.bias": torch.ones(5), "x": torch.ones(1)}
    torch.save({"state_dict": source}, tmp_path / "w.pt")
    model: Any = nn.Sequential(nn.Linear(2, 4))
    bias = model[0].bias.detach().clone()
    utils.load_pretrained_weights(model, str(tmp_path / "w.pt"))
    assert torch.equal(model[0].weight, torch.ones(4, 2))
    assert torch.equal(model[0].bias, bias)
    assert capsys.readouterr().out == (
        f"Successfully loaded pretrained weights from {tmp_path / 'w.pt'}\n"
        "Layers discarded due to unmatched keys or size: ['0.bias', 'x']\n"
    )


def test_pretrained_weights_that_match_nothing_are_warned_about(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.warns(UserWarning, match="Cannot load .* \\(check the key names manually\\)"):
        utils.load_pretrained_weights(nn.Linear(2, 2), str(tmp_path / "w.pt"))
