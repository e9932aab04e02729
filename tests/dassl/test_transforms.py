"""The pipeline's order, its printed lines, and equality with torchvision under one seed."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode as Mode

from dassl.config import get_cfg_default
from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.data.transforms import transforms as ours
from dassl.utils import ChoiceError

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def make_cfg(*choices: str, **options):
    cfg = get_cfg_default()
    cfg.INPUT.update({"SIZE": (16, 12), "INTERPOLATION": "bicubic", "TRANSFORMS": choices})
    cfg.INPUT.update(options)
    return cfg


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))


def same_under_seed(pipeline, reference, image) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        found = pipeline(image)
        torch.manual_seed(seed)
        assert torch.equal(found, reference(image))


def clip_cfg(**options):
    return make_cfg(
        *("normalize", "random_flip", "random_resized_crop"),  # order must not matter
        PIXEL_MEAN=CLIP_MEAN,
        PIXEL_STD=CLIP_STD,
        **options,
    )


def test_coop_training_pipeline(image, capsys):
    pipeline = build_transform(clip_cfg(), is_train=True)
    reference = T.Compose(
        [
            T.RandomResizedCrop((16, 12), scale=(0.08, 1.0), interpolation=Mode.BICUBIC),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    same_under_seed(pipeline, reference, image)
    assert capsys.readouterr().out == (
        "Building transform_train\n"
        "+ random resized crop (size=(16, 12), scale=(0.08, 1.0))\n"
        "+ random flip\n"
        "+ to torch tensor of range [0, 1]\n"
        "+ normalization (mean=[0.48145466, 0.4578275, 0.40821073], "
        "std=[0.26862954, 0.26130258, 0.27577711])\n"
    )


def test_test_pipeline_is_that_of_clip(image, capsys):
    pipeline = build_transform(clip_cfg(), is_train=False)
    reference = T.Compose(
        [
            T.Resize(16, interpolation=Mode.BICUBIC),
            T.CenterCrop((16, 12)),
            T.ToTensor(),
            T.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    same_under_seed(pipeline, reference, image)
    assert capsys.readouterr().out == (
        "Building transform_test\n"
        "+ resize the smaller edge to 16\n"
        "+ 16x12 center crop\n"
        "+ to torch tensor of range [0, 1]\n"
        "+ normalization (mean=[0.48145466, 0.4578275, 0.40821073], "
        "std=[0.26862954, 0.26130258, 0.27577711])\n"
    )


def test_all_steps_come_in_the_fixed_order(capsys):
    cfg = make_cfg(*reversed(ours.AVAI_CHOICES))
    pipeline = build_transform(cfg, is_train=True)
    assert pipeline is not None
    assert [type(step).__name__ for step in pipeline.transforms] == [  # type: ignore[attr-defined]
        "Random2DTranslation",
        "RandomCrop",
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        *["AutoAugment"] * 3,
        "RandAugment",
        *["Compose"] * 2,
        "ColorJitter",
        "RandomGrayscale",
        "RandomApply",
        "ToTensor",
        "Cutout",
        "Normalize",
        "GaussianNoise",
        "InstanceNormalization",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "Building transform_train",
        "+ random translation",
        "+ random crop (padding = 4)",
        "+ random resized crop (size=(16, 12), scale=(0.08, 1.0))",
    ]
    assert lines[-5:] == [
        "+ to torch tensor of range [0, 1]",
        "+ cutout (n_holes=1, length=16)",
        "+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
        "+ gaussian noise (mean=0.0, std=0.15)",
        "+ instance normalization",
    ]
    build_transform(cfg, is_train=False)
    assert capsys.readouterr().out.splitlines() == [
        "Building transform_test",
        "+ resize the smaller edge to 16",
        "+ 16x12 center crop",
        "+ to torch tensor of range [0, 1]",
        "+ normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
        "+ instance normalization",
    ]


def test_without_a_crop_the_image_is_resized_to_the_full_size(image, capsys):
    pipeline = build_transform(make_cfg("center_crop"), is_train=True)
    reference = T.Compose([T.Resize((16, 12), interpolation=Mode.BICUBIC), T.ToTensor()])
    same_under_seed(pipeline, reference, image)
    assert "+ resize to 16x12\n" in capsys.readouterr().out


def test_random_crop_pads_and_needs_a_large_image(image):
    pipeline = build_transform(make_cfg("random_crop"), is_train=True)
    reference = T.Compose([T.RandomCrop((16, 12), padding=4), T.ToTensor()])
    same_under_seed(pipeline, reference, image)
    with pytest.raises(ValueError, match="larger than input image size"):
        pipeline(Image.new("RGB", (3, 3)))  # type: ignore[misc]


@pytest.mark.parametrize("choice", ours.AVAI_CHOICES)
@pytest.mark.parametrize("is_train", [True, False])
def test_every_single_choice_gives_a_finite_tensor_of_the_size(image, choice, is_train):
    pipeline = build_transform(make_cfg(choice), is_train=is_train)
    for seed in range(3):
        torch.manual_seed(seed)
        out = pipeline(image)  # type: ignore[misc]
        assert out.shape == (3, 16, 12)
        assert out.isfinite().all()


def test_explicit_choices_win_over_the_configuration(image):
    pipeline = build_transform(make_cfg("normalize"), is_train=False, choices=[])
    assert pipeline(image).min() >= 0  # type: ignore[misc]


def test_no_transform_gives_none(capsys):
    assert build_transform(make_cfg(NO_TRANSFORM=True)) is None
    assert capsys.readouterr().out == "Note: no transform is applied!\n"


def test_typos_in_names_are_refused_with_the_list():
    with pytest.raises(ChoiceError, match='"random_flop".*random_flip'):
        build_transform(make_cfg("random_flop"))
    with pytest.raises(ChoiceError, match=r"one of \['bilinear', 'bicubic', 'nearest'\].*cubic"):
        build_transform(make_cfg(INTERPOLATION="cubic"))


def test_interpolation_names():
    assert INTERPOLATION_MODES == {
        "bilinear": Mode.BILINEAR,
        "bicubic": Mode.BICUBIC,
        "nearest": Mode.NEAREST,
    }


def test_instance_norm_gives_mean_0_and_deviation_1():
    out = ours.InstanceNormalization()(torch.rand(3, 9, 9) * 5 + 2)
    assert out.mean(dim=(1, 2)).abs().max() < 1e-5
    assert (out.std(dim=(1, 2)) - 1).abs().max() < 1e-5


def test_cutout_zeroes_one_square_and_keeps_its_input():
    torch.manual_seed(0)
    img = torch.ones(3, 32, 32)
    sizes = set()
    for _ in range(50):
        out = ours.Cutout(1, 8)(img)
        rows, columns = (out[0] == 0).any(1).sum().item(), (out[0] == 0).any(0).sum().item()
        assert (out == 0).sum() == 3 * rows * columns
        sizes.add((rows, columns))
    assert (8, 8) in sizes
    assert max(max(size) for size in sizes) == 8
    assert img.min() == 1


def test_noise_and_translation_apply_half_of_the_time(image):
    torch.manual_seed(0)
    img = torch.zeros(3, 4, 4)
    noisy = [ours.GaussianNoise(0.0, 0.15)(img) for _ in range(200)]
    changed = [out for out in noisy if out.abs().max() > 0]
    assert 70 < len(changed) < 130
    assert torch.stack(changed).std().item() == pytest.approx(0.15, rel=0.1)
    plain = T.Resize((8, 8))(image)
    moved = [ours.Random2DTranslation(8, 8)(image) for _ in range(60)]
    assert {out.size for out in moved} == {(8, 8)}
    assert 15 < sum(out.tobytes() != plain.tobytes() for out in moved) < 45


def test_steps_say_all_their_parameters():
    steps = [
        ours.Random2DTranslation(8, 6, 0.25, Mode.BICUBIC),
        ours.InstanceNormalization(1e-5),
        ours.Cutout(2, 5),
        ours.GaussianNoise(0.1, 0.2, 0.3),
    ]
    assert [repr(step) for step in steps] == [
        "Random2DTranslation(size=(8, 6), p=0.25, interpolation=bicubic)",
        "InstanceNormalization(eps=1e-05)",
        "Cutout(n_holes=2, length=5)",
        "GaussianNoise(mean=0.1, std=0.2, p=0.3)",
    ]


@pytest.mark.parametrize("is_train", [True, False])
def test_a_pipeline_of_all_steps_says_no_address(is_train):
    text = repr(build_transform(make_cfg(*ours.AVAI_CHOICES), is_train=is_train))
    assert " at 0x" not in text and "\n    Normalize(" in text
