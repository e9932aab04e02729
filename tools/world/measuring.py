"""The embedded world measured: zero-shot CLIP, linear probes, and prompts on each style."""

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

PROMPTS = {
    "photo": "a photo of a {}.",
    "sketch": "a sketch of a {}.",
    "blueprint": "a blueprint of a {}.",
    "neon": "a neon sign of a {}.",
    "icon": "an icon of a {}.",
    "(any)": "an image of a {}.",
}
SHOTS, SEEDS = 16, (1, 2, 3)


def configuration(data: Path, dataset: str, classes: str, seed: int) -> Any:
    """The settings of the embedded configurations, without a trainer."""
    cfg = default_cfg()
    cfg.merge_from_file(str(REPOSITORY / "configs/trainers/ZeroshotCLIP/embedded.yaml"))
    cfg.DATASET.ROOT, cfg.DATASET.NAME = str(data), dataset
    cfg.DATASET.SUBSAMPLE_CLASSES, cfg.DATASET.NUM_SHOTS, cfg.SEED = classes, SHOTS, seed
    cfg.VERBOSE = False
    return cfg


def features_of(clip: FrozenCLIP, cfg: Any, items: list) -> tuple[Tensor, np.ndarray]:
    """Unit features (N, D) of images as they are tested, and labels (N,)."""
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
        features, labels = features_of(clip, cfg, build_dataset(cfg).train_x)
        model = LogisticRegression(C=100, max_iter=5000).fit(features.numpy(), labels)
        scores.append(100 * model.score(test[0].numpy(), test[1]))
    return scores


def measure(data: Path, weights: str) -> dict[Any, Any]:
    """All figures, in percent: by dataset and classes, and the matrix of styles (base classes)."""
    clip = load_clip(weights, resolve_precision("fp32", "cpu"))
    found: dict[Any, Any] = {"scale": clip.logit_scale.item()}
    for dataset in ("Shapes", "Digits"):
        for classes in ("base", "new"):
            cfg = configuration(data, dataset, classes, SEEDS[0])
            lists = build_dataset(cfg)
            test = features_of(clip, cfg, lists.test)
            text = clip.encode_templates(list(PROMPTS.values()), lists.classnames)  # (H, C, D)
            hits = {
                style: right(test[0], features, test[1])
                for style, features in zip(PROMPTS, text, strict=True)
            }
            found[dataset, classes] = {
                "zero-shot": 100 * hits["photo"].mean(),
                "probe": probe(clip, data, dataset, classes, test),
                "prompts": {style: 100 * hit.mean() for style, hit in hits.items()},
            }
            if (dataset, classes) == ("Shapes", "base"):
                labels, scenes = split_scenes("test")
                styles = scenes.styles[np.array(labels) < lists.num_classes]
                found["matrix"] = {
                    style: [100 * hit[styles == s].mean() for s in range(len(STYLES))]
                    for style, hit in hits.items()
                }
    return found


def report(found: dict[Any, Any]) -> str:
    """The figures as tables."""
    rows = []
    for (dataset, classes), row in ((k, v) for k, v in found.items() if isinstance(k, tuple)):
        probes = row["probe"]
        spread = f"{np.mean(probes):.1f} +- {np.std(probes):.1f}"
        best = max(row["prompts"], key=row["prompts"].get)
        rows.append([dataset, classes, f"{row['zero-shot']:.1f}", spread,
                     f"{row['prompts'][best]:.1f} ({best})"])  # fmt: skip
    headers = ["dataset", "classes", "zero-shot, photo", "linear probe, 16 shots", "best prompt"]
    parts = [tabulate(rows, headers, disable_numparse=True)]
    matrix = [[style, *(f"{v:.1f}" for v in row)] for style, row in found["matrix"].items()]
    parts.append(tabulate(matrix, ["prompt \\ images", *STYLES], disable_numparse=True))
    every = np.array([found["matrix"][style] for style in found["matrix"]])
    parts.append(
        f"best prompt for each style: {every.max(axis=0).mean():.1f}, "
        f"best single prompt: {every.mean(axis=1).max():.1f} (mean over styles)\n"
        f"logit scale: {found['scale']:.1f}"
    )
    return "\n\n".join(parts)
