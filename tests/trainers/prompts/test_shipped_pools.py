"""The pools under configs/pools: what is in them, for each dataset."""

import pytest

from trainers.prompts.pool import POOLS, load_pool, pool_sections

PAPER_DATASETS = {
    "ImageNet", "ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR", "Caltech101",
    "OxfordPets", "StanfordCars", "OxfordFlowers", "Food101", "FGVCAircraft", "SUN397",
    "DescribableTextures", "EuroSAT", "UCF101",
}  # fmt: skip
EMBEDDED = {"Shapes", "ShapesBlurred", "ShapesNegative", "Digits"}


def test_shipped_pools_are_these_with_these_sizes():
    sizes = {}
    for file in sorted(POOLS.glob("*.yaml")):
        sections = pool_sections(file.stem)
        sizes[file.stem] = {len(load_pool(file.stem, section)) for section in sections}
        first_line = file.read_text().splitlines()[0]
        assert first_line == f"# python -m tools.pools show {file.stem} --dataset OxfordPets"
    assert sizes == {
        "embedded": {12}, "ensemble": {7, 8}, "kgcoop": {1}, "mixed": {36}, "noisy": {12},
        "paper": {12}, "prograd": {1}, "single": {1},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["paper", "single"])
def test_pools_with_sections_name_every_dataset(name):
    assert set(pool_sections(name)) == PAPER_DATASETS | EMBEDDED | {"default"}


def test_paper_pool_for_pets_has_the_published_prompts_in_the_published_order():
    assert load_pool("paper", "OxfordPets") == [
        "a photo of a {}, a type of pet.",
        "a picture of a {}, a type of pet.",
        "an image of a {}, a type of pet.",
        "a photo of a pet, classified as {}.",
        "a photo of a pet, categorized as {}.",
        "a photo of a pet, labeled as {}.",
        "a picture of a pet, classified as {}.",
        "a picture of a pet, categorized as {}.",
        "a picture of a pet, labeled as {}.",
        "an image of a pet, classified as {}.",
        "an image of a pet, categorized as {}.",
        "an image of a pet, labeled as {}.",
    ]


def test_paper_pool_for_satellite_images_has_the_published_prompts_in_the_published_order():
    assert load_pool("paper", "EuroSAT") == [
        "a centered satellite photo of {}.",
        "a centered satellite picture of {}.",
        "a centered satellite image of {}.",
        "a centered satellite photo, classified as {}.",
        "a centered satellite photo, categorized as {}.",
        "a centered satellite photo, labeled as {}.",
        "a centered satellite picture, classified as {}.",
        "a centered satellite picture, categorized as {}.",
        "a centered satellite picture, labeled as {}.",
        "a centered satellite image, classified as {}.",
        "a centered satellite image, categorized as {}.",
        "a centered satellite image, labeled as {}.",
    ]


DIRECT_AND_INDIRECT = {
    "OxfordPets": (" of a {}, a type of pet.", " of a pet, classified as {}."),
    "OxfordFlowers": (" of a {}, a type of flower.", " of a flower, classified as {}."),
    "FGVCAircraft": (" of a {}, a type of aircraft.", " of a aircraft, classified as {}."),
    "DescribableTextures": (" of {}, a type of texture.", " of a texture, classified as {}."),
    "Food101": (" of {}, a type of food.", " of food, classified as {}."),
    "EuroSAT": (" of {}.", ", classified as {}."),
    "UCF101": (" of a person doing {}.", " of a person doing, classified as {}."),
    "StanfordCars": (" of a {}.", ", classified as {}."),
    "SUN397": (" of a {}.", ", classified as {}."),
    "Caltech101": (" of a {}.", ", classified as {}."),
    "ImageNet": (" of a {}.", ", classified as {}."),
    "ImageNetV2": (" of a {}.", ", classified as {}."),
    "ImageNetSketch": (" of a {}.", ", classified as {}."),
    "ImageNetA": (" of a {}.", ", classified as {}."),
    "ImageNetR": (" of a {}.", ", classified as {}."),
    "folder:/data/leaves": (" of a {}.", ", classified as {}."),
}


