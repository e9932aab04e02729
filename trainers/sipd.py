"""SiPD, single-prompt distillation: MoPD's baseline with one teacher and no gate."""

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.coop import CoOp, SoftPromptTrainer
from trainers.losses import distillation
from trainers.settings import Setting


@TRAINER_REGISTRY.register()
class SiPD(SoftPromptTrainer):
    """loss = ALPHA * ce + (1 - ALPHA) * kl, kl from one hard prompt. Learned: `ctx`.

    Knobs (`TRAINER.SIPD`): `N_CTX`, `CTX_INIT`, `CSC`, `CLASS_TOKEN_POSITION`, `PREC` as CoOp;
    `POOL` and `TEACHER`, a pool and the place (from 0) of the teacher in it; `TEMPERATURE`, T of
    the distillation; `ALPHA`, weight of the classification loss.
    """

    defaults = {
        **CoOp.defaults,
        "N_CTX": 4,
        "CTX_INIT": "a photo of a",
        "POOL": "single",
        "TEACHER": 0,
        "TEMPERATURE": 1.0,
        "ALPHA": 0.8,
    }

    rows = {
        "TEACHER": Setting("place of the teacher in the pool, from 0", least=0),
        "TEMPERATURE": Setting("temperature of the distillation, T", above=0),
        "ALPHA": Setting("weight of the classification loss", least=0, most=1),
    }

    static_step = SoftPromptTrainer.static_step

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a teacher that is not in the pool; the pool is cut to the one teacher."""
        super().check_cfg(cfg)
        H = len(self.pool)
        expected = f"0 to {H - 1}, as the pool has {H} templates"
        self.require(cfg, "TEACHER", lambda v: v < H, expected)
        self.pool = [self.pool[cfg.TRAINER[self.node()].TEACHER]]

    def losses(self, features: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Student logits (B, C) and the terms loss, ce, kl."""
        knobs = self.knobs
        student = self.logits(features, self.class_features())
        ce = F.cross_entropy(student, label)
        teacher = self.logits(features, self.hand_made)
        kl = distillation(student, teacher, knobs.TEMPERATURE).mean()
        return student, {"loss": knobs.ALPHA * ce + (1 - knobs.ALPHA) * kl, "ce": ce, "kl": kl}
