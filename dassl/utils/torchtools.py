"""Helpers around torch modules."""

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from .checkpoint import load_checkpoint, resume_from_checkpoint, save_checkpoint
from .errors import UserError

__all__ = [
    "count_num_param",
    "get_device",
    "init_network_weights",
    "load_checkpoint",
    "load_pretrained_weights",
    "open_all_layers",
    "open_specified_layers",
    "resume_from_checkpoint",
    "save_checkpoint",
]


def get_device(use_cuda: bool = True) -> torch.device:
    """Return the CUDA device if there is one and ``use_cuda``, else the CPU."""
    return torch.device("cuda" if use_cuda and torch.cuda.is_available() else "cpu")


def open_all_layers(model: nn.Module) -> None:
    """Set train mode and make all parameters trainable."""
    model.train()
    model.requires_grad_(True)


def open_specified_layers(model: nn.Module, open_layers: str | Sequence[str]) -> None:
    """Train only the named direct children; all others are frozen and in eval mode.

    Raises:
        UserError: a name is not a child of the model.
    """
    names = [open_layers] if isinstance(open_layers, str) else list(open_layers)
    children = dict(model.named_children())
    unknown = [name for name in names if name not in children]
    if unknown:
        raise UserError(f"{unknown} are not layers of the model; its layers are {list(children)}")
    for name, module in children.items():
        module.train(name in names)
        module.requires_grad_(name in names)


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """Return the number of elements of a model, or of parameters or parameter groups.

    Raises:
        ValueError: neither is given.
    """
    if model is not None:
        return sum(p.numel() for p in model.parameters())
    if params is not None:
        total = 0
        for entry in params:
            group = entry["params"] if isinstance(entry, dict) else [entry]
            total += sum(p.numel() for p in group)
        return total
    raise ValueError("model and params must provide at least one.")


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Copy the entries of a checkpoint whose name and shape match the model's; ignore the others.

    Takes a checkpoint with ``state_dict`` or a plain state dict; a leading ``module.`` is removed.
    """
    checkpoint = load_checkpoint(weight_path)
    state_dict = checkpoint.get("state_dict", checkpoint)
    model_dict = model.state_dict()
    matched, discarded = {}, []
    for key, value in state_dict.items():
        key = key.removeprefix("module.")
        if key in model_dict and model_dict[key].size() == value.size():
            matched[key] = value
        else:
            discarded.append(key)
    model.load_state_dict(matched, strict=False)
    if not matched:
        warnings.warn(f"Cannot load {weight_path} (check the key names manually)", stacklevel=2)
        return
    print(f"Successfully loaded pretrained weights from {weight_path}")
    if discarded:
        print(f"Layers discarded due to unmatched keys or size: {discarded}")


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Initialise conv and linear weights (normal, xavier, kaiming, orthogonal); biases 0, norms 1.

    Raises:
        NotImplementedError: another ``init_type``.
    """
    weight_inits = {
        "normal": lambda w: nn.init.normal_(w, 0.0, gain),
        "xavier": lambda w: nn.init.xavier_normal_(w, gain=gain),
        "kaiming": lambda w: nn.init.kaiming_normal_(w, a=0, mode="fan_in"),
        "orthogonal": lambda w: nn.init.orthogonal_(w, gain=gain),
    }
    if init_type not in weight_inits:
        raise NotImplementedError(f"initialization method {init_type} is not implemented")
    norms = (
        nn.modules.batchnorm._BatchNorm,
        nn.InstanceNorm1d,
        nn.InstanceNorm2d,
        nn.InstanceNorm3d,
    )
    for module in model.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            weight_inits[init_type](module.weight)
        elif isinstance(module, norms) and module.weight is not None:
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
