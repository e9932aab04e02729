"""Zero-shot CLIP (Radford et al. 2021): hand-made prompts, nothing is learned."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer
from trainers.clip_model import FrozenCLIP
from trainers.pool import load_pool


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Class features are the unit mean of the unit features of the templates of a pool.

    Knobs (`TRAINER.ZEROSHOTCLIP`): `PREC`; `POOL`, "single" for the one hand-made template of
    each dataset.
    """

    defaults = {"PREC": "auto", "POOL": "single"}
    learns = False

    def check_cfg(self, cfg: CfgNode) -> None:
        """Read the pool before anything heavy loads."""
        super().check_cfg(cfg)
        self.templates = load_pool(cfg.TRAINER[self.node()].POOL, cfg.DATASET.NAME)

    def build_prompts(self, clip: FrozenCLIP, classnames: list[str]) -> nn.Module | None:
        """Encode the prompts once; nothing is learned."""
        print(f'Prompts: "{self.templates[0]}" (n = {len(self.templates)})')
        features = clip.encode_templates(self.templates, classnames)  # (H, C, D)
        self._class_features = F.normalize(features.mean(dim=0), dim=-1)  # (C, D)
        return None

    def class_features(self) -> Tensor:
        """Unit text features (C, D) of the classes."""
        return self._class_features
