"""MoPD: Mixture-of-Prompts Distillation (arXiv 2412.19087).

A pool of H hard prompts (teachers) is distilled into one soft prompt (student). A gate reads
the image feature and picks K teachers for each image.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.clip_model import FrozenCLIP
from trainers.coop import SoftPromptTrainer
from trainers.pool import check_num_teachers, load_pool


@TRAINER_REGISTRY.register()
class MoPD(SoftPromptTrainer):
    """loss = ALPHA * ce + (1 - ALPHA) * mpd + BETA * mps. Learned: `ctx` and `gate` (D, H).

    Knobs (`TRAINER.MOPD`): `N_CTX`, `CTX_INIT`, `CSC`, `CLASS_TOKEN_POSITION`, `PREC` as CoOp;
    `POOL`, a name under configs/pools or a path; `NUM_TEACHERS`, K; `TEMPERATURE`, T of the
    distillation; `ALPHA`, weight of the classification loss; `BETA`, weight of the selection
    loss. At test time only the soft prompt is used.
    """

    defaults = {
        "N_CTX": 4,
        "CTX_INIT": "a photo of a",
        "CSC": False,
        "CLASS_TOKEN_POSITION": "end",
        "PREC": "auto",
        "POOL": "paper",
        "NUM_TEACHERS": 3,
        "TEMPERATURE": 1.0,
        "ALPHA": 0.8,
        "BETA": 0.1,
    }

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse bad knobs, and read the pool before anything heavy loads."""
        super().check_cfg(cfg)
        self.require(cfg, "TEMPERATURE", lambda v: v > 0, "a number above 0")
        self.require(cfg, "ALPHA", lambda v: 0 <= v <= 1, "a weight from 0 to 1")
        self.require(cfg, "BETA", lambda v: v >= 0, "a weight of at least 0")
        knobs = cfg.TRAINER[self.node()]
        self.pool = load_pool(knobs.POOL, cfg.DATASET.NAME)
        key = f"TRAINER.{self.node()}.NUM_TEACHERS"
        check_num_teachers(knobs.NUM_TEACHERS, self.pool, knobs.POOL, key)

    def build_prompts(self, clip: FrozenCLIP, classnames: list[str]) -> nn.Module | None:
        """The soft prompt, and the gate, zero at the start."""
        learner = super().build_prompts(clip, classnames)
        assert learner is not None
        learner.gate = nn.Parameter(torch.zeros(clip.embed_dim, len(self.pool)))  # (D, H)
        return learner

    @cached_property
    def teachers(self) -> Tensor:
        """Unit features (H, C, D) of the hard prompts; only training needs them."""
        return self.clip.encode_templates(self.pool, self.dm.dataset.classnames)

    def losses(self, features: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Student logits (B, C) and the terms loss, ce, mpd, mps."""
        knobs = self.knobs
        student = self.logits(features, self.class_features())  # (B, C)
        teachers = self.clip.logit_scale * torch.einsum("bd,hcd->bhc", features, self.teachers)
        weights, picked = pick_teachers(features @ self.prompt_learner.gate, knobs.NUM_TEACHERS)
        mpd, mps = mixture_losses(student, teachers, weights, picked, label, knobs.TEMPERATURE)
        ce = F.cross_entropy(student, label)
        loss = knobs.ALPHA * ce + (1 - knobs.ALPHA) * mpd + knobs.BETA * mps
        return student, {"loss": loss, "ce": ce, "mpd": mpd, "mps": mps}


def pick_teachers(gate_logits: Tensor, num_teachers: int) -> tuple[Tensor, Tensor]:
    """Pick K of H teachers for each image, the ones with the highest gate logits.

    Ties go to the lowest index, on every device: at the start the gate is zero, and the first K
    teachers of the pool are picked.

    Args:
        gate_logits: (B, H).
        num_teachers: K, 1 <= K <= H.

    Returns:
        weights (B, K), softmax over the picked ones, and their indices (B, K).
    """
    # a stable sort, because the tie order of topk differs from device to device
    values, order = gate_logits.sort(dim=-1, descending=True, stable=True)  # (B, H)
    return values[:, :num_teachers].softmax(dim=-1), order[:, :num_teachers]


def mixture_losses(
    student: Tensor,
    teachers: Tensor,
    weights: Tensor,
    picked: Tensor,
    label: Tensor,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Distillation and selection loss of MoPD, means over the batch.

    With a the gate's weights, Z the picked teachers' and S the student's logits:
    mpd = sum_k a_k T^2 KL(softmax(Z_k / T) || softmax(S / T)), mps = sum_k a_k CE(Z_k, label).

    Args:
        student: (B, C) logits.
        teachers: (B, H, C) logits.
        weights: (B, K).
        picked: (B, K) indices of teachers.
        label: (B,).
        temperature: T > 0.

    Returns:
        mpd and mps, scalars.
    """
    B, K = picked.shape
    C = student.shape[-1]
    teachers = teachers.gather(1, picked[..., None].expand(-1, -1, C))  # (B, K, C)
    log_p = F.log_softmax(teachers / temperature, dim=-1)  # (B, K, C)
    log_q = F.log_softmax(student / temperature, dim=-1)[:, None]  # (B, 1, C)
    kl = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (B, K)
    labels = label[:, None].expand(B, K)
    ce = F.cross_entropy(teachers.transpose(1, 2), labels, reduction="none")  # (B, K)
    return (weights * kl).sum(dim=-1).mean(), (weights * ce).sum(dim=-1).mean()
