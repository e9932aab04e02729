"""What is published about the datasets: how many classes and images, and which lists.

From CoOp's split files and the datasets' papers.
"""

from typing import NamedTuple

from datasets.splits import Split, digest


class Counts(NamedTuple):
    """Numbers of classes and of images in each list; None for a list that there is not."""

    classes: int
    train: int | None
    val: int | None
    test: int


# by registered name
COUNTS = {
    "ImageNet": Counts(1000, 1_281_167, None, 50_000),
    "Caltech101": Counts(100, 4_128, 1_649, 2_465),
    "OxfordPets": Counts(37, 2_944, 736, 3_669),
    "StanfordCars": Counts(196, 6_509, 1_635, 8_041),
    "OxfordFlowers": Counts(102, 4_093, 1_633, 2_463),
    "Food101": Counts(101, 50_500, 20_200, 30_300),
    "FGVCAircraft": Counts(100, 3_334, 3_333, 3_333),
    "SUN397": Counts(397, 15_880, 3_970, 19_850),
    "DescribableTextures": Counts(47, 2_820, 1_128, 1_692),
    "EuroSAT": Counts(10, 13_500, 5_400, 8_100),
    "UCF101": Counts(101, 7_639, 1_898, 3_783),
    "ImageNetV2": Counts(1000, None, None, 10_000),
    "ImageNetSketch": Counts(1000, None, None, 50_889),
    "ImageNetA": Counts(200, None, None, 7_500),
    "ImageNetR": Counts(200, None, None, 30_000),
}
# `digest` of the published lists: train, val, test
DIGESTS = {
    "OxfordPets": (
        "a638da92dd7cfafc04decbb554df9e80ec038ae14b1ed72894e28c1392ae60d4",
        "3b6ebd9db8ba1cf2d850b3838ca06ba72540ae7a298a417ef775fd0096e2f337",
        "a3c42546324052cbf7bc954a05b43dadd05cb34869f3426d20d6748073eb7918",
    ),
    "OxfordFlowers": (
        "6d5aec05fb599bc0ad1d2c53743a8f60a0b4012bce847b5a45b4ca8d5a1ac2b3",
        "a34165f698345605b0f5db3e94c0cfad09f8e171611c96db80d141b297ce8dc3",
        "8c2b42e625e9aa268dc93ef7f491236092ed816bb0ada073cdc1865e7e824418",
    ),
    "DescribableTextures": (
        "e0f9351e31ef492aa62ff71130e031f9fb8626a6d82f664851120d3f2cb105de",
        "a1d75238519f0611589056161cb1a723a3a373723776a64b49fd505590683211",
        "90b5f17ca18b31753056aafb15f0d7f8ac2f588578eb537bf9653285d1516156",
    ),
    "EuroSAT": (
        "2bbf21b39bfc614f450b34406c87d7894318bfeaaa0cc522f1b3f1162ada4dff",
        "f1743143e342549a6d93c2b8f48bce78589ba96a05e1b712b0cd518b4929e6c2",
        "5d39e6045d4573eca017b868030fd403123469233543e061646f3f1cfcbb49e8",
    ),
    "StanfordCars": (
        "5f0e846ccb26c674d0ebfa1aaf1814039bab67e00c0418b3fc2714beb275757c",
        "a0a412a31c9fa9cb2569d6828cccd9831e68f14ebf9b8de16269ec3ee46bde73",
        "ed8687df35b3d56e00ebdb89b35c59db6c6ea043a743216d6168bad2845cca33",
    ),
    "Caltech101": (
        "4380f4bea240cbc786b9c8ad2dde1747f0a4ae69ff6d479af982f368d42b36e8",
        "168993baca4531c5eb10bb0c9a991ca57de41535f2227b1f80996b8f5d6cae35",
        "1fb8a1875142b6069aefd2b6dbe6ee68796bb394fafac55c3abe29b0d5bbb645",
    ),
    "UCF101": (
        "52f65be07c366d51f57ab017aa6e0f520718feeda0d342dc7f9b02ae444cfd31",
        "d984dde66a97797e96fea4185be20dea3b4fa8c47ee6dec2c8884a6ccdadb581",
        "3c95f340439bd1840c236a15b96ed137342c09efca8ea0b87b89a5d539f591ef",
    ),
}


def count(split: Split) -> Counts:
    """Numbers of a split."""
    labels = {item.label for _, items in split.parts() for item in items}
    return Counts(len(labels), len(split.train) or None, len(split.val) or None, len(split.test))


def differences(name: str, split: Split) -> list[str]:
    """Where a split has other numbers than published; empty if nothing differs or is known."""
    if name not in COUNTS:
        return []
    pairs = zip(Counts._fields, count(split), COUNTS[name], strict=True)
    return [
        f"{name} has {found or 0:,} {'classes' if what == 'classes' else f'{what} images'} here, "
        f"{published or 0:,} as published"
        for what, found, published in pairs
        if found != published
    ]


def is_published(name: str, split: Split) -> bool | None:
    """Whether the lists are the published ones, in order; None if they are not known."""
    if name not in DIGESTS:
        return None
    return tuple(digest(items) for _, items in split.parts()) == DIGESTS[name]
