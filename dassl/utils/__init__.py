"""All helpers, in one flat namespace as in Dassl. Those that need torch are loaded on first use."""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

from . import errors, logger, registry, tools
from .errors import *  # noqa: F403
from .logger import *  # noqa: F403
from .registry import *  # noqa: F403
from .tools import *  # noqa: F403

if TYPE_CHECKING:
    from .meters import *  # noqa: F403
    from .torchtools import *  # noqa: F403

_ON_FIRST_USE = {
    **dict.fromkeys(("AverageMeter", "MetricMeter"), "meters"),
    **dict.fromkeys(("load_checkpoint", "resume_from_checkpoint", "save_checkpoint"), "checkpoint"),
    **dict.fromkeys(("count_num_param", "get_device", "init_network_weights"), "torchtools"),
    **dict.fromkeys(
        ("load_pretrained_weights", "open_all_layers", "open_specified_layers"), "torchtools"
    ),
}
__all__ = [*errors.__all__, *logger.__all__, *registry.__all__, *tools.__all__, *_ON_FIRST_USE]

__getattr__ = on_first_use(__name__, _ON_FIRST_USE)
