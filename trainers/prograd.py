"""ProGrad (Zhu et al. 2023): keep the part of the gradient that zero-shot CLIP agrees with."""

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbones.tokens import ClassTexts
from trainers.coop import TEMPLATE, SoftPromptTrainer
from trainers.errors import MethodError
from trainers.settings import Setting


@TRAINER_REGISTRY.register()
class ProGrad(SoftPromptTrainer):
    """Descend along the gradient of CE, projected where the one of kl opposes it.

    kl is the cross-entropy from zero-shot CLIP to the student; its own gradient is never added.
    Learned: `ctx`. Knobs (`TRAINER.PROGRAD`): `N_CTX`; `CTX_INIT`, words in the last of the N_CTX
    tokens ("template" or True: those of the hand-made prompt), or empty for a random start; `PREC`;
    `POOL`, the hand-made prompts of the teacher; `T`, temperature of kl; `LAMBDA`, the share of the
    opposing part that is removed.
    """

    defaults = {
        "N_CTX": 16,
        "CTX_INIT": TEMPLATE,
        "PREC": "auto",
        "POOL": "prograd",
        "T": 1.0,
        "LAMBDA": 1.0,
    }
    rows = {
        "CTX_INIT": Setting(
            f"words in the last tokens of the context; {TEMPLATE} or True: the hand-made prompt's",
            kind="words",
            empty="a random start",
        ),
        "T": Setting("temperature of kl", above=0),
        "LAMBDA": Setting("share of the opposing part of the gradient that is removed", least=0),
    }
    upstream = {
        "LOSS.T": "T",
        "LOSS.LAMBDA": "LAMBDA",
        **dict.fromkeys(("LOSS.NAME", "LOSS.GM", "LOSS.ALPHA", "TRAINER.COOP.ALPHA"), ""),
    }
    right_align = True
    static_step = SoftPromptTrainer.static_step

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse words that do not fit."""
        super().check_cfg(cfg)
        knobs, node = cfg.TRAINER[self.node()], f"TRAINER.{self.node()}"
        words = self.start_words(knobs)
        if knobs.CTX_INIT == TEMPLATE and not words:
            raise MethodError(
                f"{node}.CTX_INIT is {TEMPLATE}, but {self.pool[0]!r} has no words before the "
                f"class name: set {node}.CTX_INIT to words, or False for a random start"
            )
        count = len(words.split())
        self.require(cfg, "N_CTX", lambda v: v >= count, f'at least {count}, for "{words}"')

    def start_words(self, knobs: CfgNode) -> str:
        """Words of CTX_INIT; those of the hand-made prompt end where the class name begins."""
        if knobs.CTX_INIT != TEMPLATE:
            return super().start_words(knobs)
        # class-wise texts have no words in common
        first = "" if isinstance(self.pool[0], ClassTexts) else self.pool[0]
        return first.partition("{}")[0].strip()

    def losses(self, features: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Student logits (B, C) and the terms loss (the cross-entropy) and kl."""
        T = self.knobs.T
        student = self.logits(features, self.class_features())
        teacher = self.logits(features, self.hand_made)
        kl = T**2 * F.cross_entropy(student / T, (teacher / T).softmax(dim=-1))
        return student, {"loss": F.cross_entropy(student, label), "kl": kl}

    def backward(self, terms: dict[str, Tensor]) -> None:
        """Gradient of each parameter: `project` of the two losses' gradients."""
        learned = list(self.prompt_learner.parameters())
        ce = torch.autograd.grad(self.scaled(terms["loss"]), learned, retain_graph=True)
        kl = torch.autograd.grad(self.scaled(terms["kl"]), learned)
        for parameter, ce_grad, kl_grad in zip(learned, ce, kl, strict=True):
            assert parameter.grad is None, "a projection needs the batch in one pass"
            parameter.grad = project(ce_grad, kl_grad, self.knobs.LAMBDA)


def project(ce_grad: Tensor, kl_grad: Tensor, lambda_: float) -> Tensor:
    """`ce_grad` without `lambda_` times its part against `kl_grad` (ProGrad's rule).

    Both are read as one vector each; where their cosine is not negative, or one of them is zero,
    `ce_grad` is returned as it is. Where `kl_grad` is not finite, neither is the result, so that a
    gradient scaler skips the step.
    """
    largest = kl_grad.abs().max()
    direction = kl_grad / largest  # its square neither overflows nor vanishes
    dot = (ce_grad * direction).sum()
    projected = ce_grad - lambda_ * dot / direction.square().sum() * direction
    # chosen on the device: the host does not wait for the numbers
    return torch.where((largest == 0) | (dot >= 0), ce_grad, projected)
