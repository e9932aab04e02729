"""CoOp (Zhou et al. 2022): learn the prompt's context by cross-entropy."""

from typing import ClassVar

from torch import nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.backbones.clip_model import FrozenCLIP
from trainers.base import PromptTrainer
from trainers.prompts.learner import DEFAULT_WORDS, POSITIONS, PromptLearner, context_words
from trainers.settings import Setting

TEMPLATE = "template"  # value of CTX_INIT: the words of the hand-made prompt
MOST_CTX = 512  # tokens that any text tower may read; a name must fit as well


class SoftPromptTrainer(PromptTrainer):
    """Base of the methods that learn the context vectors of one `PromptLearner`.

    Class attributes:
        right_align: see `PromptLearner`.
    """

    right_align: ClassVar[bool] = False
    rows: ClassVar[dict[str, Setting]] = {
        "N_CTX": Setting("tokens of the context", least=1, most=MOST_CTX),
        "CTX_INIT": Setting(
            "words from which the context starts",
            kind="words",
            rule=(f"but not {TEMPLATE!r} (only ProGrad has one)", lambda v: v != TEMPLATE),
            empty="a random start",
            true=DEFAULT_WORDS,
        ),
        "CSC": Setting("a context for each class instead of one for all"),
        "CLASS_TOKEN_POSITION": Setting("where the class name stands", choices=POSITIONS),
    }

    def start_words(self, knobs: CfgNode) -> str:
        """The words from which the context starts; empty for a random start."""
        return context_words(knobs.CTX_INIT)

    def build_prompts(self, clip: FrozenCLIP, classnames: list[str]) -> nn.Module | None:
        """The context vectors, as the knobs describe them."""
        knobs = self.knobs
        class_specific = knobs.get("CSC", False)
        learner = PromptLearner(
            clip.text,
            classnames,
            n_ctx=knobs.N_CTX,
            words=self.start_words(knobs),
            class_specific=class_specific,
            position=knobs.get("CLASS_TOKEN_POSITION", "end"),
            right_align=self.right_align,
        )
        kind = "class-specific contexts" if class_specific else "a generic context"
        print(f"Initializing {kind}")
        print(f'Initial context: "{learner.words}"')
        given = f" (N_CTX {knobs.N_CTX} is not used)" if learner.n_ctx != knobs.N_CTX else ""
        print(f"Number of context words (tokens): {learner.n_ctx}{given}")
        return learner


@TRAINER_REGISTRY.register()
class CoOp(SoftPromptTrainer):
    """Loss = CE(student logits, label). Learned: `ctx`.

    Knobs (`TRAINER.COOP`), as in the CoOp codebase: `N_CTX`; `CSC`, class-specific contexts;
    `CTX_INIT`, words to start from or a bool (True is "a photo of a"), which then set the
    number of tokens; `PREC`; `CLASS_TOKEN_POSITION`.
    """

    defaults = {
        "N_CTX": 16,
        "CSC": False,
        "CTX_INIT": "",
        "PREC": "auto",
        "CLASS_TOKEN_POSITION": "end",
    }
    static_step = SoftPromptTrainer.static_step
