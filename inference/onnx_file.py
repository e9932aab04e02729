"""The image tower with a classifier as one ONNX file, checked against torch."""

import copy
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from dassl.utils import UserError
from inference.prompt import Prompt

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4  # of a cosine; single precision differs by about 1e-6


class ImageClassifier(nn.Module):
    """Images (B, 3, R, R), normalised pixels -> logits (B, C), in single precision on the CPU.

    Args:
        prompt: with a fixed classifier.
    """

    classifier: Tensor

    def __init__(self, prompt: Prompt):
        super().__init__()
        self.visual = copy.deepcopy(prompt.trainer.clip.visual).float().cpu()
        classifier = prompt.logit_scale * prompt.class_features().T  # (D, C)
        self.register_buffer("classifier", classifier.contiguous())
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        features = self.visual(images)  # (B, D)
        return nn.functional.normalize(features, dim=-1) @ self.classifier


def check_packages() -> None:
    """Refuse to begin without the packages that are needed.

    Raises:
        UserError: naming those that are missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--onnx needs {', '.join(PACKAGES)}, and {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install {' '.join(missing)}"
        )


def write_onnx(prompt: Prompt, path: Path) -> None:
    """Write the file; class names and logit scale stand in its metadata.

    Its input is `images`, its output `logits`; the number of images is free.

    Raises:
        UserError: onnxruntime computes something else than torch.
    """
    model = ImageClassifier(prompt)
    size = prompt.trainer.clip.preprocessing.size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, *size, generator=generator)
    with _quiet():
        program = torch.onnx.export(
            model,
            (images[:2],),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        about = {"classnames": prompt.classes, "logit_scale": prompt.logit_scale}
        program.model.metadata_props.update({k: json.dumps(v) for k, v in about.items()})
        program.save(str(path))
    _check(model, path, images, prompt.logit_scale)


def _check(model: ImageClassifier, path: Path, images: Tensor, scale: float) -> None:
    """Compare with torch, for another number of images than the file was traced with."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for count in (len(images), 1):
        (found,) = session.run(["logits"], {"images": images[:count].numpy()})
        error = (torch.from_numpy(found) - model(images[:count])).abs().max().item() / scale
        if not error <= TOLERANCE:
            raise UserError(
                f"the ONNX file computes other logits than torch (a cosine differs by {error:.2g}, "
                f"expected at most {TOLERANCE:g}): nothing is written; leave --onnx out, or try "
                "other versions of torch, onnxscript and onnxruntime"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporter says of itself is not shown."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
