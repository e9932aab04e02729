"""Views that are made on the device are those of the Pillow pipeline, bit for bit."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from dassl.data import DataManager, DatasetWrapper, device_augment
from dassl.data.data_manager import build_data_loader
from dassl.data.device_augment import resize_as_pillow
from dassl.data.transforms import build_transform
from dassl.engine import build_trainer
from dassl.utils import ImageError, UserError, set_random_seed

MODES = {
    InterpolationMode.BILINEAR: Image.Resampling.BILINEAR,
    InterpolationMode.BICUBIC: Image.Resampling.BICUBIC,
}
sides = st.integers(1, 90)


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """Noise, hard edges or a slope, which round and clip in other ways."""
    generator = np.random.default_rng(seed)
    if seed % 3 == 0:
        return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if seed % 3 == 1:
        return (generator.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    slope = np.add.outer(np.linspace(0, 200, height), np.linspace(0, 55, width))
    return np.stack([slope, 255 - slope, slope / 2], axis=-1).astype(np.uint8)


@settings(max_examples=150, deadline=None)
@given(
    shapes=st.lists(st.tuples(sides, sides), min_size=1, max_size=4),
    size=st.tuples(sides, sides),
    mode=st.sampled_from(list(MODES)),
    seed=st.integers(0, 10**6),
    part=st.sampled_from([1, 10**4, 10**9]),
)
def test_resizing_equals_pillow(shapes, size, mode, seed, part):
    images = [draw_image(seed + i, *shape) for i, shape in enumerate(shapes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_augment, "PART", part)
        found = resize_as_pillow([torch.from_numpy(x).permute(2, 0, 1) for x in images], size, mode)
    assert found.dtype == torch.uint8
    for image, out in zip(images, found, strict=True):
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], MODES[mode]))
        difference = np.abs(out.permute(1, 2, 0).numpy().astype(int) - expected)
        assert difference.max() == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_large_photo_differs_by_one_level_in_few_pixels_at_most(mode):
    # more than 64 pixels count for one: sums of float32 products may round
    image = draw_image(3, 4100, 4000)
    found = resize_as_pillow([torch.from_numpy(image).permute(2, 0, 1)], (24, 32), mode)[0]
    expected = np.asarray(Image.fromarray(image).resize((32, 24), MODES[mode]))
    difference = np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


@pytest.fixture
def source(tmp_path):
    """Images of several sizes, wide and tall ones."""
    shapes = [(9, 31), (40, 6), (20, 20), (8, 8), (33, 47), (64, 10), (12, 16)]
    for i, shape in enumerate(shapes):
        Image.fromarray(draw_image(i, *shape)).save(tmp_path / f"{i}.png")
    return [
        SimpleNamespace(impath=str(tmp_path / f"{i}.png"), label=i % 3, domain=i % 2)
        for i in range(len(shapes))
    ]


def loader_of(cfg, source, **options):
    transform = build_transform(cfg, is_train=True)
    return build_data_loader(cfg, "RandomSampler", source, 3, tfm=transform, **options)


CROP, FLIP, NORM = "random_resized_crop", "random_flip", "normalize"


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("choices", [(CROP, FLIP, NORM), (FLIP, NORM), (CROP,), (FLIP,), ()])
def test_batches_are_those_of_the_plain_loader_without_workers(make_cfg, source, choices, mode):
    inputs = ("INPUT.TRANSFORMS", choices, "INPUT.INTERPOLATION", mode, "INPUT.SIZE", (10, 14))
    batches, after = [], []
    for on_device, workers in ((False, 0), (True, 0), (True, 2)):
        cfg = make_cfg(
            *inputs, "INPUT.DEVICE_AUGMENT", on_device, "DATALOADER.NUM_WORKERS", workers
        )
        loader = loader_of(cfg, source)
        assert (len(loader), loader.batch_size) == (2, 3)
        assert loader.dataset.data_source is source and isinstance(loader.dataset, DatasetWrapper)
        torch.manual_seed(1)
        batches.append([batch | {"noise": torch.rand(2)} for _ in range(3) for batch in loader])
        after.append(torch.rand(2).tolist())
    assert after[0] == after[1] == after[2]
    for plain, *others in zip(*batches, strict=True):
        for other in others:
            assert plain.keys() == other.keys()
            assert plain["impath"] == other["impath"]
            for key in ("img", "label", "domain", "index", "noise"):
                assert plain[key].dtype == other[key].dtype
                assert torch.equal(plain[key], other[key]), key


def test_training_gives_the_same_weights(make_cfg, tmp_path):
    states = []
    for on_device in (False, True):
        out = str(tmp_path / str(on_device))
        set_random_seed(1)
        trainer = build_trainer(make_cfg("INPUT.DEVICE_AUGMENT", on_device, "OUTPUT_DIR", out))
        trainer.train()
        states.append(trainer.model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_images_are_decoded_once_when_the_first_is_needed(make_cfg, source, capsys):
    loader = loader_of(make_cfg("INPUT.DEVICE_AUGMENT", True), source)
    assert "Keeping" not in capsys.readouterr().out
    list(loader)
    assert capsys.readouterr().out == "Keeping 7 decoded training images on cpu (0.0 MiB)\n"
    for item in source:
        os.remove(item.impath)
    list(loader)
    assert capsys.readouterr().out == ""


def test_a_damaged_image_is_named(make_cfg, source):
    os.truncate(source[4].impath, 50)
    loader = loader_of(make_cfg("INPUT.DEVICE_AUGMENT", True), source)
    with pytest.raises(ImageError, match=f'"{source[4].impath}" is not a readable image'):
        list(loader)


def test_too_many_images_are_refused_with_the_number_that_is_needed(make_cfg, tmp_path):
    for i in range(3):
        Image.new("RGB", (700, 600)).save(tmp_path / f"{i}.png")
    source = [
        SimpleNamespace(impath=str(tmp_path / f"{i}.png"), label=0, domain=0) for i in (0, 1, 2, 0)
    ]
    size = ("INPUT.DEVICE_AUGMENT", True, "DATALOADER.MEMORY_MB")
    loader = loader_of(make_cfg(*size, 3), source)  # an evaluation needs none of them
    with pytest.raises(UserError) as error:
        list(loader)
    assert str(error.value) == (
        "INPUT.DEVICE_AUGMENT keeps all 3 training images on the device: they need "
        "DATALOADER.MEMORY_MB 4, but it is 3. Raise it if the device has room, or run "
        "without INPUT.DEVICE_AUGMENT in another folder"
    )
    assert len(list(loader_of(make_cfg(*size, 4), source))) == 1


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (
            ("INPUT.TRANSFORMS", (CROP, "cutout", "colorjitter", NORM)),
            "INPUT.DEVICE_AUGMENT cannot do cutout, colorjitter of INPUT.TRANSFORMS; it knows "
            "random_resized_crop, random_flip, normalize. Remove the others, or set "
            "INPUT.DEVICE_AUGMENT False",
        ),
        (
            ("DATALOADER.K_TRANSFORMS", 2),
            "INPUT.DEVICE_AUGMENT makes one view of each image: DATALOADER.K_TRANSFORMS is 2, "
            "expected 1",
        ),
        (
            ("DATALOADER.RETURN_IMG0", True),
            "INPUT.DEVICE_AUGMENT makes one view of each image: DATALOADER.RETURN_IMG0 is True, "
            "expected False",
        ),
        (
            ("INPUT.INTERPOLATION", "nearest"),
            "INPUT.DEVICE_AUGMENT resizes bilinear or bicubic, but INPUT.INTERPOLATION is nearest",
        ),
        (
            ("INPUT.NO_TRANSFORM", True),
            "INPUT.DEVICE_AUGMENT needs a training transform of a crop or resize (bilinear or "
            "bicubic, to a height and width), a flip, a tensor and a normalisation, in this "
            "order, but it is None",
        ),
    ],
)
def test_what_the_device_cannot_do_is_refused_by_name(make_cfg, settings_, message):
    with pytest.raises(UserError) as error:
        DataManager(make_cfg("INPUT.DEVICE_AUGMENT", True, *settings_))
    assert str(error.value) == message


def test_transforms_and_wrappers_of_a_plugin_are_refused(make_cfg, source):
    cfg = make_cfg("INPUT.DEVICE_AUGMENT", True)
    flip_first = T.Compose([T.RandomHorizontalFlip(), T.RandomResizedCrop(8), T.ToTensor()])
    no_size = T.Compose([T.RandomHorizontalFlip(), T.ToTensor()])
    one_side = T.Compose([T.Resize(8), T.ToTensor()])
    nearest = T.Compose([T.Resize((8, 8), InterpolationMode.NEAREST), T.ToTensor()])
    for transform in (flip_first, no_size, one_side, nearest, [flip_first], T.ToTensor()):
        with pytest.raises(UserError, match="needs a training transform of a crop"):
            DataManager(cfg, custom_tfm_train=transform)
    with pytest.raises(UserError, match="does not go with a dataset_wrapper"):
        DataManager(cfg, dataset_wrapper=DatasetWrapper)
