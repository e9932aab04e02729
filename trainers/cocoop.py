"""CoCoOp (Zhou et al. 2022b): a prompt for each image."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from trainers.backbones.clip_model import FrozenCLIP
from trainers.coop import CoOp, SoftPromptTrainer

# tokens of the text tower in one pass, a bound on memory; benchmarks/cocoop_step.py measures it
TOKENS_PER_PASS = 2**13


@TRAINER_REGISTRY.register()
class CoCoOp(SoftPromptTrainer):
    """Loss = CE(logits of image-conditional prompts, label). Learned: `ctx` and `meta_net`.

    The meta-net, Linear(D, D/16) - ReLU - Linear(D/16, W), reads the unit image feature; its
    output is added to every context token. The class name stands at the end.

    Knobs (`TRAINER.COCOOP`), as in the CoOp codebase: `N_CTX`, `CTX_INIT`, `PREC`.
    """

    defaults = {key: CoOp.defaults[key] for key in ("N_CTX", "CTX_INIT", "PREC")}
    image_conditional = True
    static_step = SoftPromptTrainer.static_step

    def build_prompts(self, clip: FrozenCLIP, classnames: list[str]) -> nn.Module | None:
        """The context and the meta-net."""
        learner = super().build_prompts(clip, classnames)
        assert learner is not None
        D, hidden, W = clip.embed_dim, clip.embed_dim // 16, clip.text.width
        layers = [("linear1", nn.Linear(D, hidden)), ("relu", nn.ReLU())]
        learner.meta_net = nn.Sequential(OrderedDict([*layers, ("linear2", nn.Linear(hidden, W))]))
        return learner

    def images_per_pass(self, B: int) -> int:
        """As many images as `TOKENS_PER_PASS` allows, at least one."""
        prefix, suffix, _ = self.prompt_learner()
        return max(1, TOKENS_PER_PASS // (len(prefix) + len(suffix)))

    def losses(self, features: Tensor, label: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, C) and the term loss."""
        logits = self.conditional_logits(features)
        return logits, {"loss": F.cross_entropy(logits, label)}

    def predict(self, features: Tensor) -> Tensor:
        """Logits (B, C): class features differ from image to image, nothing can be kept."""
        parts = features.split(self.images_per_pass(len(features)))
        return torch.cat([self.conditional_logits(part) for part in parts])

    def conditional_logits(self, features: Tensor) -> Tensor:
        """Logits (B, C) of unit image features (B, D), with class features of each image."""
        shift = self.prompt_learner.meta_net(features)  # (B, W)
        ctx = self.prompt_learner.ctx + shift[:, None]  # (B, M, W)
        classes = self.clip.encode_prompts(*self.prompt_learner.assemble(ctx))  # (B, C, D)
        return self.clip.logit_scale * torch.einsum("bd,bcd->bc", features, classes)