@pytest.mark.parametrize("dataset", DIRECT_AND_INDIRECT)
def test_paper_pool_has_three_direct_then_nine_indirect_prompts(dataset):
    direct, indirect = DIRECT_AND_INDIRECT[dataset]
    media = ["a photo", "a picture", "an image"]
    if dataset == "EuroSAT":
        media = [f"a centered satellite {word}" for word in ("photo", "picture", "image")]
    pool = load_pool("paper", dataset)
    assert pool[:3] == [medium + direct for medium in media]
    assert pool[3::3] == [medium + indirect for medium in media]
    for verb, prompts in {"categorized": pool[4::3], "labeled": pool[5::3]}.items():
        assert prompts == [medium + indirect.replace("classified", verb) for medium in media]
    assert len(pool) == 12


@pytest.mark.parametrize("dataset", sorted(EMBEDDED))
def test_paper_pool_for_embedded_datasets_has_three_media_in_the_same_scheme(dataset):
    pool = load_pool("paper", dataset)
    media = [template.removesuffix(" of a {}.") for template in pool[:3]]
    assert all(medium != template for medium, template in zip(media, pool[:3], strict=True))
    assert pool[3:] == [
        f"{medium}, {verb} as {{}}."
        for medium in media
        for verb in ("classified", "categorized", "labeled")
    ]


def test_single_pool_is_the_zero_shot_template_of_each_dataset():
    expected = dict.fromkeys(PAPER_DATASETS | EMBEDDED | {"MyOwn"}, "a photo of a {}.") | {
        "OxfordPets": "a photo of a {}, a type of pet.",
        "OxfordFlowers": "a photo of a {}, a type of flower.",
        "FGVCAircraft": "a photo of a {}, a type of aircraft.",
        "DescribableTextures": "{} texture.",
        "EuroSAT": "a centered satellite photo of {}.",
        "Food101": "a photo of {}, a type of food.",
        "UCF101": "a photo of a person doing {}.",
    }
    assert {name: load_pool("single", name) for name in expected} == {
        name: [template] for name, template in expected.items()
    }


def test_kgcoop_and_prograd_have_their_own_wording_where_their_authors_do():
    others = {
        "kgcoop": {"DescribableTextures": "a photo of a {}, a type of texture."},
        "prograd": {
            "OxfordPets": "a type of pet, a photo of a {}.",
            "OxfordFlowers": "a type of flower, a photo of a {}.",
            "FGVCAircraft": "a type of aircraft, a photo of a {}.",
            "Food101": "a type of food, a photo of {}.",
            "DescribableTextures": "a texture of {}.",
        },
    }
    for pool, own in others.items():
        for dataset in PAPER_DATASETS | EMBEDDED | {"MyOwn"}:
            expected = [own[dataset]] if dataset in own else load_pool("single", dataset)
            assert load_pool(pool, dataset) == expected, (pool, dataset)


def test_the_ensemble_adds_the_template_of_the_dataset_except_on_imagenet():
    selected = load_pool("ensemble", "ImageNet")
    assert selected == [
        "itap of a {}.",
        "a bad photo of the {}.",
        "a origami {}.",
        "a photo of the large {}.",
        "a {} in a video game.",
        "art of the {}.",
        "a photo of the small {}.",
    ]
    for dataset in (PAPER_DATASETS | EMBEDDED | {"MyOwn"}) - {"ImageNet"}:
        assert load_pool("ensemble", dataset) == load_pool("single", dataset) + selected


def test_noisy_and_mixed_pools_are_the_same_for_all_datasets():
    for name in ("noisy", "mixed"):
        assert load_pool(name, "Shapes") == load_pool(name, "OxfordPets")


def test_noisy_pool_shares_no_template_with_the_other_pools():
    others = {t for name in ("paper", "single", "mixed") for t in load_pool(name, "ImageNet")}
    assert not others & set(load_pool("noisy", "ImageNet"))
