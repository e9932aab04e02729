"""Methods of prompt learning on CLIP. A new method registers itself by its file being here."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from yacs.config import CfgNode


@cache
def register() -> None:
    """Import every module of this package, so that its methods are registered."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def extend_cfg(cfg: CfgNode) -> None:
    """Add the knobs of every method, and those of the cache, to a default configuration."""
    from dassl.engine import TRAINER_REGISTRY
    from trainers.features.cache import DEFAULTS

    cfg.CACHE = CfgNode(DEFAULTS)
    register()
    for name in TRAINER_REGISTRY.registered_names():
        extend = getattr(TRAINER_REGISTRY.get(name), "extend_cfg", None)
        if extend is not None:
            extend(cfg)
