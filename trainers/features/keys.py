"""What features depend on: the keys under which they are kept.

Two runs whose features may differ in a bit have different keys. What cannot be told has none.
"""

import hashlib
import inspect
from functools import cache
from pathlib import Path
from typing import Any

import PIL
import torch
from torch.utils.data import DataLoader

import dassl.data
from dassl.utils import read_image
from trainers.backbones.families import family_of, weights_digest
from trainers.features.cache import FeatureCache
from trainers.features.files import list_digest

# files below trainers/ that decide about the bits of features, or what tells them apart
CODE = (
    *("backbones/*.py", "features/ahead.py", "features/files.py"),
    *("features/keys.py", "features/loaders.py"),
)


def tower_key(trainer: Any) -> dict[str, Any]:
    """The weights of a trainer's towers, and what decides the last bits of what they compute."""
    precision, model = trainer.clip.precision, trainer.cfg.MODEL
    if precision.device.type == "cuda":
        device = torch.cuda.get_device_name(precision.device)
    else:
        device = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return {
        "weights": weights_digest(model.BACKBONE.NAME),
        "precision": precision.name,
        "compiled": model.get("COMPILE", False),
        "float32": _float32_arithmetic(),
        "device": device,
        "torch": torch.__version__,
        "code": _code_digest(),
        **family_of(model.BACKBONE.NAME).versions(model.BACKBONE.NAME),
    }


def _float32_arithmetic() -> list[str]:
    """How precisely matrices and convolutions of float32 are computed, as it is set."""
    parts: Any = torch.backends
    if not hasattr(parts.cuda.matmul, "fp32_precision"):  # torch 2.8
        return [torch.get_float32_matmul_precision(), str(parts.cudnn.allow_tf32)]
    # the older function raises where these were set
    kinds = (parts.cuda.matmul, parts.cudnn.conv, parts.mkldnn.matmul, parts.mkldnn.conv)
    return [kind.fp32_precision for kind in kinds]


@cache
def _code_digest() -> str:
    """Digest of the code between files and features: another version may give other bits."""
    from clip.model import CLIP  # `clip` loads torchvision, which is slow

    trainers = Path(__file__).parents[1]
    own = [path for pattern in CODE for path in sorted(trainers.glob(pattern))]
    loading = sorted(Path(dassl.data.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for path in (*own, *loading, *(Path(inspect.getfile(code)) for code in (read_image, CLIP))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def batches_key(loader: Any, cache: FeatureCache) -> dict[str, Any]:
    """The images of a loader, their transform and batches; empty if a file is gone."""
    import torchvision  # slow to import, and there by now

    data = loader.dataset
    images = list_digest(getattr(data, "data_source", None), cache)
    if not images:
        return {}
    return {
        "images": images,
        "transform": repr(data.transform),
        "batch": [loader.batch_size, loader.drop_last],
        "versions": [torchvision.__version__, PIL.__version__],
    }


def can_be_told(loader: Any, samplers: tuple[type, ...]) -> bool:
    """Whether a loader has one of the samplers, and no code but torch's, torchvision's, Dassl's."""
    return (
        isinstance(loader, DataLoader)
        and loader.batch_size is not None
        and type(loader.sampler) in samplers
        and loader.generator is None
        and getattr(loader.sampler, "generator", None) is None
        and _is_known(type(loader.dataset))
        and _is_known(loader.collate_fn)
        and _tells_all(getattr(loader.dataset, "transform", None))
    )


def _is_known(thing: Any) -> bool:
    """Whether a class or function is a library's, not a plugin's own."""
    return getattr(thing, "__module__", "").partition(".")[0] in ("dassl", "torch", "torchvision")


def _tells_all(transform: Any) -> bool:
    """Whether the text of a transform says all that it does."""
    kind, inner = type(transform), getattr(transform, "transforms", ())
    return (
        _is_known(kind)
        and kind.__name__ != "Lambda"
        and " object at 0x" not in repr(transform)
        and all(_tells_all(step) for step in inner)
    )
