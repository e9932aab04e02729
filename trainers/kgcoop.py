"""KgCoOp (Yao et al. 2023): stay close to the hand-made prompt."""

import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer
from trainers.coop import SoftPromptTrainer
from trainers.settings import Setting


@TRAINER_REGISTRY.register()
class KgCoOp(SoftPromptTrainer):
    """loss = ce + W * score, score = 1 - mean cosine of learned and hand-made class features.

    Learned: `ctx`. Knobs (`TRAINER.KGCOOP`): `N_CTX`, `CTX_INIT`, `PREC` as CoOp; `W`; `POOL`, the
    hand-made prompts: "kgcoop" for the one template of each dataset.
    """

    defaults = {
        "N_CTX": 4,
        "CTX_INIT": "a photo of a",
        "PREC": "auto",
        "W": 8.0,
        "POOL": "kgcoop",
    }
    rows = {"W": Setting("weight of the score", least=0)}
    upstream = {
        "TRAINER.COOP.W": "W",
        "TRAINER.COOP.ALPHA": "",
    }
    # modules that the published code builds, saves and never uses
    dead_keys = (*PromptTrainer.dead_keys, "bias_vectors", "meta_net.")
    static_step = SoftPromptTrainer.static_step

    def losses(self, features: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, C) and the terms loss, ce, score."""
        classes = self.class_features()  # (C, D)
        logits = self.logits(features, classes)
        ce = F.cross_entropy(logits, label)
        score = 1 - F.cosine_similarity(classes, self.hand_made, dim=-1, eps=1e-7).mean()
        return logits, {"loss": ce + self.knobs.W * score, "ce": ce, "score": score}
