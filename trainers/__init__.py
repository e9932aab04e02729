"""Methods of prompt learning on CLIP. Every module of this package is imported, so that a new
method registers itself by its file being here."""

from importlib import import_module
from pkgutil import iter_modules

from yacs.config import CfgNode

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def extend_cfg(cfg: CfgNode) -> None:
    """Add the knobs of every registered method, and those of the cache, to a default one."""
    from dassl.engine import TRAINER_REGISTRY
    from trainers.feature_cache import DEFAULTS

    cfg.CACHE = CfgNode(DEFAULTS)
    for name in TRAINER_REGISTRY.registered_names():
        extend = getattr(TRAINER_REGISTRY.get(name), "extend_cfg", None)
        if extend is not None:
            extend(cfg)
