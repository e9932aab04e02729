"""A trained prompt in memory: CLIP with it, for a list of classes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dassl.utils import UserError
from inference.build import build_trainer, build_transform
from inference.classes import check_classes
from inference.source import Source, find_source
from trainers.backbones.families import family_of
from trainers.base import PromptTrainer
from trainers.errors import MethodError

# what makes logits of images; a method with its own one has no fixed classifier
STEPS = ("model_inference", "image_features", "predict", "logits")


class Prompt:
    """CLIP with a trained prompt, for C classes.

    Attributes:
        source: where it is from: settings, results, epoch.
        classes: C names, in the order of the logits.
        trainer: the method, its `clip` and its `prompt_learner`.
        transform: a PIL image in RGB -> a tensor (3, R, R), as at the test of the run.
        logit_scale: the factor of the cosines, exp of CLIP's parameter.
        backbone: name or file of CLIP, where it is not that of the settings; else "".

    Args: as the attributes; see `load_prompt`.
    """

    def __init__(self, source: Source, classes: list[str], backbone: str = ""):
        self.source, self.classes, self.backbone = source, classes, backbone
        self.trainer: PromptTrainer = build_trainer(source, classes, backbone)
        self.transform = build_transform(self.trainer.cfg)
        self.logit_scale = float(self.trainer.clip.logit_scale)

    @property
    def learned(self) -> dict[str, Tensor]:
        """What was learned, by name, on the CPU; empty for a method that learns nothing."""
        learner = self.trainer.prompt_learner
        state = learner.state_dict() if learner is not None else {}
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}

    @property
    def why_no_classifier(self) -> str:
        """Why there are no class features that hold for all images; "" where there are."""
        kind = type(self.trainer)
        own = [name for name in STEPS if getattr(kind, name) is not getattr(PromptTrainer, name)]
        if not own:
            return ""
        return (
            f"{self.source.method} has no fixed classifier: what an image is compared with depends "
            f"on the image (the method has its own {' and '.join(own)})"
        )

    @torch.no_grad()
    def class_features(self) -> Tensor:
        """Unit class features (C, D), float32, on the CPU.

        Raises:
            MethodError: the method has none that hold for all images (CoCoOp).
        """
        if self.why_no_classifier:
            raise MethodError(self.why_no_classifier)
        return self.trainer.class_features().float().cpu()

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, C), float32, on the CPU, of images (B, 3, R, R) as `transform` makes them."""
        return self.trainer.model_inference(images.to(self.trainer.device)).float().cpu()

    def for_classes(self, classes: Iterable[str]) -> "Prompt":
        """The same prompt for other classes.

        Raises: as `load_prompt`.
        """
        names = _own_classes(self.source, list(classes), self.backbone)
        return Prompt(self.source, names, self.backbone)


def load_prompt(
    folder: Path | str,
    classes: Sequence[str] | None = None,
    *,
    epoch: int | None = None,
    backbone: str = "",
    data: Path | str | None = None,
) -> Prompt:
    """Load a trained prompt, and CLIP with it.

    Args:
        folder: of a run, of one of its tests, or of an exported prompt; see `find_source`.
        classes: any names; None takes those of the run (of a run on base classes: these).
        epoch: of a run, instead of the one that was tested.
        backbone: file or name of CLIP, where it is not where it was at the training.
        data: folder of the datasets, only read where no file tells the run's classes.

    Raises:
        UserError, MethodError: what is wrong, where, and what to do.
    """
    source = find_source(folder, epoch)
    if classes is not None:
        names = _own_classes(source, list(classes), backbone)
    else:
        names = source.class_names(Path(data) if data else None)
    return Prompt(source, names, backbone)


def _own_classes(source: Source, classes: list[str], backbone: str) -> list[str]:
    """Class names of a user, checked; for class-specific contexts they must be the run's."""
    name = backbone or str(source.settings.get("MODEL.BACKBONE.NAME", ""))
    names = check_classes(classes, tokenizer=family_of(name).tokenizer(name))
    for key, value in source.settings.items():
        own_contexts = key.startswith("TRAINER.") and key.endswith(".CSC") and value is True
        if own_contexts and names != source.class_names():
            raise UserError(
                f"{source.path} was trained with {key} True: each of its contexts belongs to one "
                "class of the training, and other classes have none. Leave the classes out, or "
                "train with CSC False"
            )
    return names
