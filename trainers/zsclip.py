"""Zero-shot CLIP (Radford et al. 2021): hand-made prompts, nothing is learned."""

from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY
from trainers.backbones.clip_model import FrozenCLIP
from trainers.base import PromptTrainer


@TRAINER_REGISTRY.register()
class ZeroshotCLIP(PromptTrainer):
    """Class features are those of hand-made prompts: `PromptTrainer.hand_made`.

    Knobs (`TRAINER.ZEROSHOTCLIP`): `PREC`; `POOL`, "single" for the one template of each dataset.
    """

    defaults = {**PromptTrainer.defaults, "POOL": "single"}
    learns = False

    def build_prompts(self, clip: FrozenCLIP, classnames: list[str]) -> nn.Module | None:
        """Nothing is learned; say what the prompts are."""
        if len(self.pool) > 1:
            print(f"Prompt ensembling (n={len(self.pool)})")
        print(f'Prompts: "{self.pool[0]}"{" and others" if len(self.pool) > 1 else ""}')
        return None

    def class_features(self) -> Tensor:
        """Unit text features (C, D) of the classes."""
        return self.hand_made


@TRAINER_REGISTRY.register()
class ZeroshotCLIP2(ZeroshotCLIP):
    """Prompt ensembling: as ZeroshotCLIP, over the templates of any pool.

    Knobs (`TRAINER.ZEROSHOTCLIP2`): `PREC`; `POOL`, "ensemble" for the seven general templates that
    OpenAI selected, and the dataset's own.
    """

    defaults = {**ZeroshotCLIP.defaults, "POOL": "ensemble"}
