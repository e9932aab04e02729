"""All helpers, in one flat namespace as in Dassl. Those that need torch are loaded on first use."""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

from .errors import (
    CheckpointError,
    ChoiceError,
    FolderError,
    ImageError,
    MissingFileError,
    UserError,
)
from .logger import Logger, close_logger, log_only, setup_logger
from .registry import Registry
from .tools import (
    atomic_open,
    check_availability,
    check_isfile,
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    read_image,
    read_json,
    set_random_seed,
    tolist_if_not,
    write_json,
)

if TYPE_CHECKING:
    from .checkpoint import load_checkpoint, resume_from_checkpoint, save_checkpoint
    from .meters import AverageMeter, MetricMeter
    from .torchtools import (
        count_num_param,
        get_device,
        init_network_weights,
        load_pretrained_weights,
        open_all_layers,
        open_specified_layers,
    )

__all__ = [
    "AverageMeter",
    "CheckpointError",
    "ChoiceError",
    "FolderError",
    "ImageError",
    "Logger",
    "MetricMeter",
    "MissingFileError",
    "Registry",
    "UserError",
    "atomic_open",
    "check_availability",
    "check_isfile",
    "close_logger",
    "collect_env_info",
    "count_num_param",
    "download_url",
    "get_device",
    "get_most_similar_str_to_a_from_b",
    "init_network_weights",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "log_only",
    "mkdir_if_missing",
    "open_all_layers",
    "open_specified_layers",
    "read_image",
    "read_json",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "setup_logger",
    "tolist_if_not",
    "write_json",
]

_METERS = ("AverageMeter", "MetricMeter")
_CHECKPOINT = ("load_checkpoint", "resume_from_checkpoint", "save_checkpoint")
_TORCHTOOLS = (
    *("count_num_param", "get_device", "init_network_weights", "load_pretrained_weights"),
    *("open_all_layers", "open_specified_layers"),
)

__getattr__ = on_first_use(
    __name__,
    dict.fromkeys(_METERS, "meters")
    | dict.fromkeys(_CHECKPOINT, "checkpoint")
    | dict.fromkeys(_TORCHTOOLS, "torchtools"),
)
