"""The protocols: what is trained, what is tested, and which settings are theirs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dassl.utils import UserError

# settings that an argument of the protocol gives
OWNED = {
    "SEED": "give it as SEED (--seed)",
    "OUTPUT_DIR": "use OUTPUT (--output) and TAG (--tag)",
    "PROTOCOL": "it is the name of the script",
    "CONFIG_LABEL": "it follows from CONFIG (--config) and TAG (--tag)",
    "TRAINER.NAME": "it follows from the script (--trainer)",
    "DATASET.NAME": "give it as DATASET (--dataset)",
    "DATASET.PATH": "give the dataset as folder:PATH or csv:PATH",
    "DATASET.SOURCE": "it is DATASET (--dataset)",
    "DATASET.ROOT": "use DATA (--data)",
    "DATASET.NUM_SHOTS": "give it as SHOTS (--shots)",
    "DATASET.SUBSAMPLE_CLASSES": "it tests {classes} classes",
    "TEST.NO_TEST": "it tests at the end",
}
# datasets for the small CLIP that comes with the repository
EMBEDDED = ("shapes", "digits", "shapes_blurred", "shapes_negative")
PAPER_DATASETS = (
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
)


@dataclass(frozen=True)
class Protocol:
    """What is trained and what is tested.

    Attributes:
        classes: the class subsets of the training dataset that are tested; trained is the first.
        shots: the usual numbers of training images per class.
        targets: other datasets that are tested, by training dataset; None: there are none.
    """

    classes: tuple[str, ...]
    shots: tuple[int, ...] = (16,)
    targets: Mapping[str, tuple[str, ...]] | None = None


PROTOCOLS = {
    "base2new": Protocol(("base", "new")),
    "fewshot": Protocol(("all",), shots=(1, 2, 4, 8, 16)),
    "xd": Protocol(("all",), targets={"imagenet": PAPER_DATASETS[1:], "shapes": ("digits",)}),
    "dg": Protocol(
        ("all",),
        targets={
            "imagenet": ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
            "shapes": ("shapes_blurred", "shapes_negative"),
        },
    ),
}


def refuse_owned(key: str, protocol: str) -> None:
    """Refuse a setting that the protocol itself sets.

    Raises:
        UserError: saying what to use instead.
    """
    if key in OWNED:
        classes = " and ".join(PROTOCOLS[protocol].classes)
        raise UserError(f"{key} is set by the protocol: {OWNED[key].format(classes=classes)}")


def check_tag(tag: str) -> None:
    """Refuse a tag that cannot be part of a folder's name.

    Raises:
        UserError: as said.
    """
    if not re.fullmatch(r"[\w.+=-]*", tag):
        raise UserError(f'the tag is "{tag}", expected letters, digits and _ . + = - only')
