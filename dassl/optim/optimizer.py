"""Optimisers by name."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.utils import UserError

__all__ = ["AVAI_OPTIMS", "build_optimizer"]

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(
    model: nn.Module | Iterable[nn.Parameter],
    optim_cfg: CfgNode,
    param_groups: Any = None,
) -> torch.optim.Optimizer:
    """Build optimiser ``optim_cfg.NAME`` for all parameters of ``model`` (Dassl API, section 4).

    Args:
        model: a module or an iterable of parameters; frozen parameters are registered too.
        optim_cfg: the node ``cfg.OPTIM``.
        param_groups: used instead of the model's parameters if given.

    Raises:
        UserError: unknown name, or a name in NEW_LAYERS that the model lacks.
        TypeError: STAGED_LR without a module.
    """
    name = optim_cfg.NAME
    if name not in AVAI_OPTIMS:
        raise UserError(f"optim must be one of {AVAI_OPTIMS}, but got {name}")
    if param_groups is not None and optim_cfg.STAGED_LR:
        warnings.warn(
            "staged_lr will be ignored, if you need to use staged_lr, set param_groups=None",
            stacklevel=2,
        )
    if param_groups is None:
        if optim_cfg.STAGED_LR:
            param_groups = _staged_groups(model, optim_cfg)
        else:
            param_groups = model.parameters() if isinstance(model, nn.Module) else model

    options: dict[str, Any] = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    if name == "sgd":
        return torch.optim.SGD(
            param_groups,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
            **options,
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(
            param_groups, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA, **options
        )
    options["betas"] = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if name == "radam":
        return torch.optim.RAdam(param_groups, **options)
    if name == "adamw":
        return torch.optim.AdamW(param_groups, **options)
    return torch.optim.Adam(param_groups, amsgrad=name == "amsgrad", **options)


def _staged_groups(model: Any, optim_cfg: CfgNode) -> list[dict[str, Any]]:
    """Split parameters by first name part: NEW_LAYERS at the full rate, others at a fraction."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            "When staged_lr is True, model given to build_optimizer() "
            "must be an instance of nn.Module"
        )
    layers = optim_cfg.NEW_LAYERS
    new_layers = {layers} if isinstance(layers, str) else set(layers)
    base: list[nn.Parameter] = []
    new: list[nn.Parameter] = []
    seen = set()
    for name, parameter in model.named_parameters():
        layer = name.split(".")[0]
        seen.add(layer)
        (new if layer in new_layers else base).append(parameter)
    unknown = sorted(new_layers - seen - {""})
    if unknown:
        raise UserError(f"OPTIM.NEW_LAYERS names {unknown}; the model has {sorted(seen)}")
    return [
        {"params": base, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT},
        {"params": new, "lr": optim_cfg.LR},
    ]
