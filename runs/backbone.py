"""What a configuration leaves to the backbone: its file of settings, and how images are made ready.

Values that the model tells are written into the configuration, so that a run is stamped with them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils import UserError
from trainers.backbones.paths import REPOSITORY
from trainers.settings import AUTO

BACKBONES = REPOSITORY / "configs" / "backbones"
NAME = "MODEL.BACKBONE.NAME"
# key under INPUT -> attribute of `Preprocessing`
KEYS = {
    "SIZE": "size",
    "INTERPOLATION": "interpolation",
    "PIXEL_MEAN": "mean",
    "PIXEL_STD": "std",
    "RESIZE": "resize",
}
COMMAND = "command line"  # source of a KEY VALUE pair


def backbone_file(name: str) -> Path | None:
    """The file under configs/backbones that a name means; None where it means none."""
    path = BACKBONES / f"{name}.yaml"
    return path if name and Path(name).name == name and path.is_file() else None


def settle_images(cfg: CfgNode, given: Mapping[str, str]) -> None:
    """Put the model's values where INPUT says `auto`, or nothing for a model that tells them.

    Args:
        cfg: all settings are merged; it is changed.
        given: key -> who has set it last.

    Raises:
        UserError: a file that was written for another backbone sets other values than the model's.
        MethodError: no such model, or one that needs a package that is missing.
    """
    from trainers.backbones.families import family_of  # needs torch

    name = cfg.MODEL.BACKBONE.NAME
    family = family_of(name)
    auto = [key for key in KEYS if cfg.INPUT[key] == AUTO]
    if family.STRICT_IMAGES:
        auto += [key for key in KEYS if f"INPUT.{key}" not in given]
    if not auto and not family.STRICT_IMAGES:
        return
    told = family.preprocessing(name)
    theirs: dict[str, Any] = {key: getattr(told, attribute) for key, attribute in KEYS.items()}
    theirs |= {key: list(theirs[key]) for key in ("PIXEL_MEAN", "PIXEL_STD")}
    for key in auto:
        cfg.INPUT[key] = theirs[key]
    if not family.STRICT_IMAGES:
        return
    meant = {COMMAND, given.get(NAME)}  # who knows which backbone it is
    differ = [
        f"INPUT.{key} {_shown(cfg.INPUT[key])} ({given[f'INPUT.{key}']}), the model's is "
        f"{_shown(theirs[key])}"
        for key in KEYS
        if _plain(cfg.INPUT[key]) != _plain(theirs[key]) and given[f"INPUT.{key}"] not in meant
    ]
    steps = given.get("INPUT.TRANSFORMS", "default")
    if "normalize" not in cfg.INPUT.TRANSFORMS and steps not in meant:
        differ.append(f"INPUT.TRANSFORMS without normalize ({steps})")
    if differ:
        raise UserError(
            f"{name} was trained with images that were made ready in another way: "
            f"{'; '.join(differ)}. Name a file of configs/backbones as {NAME}, or set these keys "
            "to auto; to measure the model on other images, set them on the command line, or in "
            "the file that names the backbone"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    return str(_plain(value))
