"""Configuration: every key with its default, as a yacs node."""

from yacs.config import CfgNode

from .defaults import _C as cfg_default

__all__ = ["cfg_default", "clean_cfg", "get_cfg_default"]


def get_cfg_default() -> CfgNode:
    """Return a fresh deep copy of the default configuration (Dassl API, section 1)."""
    return cfg_default.clone()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove in place every child of ``cfg.TRAINER`` but ``NAME`` and the node of ``trainer``.

    Works on a frozen node too. A trainer whose node is not its upper-cased name loses its node.
    """
    keep = {"NAME", trainer.upper()}
    for key in [key for key in cfg.TRAINER if key not in keep]:
        cfg.TRAINER.pop(key)
