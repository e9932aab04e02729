"""The embedded world measured: zero-shot CLIP, linear probes, and prompts on each style."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from dassl.data import DatasetWrapper
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from datasets.shapes import split_scenes
from datasets.world.render import STYLES
from runs.config import REPOSITORY, default_cfg
from trainers.backbones.clip_model import FrozenCLIP, load_clip
from trainers.backbones.precision import resolve_precision
from trainers.prompts.pool import load_pool

PROMPTS = {
    "photo": "a photo of a {}.",
    "sketch": "a sketch of a {}.",
    "blueprint": "a blueprint of a {}.",
    "neon": "a neon sign of a {}.",
    "icon": "an icon of a {}.",
}
SHOTS, SEEDS = 16, (1, 2, 3)


@dataclass(frozen=True)
class Half:
    """Accuracies on the test images of one half of the classes, in percent.

    Attributes:
        prompts: by the names of PROMPTS.
        pool: by the templates of the pool `embedded`.
        probe: of linear probes, one for each of SEEDS.
    """

    prompts: dict[str, float]
    pool: dict[str, float]
    probe: list[float]

    @property
    def zero_shot(self) -> float:
        """That of the prompt from which every context starts."""
        return self.prompts["photo"]


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        halves: by dataset ("Shapes", "Digits") and classes ("base", "new").
        hits: for each of PROMPTS, whether each test image of `shapes` is told from the other
            classes of its half (N,).
        styles: of these images (N,), indices into STYLES.
        scale: CLIP's logit scale.
    """

    halves: dict[tuple[str, str], Half]
    hits: dict[str, np.ndarray]
    styles: np.ndarray
    scale: float

    def matrix(self) -> dict[str, list[float]]:
        """Accuracy of each prompt on each of STYLES and, last, on all images, in percent."""
        masks = [*(self.styles == style for style in range(len(STYLES))), self.styles >= 0]
        return {p: [100 * float(hit[m].mean()) for m in masks] for p, hit in self.hits.items()}

    def best_single(self) -> float:
        """Accuracy of the prompt that is best on all images."""
        return max(row[-1] for row in self.matrix().values())

    def best_by_style(self) -> float:
        """Accuracy if each style is read with the prompt that is best on it."""
        best = np.array(list(self.matrix().values())).max(axis=0)[:-1]  # (5,)
        shares = np.bincount(self.styles, minlength=len(STYLES)) / len(self.styles)
        return float(best @ shares)


def configuration(data: Path, dataset: str, classes: str, seed: int) -> Any:
    """The settings of the embedded configurations, without a trainer."""
    cfg = default_cfg()
    cfg.merge_from_file(str(REPOSITORY / "configs/trainers/ZeroshotCLIP/embedded.yaml"))
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(data), dataset
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.DATASET.NUM_SHOTS, cfg.SEED = classes, SHOTS, seed
    cfg.VERBOSE = False
    return cfg


def lists_of(cfg: Any) -> Any:
    """The dataset, without what it says of itself."""
    with redirect_stdout(io.StringIO()):
        return build_dataset(cfg)


def features_of(clip: FrozenCLIP, cfg: Any, items: list) -> tuple[Tensor, np.ndarray]:
    """Unit features (N, D) of images as they are tested, and labels (N,)."""
    with redirect_stdout(io.StringIO()):
        images = DatasetWrapper(cfg, items, build_transform(cfg, is_train=False))
    pixels = torch.stack([images[i]["img"] for i in range(len(images))])
    features = torch.cat([clip.encode_image(part) for part in pixels.split(500)])
    return features, np.array([item.label for item in items])


def right(features: Tensor, classes: Tensor, labels: np.ndarray) -> np.ndarray:
    """Whether each image is classified correctly (N,)."""
    return (features @ classes.T).argmax(dim=-1).numpy() == labels


def probe(clip: FrozenCLIP, data: Path, dataset: str, classes: str, test: tuple) -> list[float]:
    """Accuracies of logistic regressions on the shots of three seeds, in percent."""
    from sklearn.linear_model import LogisticRegression

    scores = []
    for seed in SEEDS:
        cfg = configuration(data, dataset, classes, seed)
        features, labels = features_of(clip, cfg, lists_of(cfg).train_x)
        model = LogisticRegression(C=100, max_iter=5000).fit(features.numpy(), labels)
        scores.append(100 * model.score(test[0].numpy(), test[1]))
    return scores


def measure(data: Path) -> Figures:
    """Measure all of it: zero-shot and probes on each half, prompts on each style."""
    weights = configuration(data, "Shapes", "base", SEEDS[0]).MODEL.BACKBONE.NAME
    clip = load_clip(weights, resolve_precision("fp32", "cpu"))
    halves: dict[tuple[str, str], Half] = {}
    hits: dict[str, list[np.ndarray]] = {style: [] for style in PROMPTS}
    for dataset, classes in product(("Shapes", "Digits"), ("base", "new")):
        cfg = configuration(data, dataset, classes, SEEDS[0])
        lists = lists_of(cfg)
        features, labels = test = features_of(clip, cfg, lists.test)
        pool = load_pool("embedded", dataset)
        text = clip.encode_templates([*PROMPTS.values(), *pool], lists.classnames)  # (H, C, D)
        found = [right(features, teacher, labels) for teacher in text]
        accuracies = [100 * float(hit.mean()) for hit in found]
        halves[dataset, classes] = Half(
            dict(zip(PROMPTS, accuracies, strict=False)),
            dict(zip(pool, accuracies[len(PROMPTS) :], strict=True)),
            probe(clip, data, dataset, classes, test),
        )
        if dataset == "Shapes":
            for style, hit in zip(PROMPTS, found, strict=False):
                hits[style].append(hit)
    _, scenes = split_scenes("test")  # base classes first, as the halves
    whole = {style: np.concatenate(parts) for style, parts in hits.items()}
    return Figures(halves, whole, scenes.styles, clip.logit_scale.item())


def report(found: Figures) -> str:
    """The figures as tables."""
    rows = []
    for (dataset, classes), half in found.halves.items():
        spread = f"{np.mean(half.probe):.1f} +- {np.std(half.probe):.1f}"
        best = max(half.prompts, key=lambda style: half.prompts[style])
        worst, top = min(half.pool.values()), max(half.pool.values())
        rows.append([dataset, classes, f"{half.zero_shot:.1f}", spread,
                     f"{half.prompts[best]:.1f} ({best})", f"{worst:.1f} - {top:.1f}"])  # fmt: skip
    headers = ["dataset", "classes", "zero-shot, photo", "linear probe, 16 shots", "best prompt",
               "prompts of the pool"]  # fmt: skip
    matrix = [[style, *(f"{v:.1f}" for v in row)] for style, row in found.matrix().items()]
    return "\n\n".join(
        [
            tabulate(rows, headers, disable_numparse=True),
            tabulate(matrix, ["prompt \\ images", *STYLES, "all"], disable_numparse=True),
            f"best prompt for each style: {found.best_by_style():.1f}, "
            f"best single prompt: {found.best_single():.1f} (all images)\n"
            f"logit scale: {found.scale:.1f}",
        ]
    )
