"""MoPD: Mixture-of-Prompts Distillation (arXiv 2412.19087).

A pool of H hard prompts (teachers) is distilled into one soft prompt (student). A gate reads
the image feature and picks K teachers for each image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbones.clip_model import FrozenCLIP
from trainers.coop import CoOp, SoftPromptTrainer
from trainers.errors import MethodError
from trainers.features.loaders import as_tested
from trainers.graphs import Static
from trainers.losses import distillation
from trainers.prompts.gates import GATES, LEARNED, Gate, GateLog, agreement
from trainers.prompts.pool import check_num_teachers
from trainers.settings import Setting


@TRAINER_REGISTRY.register()
class MoPD(SoftPromptTrainer):
    """loss = ALPHA * ce + (1 - ALPHA) * mpd + BETA * mps. Learned: `ctx` and `gate` (D, H).

    Knobs (`TRAINER.MOPD`): `N_CTX`, `CTX_INIT`, `CSC`, `CLASS_TOKEN_POSITION`, `PREC` as CoOp;
    `POOL`, a name under configs/pools or a path; `NUM_TEACHERS`, K; `TEMPERATURE`, T of the
    distillation; `ALPHA`, weight of the classification loss; `BETA`, weight of the selection
    loss; `GATE`, a key of `GATES`; `GATE_NOISE`, standard deviation of noise on the choice of
    teachers; `GATE_WARMUP`, epochs in which all H teachers are used; `GATE_COSINE`, temperature
    of a gate of cosines; `GATE_AGREEMENT`, start the gate from what teachers know of the labels.
    At test time only the soft prompt is used.
    """

    defaults = {
        **CoOp.defaults,
        "N_CTX": 4,
        "CTX_INIT": "a photo of a",
        "POOL": "paper",
        "NUM_TEACHERS": 3,
        "TEMPERATURE": 1.0,
        "ALPHA": 0.8,
        "BETA": 0.1,
        "GATE": "learned",
        "GATE_NOISE": 0.0,
        "GATE_WARMUP": 0,
        "GATE_COSINE": 0.0,
        "GATE_AGREEMENT": False,
    }
    later_knobs = ("GATE_COSINE", "GATE_AGREEMENT")
    rows = {
        "NUM_TEACHERS": Setting("teachers that are picked for each image, K", least=1),
        "TEMPERATURE": Setting("temperature of the distillation, T", above=0),
        "ALPHA": Setting("weight of the classification loss", least=0, most=1),
        "BETA": Setting("weight of the selection loss", least=0),
        "GATE": Setting("what picks the teachers", choices=GATES),
        "GATE_NOISE": Setting("standard deviation of noise on the choice of teachers", least=0),
        "GATE_WARMUP": Setting("epochs in which all teachers are used", least=0),
        "GATE_COSINE": Setting("temperature of a gate of cosines, 0: of products", least=0),
        "GATE_AGREEMENT": Setting("start the gate from what teachers know of the labels"),
    }
    upstream = {
        "TRAINER.COOP.W": "ALPHA",
        "TRAINER.COOP.W2": "BETA",
        "TRAINER.COOP.ALPHA": "",
        "LOSS.T": "TEMPERATURE",
        "LOSS.num_prompts": "NUM_TEACHERS",
        **dict.fromkeys(("LOSS.NAME", "LOSS.GM", "LOSS.ALPHA", "LOSS.LAMBDA"), ""),
    }

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse knobs that do not fit each other or the pool, before anything heavy loads."""
        super().check_cfg(cfg)
        knobs, node = cfg.TRAINER[self.node()], f"TRAINER.{self.node()}"
        check_num_teachers(knobs.NUM_TEACHERS, self.pool, knobs.POOL, f"{node}.NUM_TEACHERS")
        for key in ("GATE_NOISE", "GATE_WARMUP", *self.later_knobs):
            if knobs[key] and knobs.GATE not in LEARNED:
                kinds = LEARNED[:1] if key == "GATE_COSINE" else LEARNED
                raise MethodError(
                    f"{node}.{key} is {knobs[key]}, which is for a learned gate, but {node}.GATE "
                    f"is {knobs.GATE}: set {key} 0, or GATE {' or '.join(kinds)}"
                )
        if knobs.GATE_AGREEMENT and cfg.MODEL.INIT_WEIGHTS:
            raise MethodError(
                f"{node}.GATE_AGREEMENT is True, and MODEL.INIT_WEIGHTS has a gate to start from: "
                "set one of them"
            )
        if knobs.GATE_COSINE and (knobs.GATE_AGREEMENT or knobs.GATE == "dataset"):
            other = "GATE_AGREEMENT True" if knobs.GATE_AGREEMENT else "GATE dataset"
            raise MethodError(
                f"{node}.GATE_COSINE is {knobs.GATE_COSINE}, which does not go with {other}: "
                "set GATE_COSINE 0"
            )

    def build_prompts(self, clip: FrozenCLIP, classnames: list[str]) -> nn.Module | None:
        """The soft prompt, and the gate where it is learned."""
        learner = super().build_prompts(clip, classnames)
        assert learner is not None
        knobs = self.knobs
        self.gate = Gate(
            knobs.GATE, knobs.NUM_TEACHERS, knobs.GATE_NOISE, knobs.GATE_WARMUP, knobs.GATE_COSINE
        )
        self.gate_log = GateLog(len(self.pool), clip.logit_scale.device)
        gate = self.gate.parameter(clip.embed_dim, len(self.pool))
        learner.register_parameter("gate", gate)
        return learner

    def before_train(self) -> None:
        """Start the gate of a new training from the teachers' agreement with the labels."""
        super().before_train()
        if self.knobs.GATE_AGREEMENT and self.start_epoch == 0:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self.prompt_learner.gate.copy_(self._agreement())

    def _agreement(self) -> Tensor:
        """A gate (D, H), or (H,), from the training images as they are tested."""
        found = []
        for batch in as_tested(self, self.dm.dataset.train_x):
            images, label = self.parse_batch_train(batch)
            features = self.image_features(images)
            known = self.teacher_logits(features).log_softmax(dim=-1)  # (B, H, C)
            found.append((features, known.take_along_dim(label[:, None, None], -1)[..., 0]))
        features, known = map(torch.cat, zip(*found, strict=True))
        return known.mean(dim=0) if self.knobs.GATE == "dataset" else agreement(features, known)

    def before_epoch(self) -> None:
        """Forget what the gate did in an epoch that was cut off."""
        super().before_epoch()
        self.gate_log.forget()

    def epoch_metrics(self) -> dict[str, Any]:
        """What the gate did in the epoch, see `GateLog.take`."""
        return super().epoch_metrics() | self.gate_log.take()

    def losses(self, features: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Student logits (B, C) and the terms loss, ce, mpd, mps."""
        knobs = self.knobs
        student = self.logits(features, self.class_features())  # (B, C)
        few = self.gate.picks_few(len(label), len(self.pool), self.epoch)
        teachers = None if few else self.teacher_logits(features)  # (B, H, C)
        weight, generator = self.prompt_learner.gate, self.step_generator()
        weights, picked = self.gate.pick(weight, features, teachers, label, self.epoch, generator)
        self.gate_log.add(weights, picked)
        if teachers is None:
            teachers = self.picked_logits(features, picked)  # (B, K, C)
        else:
            teachers = teachers.take_along_dim(picked[..., None], dim=1)
        mpd, mps = picked_losses(student, teachers, weights, label, knobs.TEMPERATURE)
        ce = F.cross_entropy(student, label)
        loss = knobs.ALPHA * ce + (1 - knobs.ALPHA) * mpd + knobs.BETA * mps
        return student, {"loss": loss, "ce": ce, "mpd": mpd, "mps": mps}

    def static_step(self) -> Static:
        """The step is another one in the warm-up; the log of the gate is added to."""
        if self.gate.draws:
            return Static(unless="the gate draws random numbers in each step")
        return Static(self.gate.warms_up(self.epoch), (self.gate_log.sums,))

    def teacher_logits(self, features: Tensor) -> Tensor:
        """Logits (B, H, C) of the pool's prompts for unit image features (B, D)."""
        cosines = torch.einsum("bd,hcd->bhc", features, self.teachers)
        return cosines.mul_(self.clip.logit_scale)  # nothing of it is learned

    def picked_logits(self, features: Tensor, picked: Tensor) -> Tensor:
        """Logits (B, K, C) of the picked teachers (B, K) alone."""
        chosen = self.teachers.index_select(0, picked.flatten())  # (BK, C, D)
        cosines = torch.einsum("bd,bkcd->bkc", features, chosen.unflatten(0, picked.shape))
        return cosines.mul_(self.clip.logit_scale)

    def step_generator(self) -> torch.Generator:
        """Random numbers of this step alone: a resume repeats them, no other draw moves them."""
        step = self.epoch * max(self.num_batches, 1) + self.batch_idx
        return torch.Generator().manual_seed((self.cfg.SEED * 1_000_003 + step) % 2**63)


def picked_losses(
    student: Tensor, teachers: Tensor, weights: Tensor, label: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Distillation and selection loss of MoPD, means over the batch.

    With a the gate's weights, Z the picked teachers' and S the student's logits:
    mpd = sum_k a_k T^2 KL(softmax(Z_k / T) || softmax(S / T)), mps = sum_k a_k CE(Z_k, label).

    Args:
        student: (B, C) logits.
        teachers: (B, K, C) logits of the picked ones.
        weights: (B, K).
        label: (B,).
        temperature: T > 0.

    Returns:
        mpd and mps, scalars.
    """
    kl = distillation(student[:, None], teachers, temperature)  # (B, K)
    labels = label[:, None].expand_as(weights)
    ce = F.cross_entropy(teachers.transpose(1, 2), labels, reduction="none")  # (B, K)
    return (weights * kl).sum(dim=-1).mean(), (weights * ce).sum(dim=-1).mean()
