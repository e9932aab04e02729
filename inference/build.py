"""A method on CLIP for any class names, without a dataset."""

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from dassl.data import transforms
from dassl.utils import UserError, get_device
from inference.source import Source
from runs.config import methods
from runs.merging import Merging
from runs.trained import check_files, stored_cfg
from trainers.backbones.families import find_weights
from trainers.backbones.precision import resolve_precision
from trainers.backbones.weights import file_sha256
from trainers.base import PromptTrainer
from trainers.errors import MethodError


def build_trainer(source: Source, classnames: list[str], backbone: str = "") -> PromptTrainer:
    """The method of a source with what it has learned, in evaluation mode.

    Args:
        source: see `find_source`.
        classnames: C names.
        backbone: file or name of CLIP, where it is not where it was at the training.

    Raises:
        UserError: the method is not one on our CLIP, or a file has other bytes than at training.
        MethodError: a prompt does not fit, or the checkpoint does not.
    """
    with redirect_stdout(io.StringIO()):  # what a run says of itself
        cfg = stored_cfg(source.settings, source.path)
        kind = _method(source)
        _complete(cfg, kind, backbone)
        templates = source.export["templates"] if source.export else None
        kind = _without_data(kind, classnames, templates)
        _check_bound(source, kind, cfg)
        trainer: PromptTrainer = kind(cfg)
        if kind.learns:
            trainer.load_model(str(source.model), epoch=source.epoch)
        trainer.set_model_mode("eval")
    return trainer


def build_transform(cfg: CfgNode) -> Callable[[Any], Tensor]:
    """From a PIL image in RGB to a tensor (3, R, R), as at the test of a run."""
    with redirect_stdout(io.StringIO()):
        transform = transforms.build_transform(cfg, is_train=False)
    assert transform is not None  # a method on CLIP refuses NO_TRANSFORM
    return transform


def _method(source: Source) -> type[PromptTrainer]:
    kind = methods().get(source.method)
    if not issubclass(kind, PromptTrainer):
        raise UserError(
            f"{source.method} is a trainer of its own, not one of trainers.base.PromptTrainer: "
            "what it does with an image is known to its train.py --eval-only alone"
        )
    return kind


def _complete(cfg: CfgNode, kind: type[PromptTrainer], backbone: str) -> None:
    """What a configuration of a run lacks to be that of a prediction."""
    if backbone:
        Merging(cfg).set("MODEL.BACKBONE.NAME", backbone, "--backbone")
    cfg.MODEL.INIT_WEIGHTS = ""  # a start of the training, which is over
    cfg.MODEL.COMPILE = cfg.VERBOSE = cfg.CACHE.FEATURES = cfg.CACHE.VIEWS = False
    knobs = cfg.TRAINER[kind.node()]
    try:
        resolve_precision(knobs.PREC, get_device(cfg.USE_CUDA))
    except MethodError:  # trained in half precision on a GPU, and used on a CPU
        knobs.PREC = "auto"
    cfg.freeze()


def _without_data(
    kind: type[PromptTrainer], classnames: list[str], templates: list[str] | None
) -> type[PromptTrainer]:
    """The method with class names in the place of a dataset, and templates in that of a pool."""

    def build_data_loader(self: Any) -> None:
        names = dict(enumerate(classnames))
        dataset = SimpleNamespace(classnames=list(classnames), lab2cname=names)
        self.dm = SimpleNamespace(dataset=dataset, num_classes=len(names), lab2cname=names)
        self.train_loader_x = self.train_loader_u = self.val_loader = self.test_loader = None
        self.num_classes, self.lab2cname, self.num_source_domains = len(names), names, 0

    own: dict[str, Any] = {"build_data_loader": build_data_loader, "__module__": kind.__module__}
    if templates is not None:
        own["load_templates"] = classmethod(lambda cls, cfg: list(templates))
    return type(kind.__name__, (kind,), own)


def _check_bound(source: Source, kind: type[PromptTrainer], cfg: CfgNode) -> None:
    """Refuse files that are not what they were at the training."""
    name, then = cfg.MODEL.BACKBONE.NAME, source.settings
    now = {**kind.fingerprint(cfg), "MODEL.BACKBONE.NAME": name}
    if source.export:  # tells the whole digest
        then = {**then, "BACKBONE_DIGEST": source.export["backbone"].get("sha256")}
        now["BACKBONE_DIGEST"] = file_sha256(find_weights(name))
    check_files(source.path, then, now, "--backbone")
