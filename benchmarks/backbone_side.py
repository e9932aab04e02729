"""Text sides of open_clip's families for `benchmarks.text_side`: open_clip's own way beside ours.

An architecture without a tag gets random weights, which take as long: nothing is downloaded. Where
its tokenizer would have to be, words have as many tokens as OpenAI's gives them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.reference import open_clip_text_features
from benchmarks.text_side import TextSide, class_names
from dassl.utils import UserError
from trainers.backbones import openclip
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.openclip_names import library, spec
from trainers.backbones.parts import Preprocessing
from trainers.backbones.precision import resolve_precision
from trainers.backbones.tokens import CLIP, Tokenizer
from trainers.prompts.learner import PromptLearner

VISION = {"image_size": 32, "layers": 1, "width": 64, "head_width": 64, "patch_size": 16}
WORDS = 1000  # ids of the tokenizer below; those of a real one would fill memory


class CountedWords(Tokenizer):
    """As many tokens as OpenAI's tokenizer makes, with the start and end of a text tower."""

    def __init__(self, config: dict[str, Any]):
        by_id = config.get("pool_type") == "eos"
        self.start = (0,) if by_id else ()
        self.end, self.pad = (config.get("eos_id", 2) if by_id else 1,), 3

    def _encode(self, text: str, inside: bool) -> list[int]:
        return [4 + token % (WORDS - 4) for token in CLIP.encode(text)]


def built(name: str) -> tuple[Any, Tokenizer]:
    """A model as open_clip builds it, and its tokenizer; an architecture alone has random weights.

    Raises:
        UserError: there is no such model.
    """
    package, arch = library(name), name.removeprefix(openclip.PREFIX)
    if "/" in arch:
        found = spec(name)
        model = package.create_model(found.model, found.pretrained or None, require_pretrained=True)
        return model, openclip.tokenizer(name)
    config = package.get_model_config(arch)
    if config is None:
        raise UserError(f"open_clip has no architecture {arch}")
    text = config["text_cfg"]
    words: Tokenizer = CLIP
    if text.get("hf_tokenizer_name"):
        words, text["vocab_size"] = CountedWords(text), WORDS
    kind = package.CustomTextCLIP if config.pop("custom_text", False) else package.CLIP
    torch.manual_seed(0)
    return kind(**{**config, "vision_cfg": VISION}), words


@dataclass
class BackboneSide(TextSide):
    """Both ways for C classes and M context tokens of an open_clip model."""

    backbone: str = ""

    def __post_init__(self) -> None:
        precision = resolve_precision(self.precision, self.device)
        self.model, words = built(self.backbone)
        self.model.eval().to(self.device)
        images = Preprocessing((32, 32))
        parts = openclip.parts(self.model, words, images, self.backbone)
        self.clip = FrozenCLIP(parts, precision).to(self.device)
        torch.manual_seed(0)
        self.names = class_names(self.count)
        self.learner = PromptLearner(self.clip.text, self.names, n_ctx=self.tokens).to(self.device)
        self.target = torch.randn(self.count, self.clip.embed_dim).to(self.device)
        self.ids = self._ids(words)

    def _ids(self, words: Tokenizer) -> Tensor:
        """(C, L) ids of full prompts; those of the context stand for any words."""
        length = self.clip.text.context_length
        ids = torch.full((self.count, length), words.pad)
        for c, name in enumerate(self.names):
            own = [*words.start, *words.encode("x")[:1] * self.tokens]
            own += [*words.encode(f"{name}.", inside=True), *words.end]
            ids[c, : len(own)] = torch.tensor(own)
        return ids.to(self.device)

    def plain(self, part: slice = slice(None)) -> Tensor:
        """Class features (C, D) of some classes, by open_clip's own `encode_text`."""
        ids, M = self.ids[part], self.tokens
        S = len(self.clip.text.tokenizer.start)
        with torch.no_grad():
            vectors = self.clip.text.token_embedding(ids)  # (C, L, W)
        ctx = self.learner.ctx.expand(len(ids), -1, -1)
        vectors = torch.cat([vectors[:, :S], ctx, vectors[:, S + M :]], dim=1)
        with self.clip.precision.autocast():
            return open_clip_text_features(self.model, ids, vectors)

    def flags(self) -> list[str]:
        """Words of the command line that make this side."""
        return [*super().flags(), "--backbone", self.backbone]

    def notes(self) -> list[str]:
        """How many tokens either way computes."""
        text = self.clip.text
        prefix, _, layout = self.learner()
        ours, plain = text.tokens(len(prefix), layout), self.count * text.context_length
        way = "full length" if ours == plain else f"{plain / ours:.1f} times fewer"
        return [f"{self.count} classes: {plain} tokens plain, {ours} ours ({way})"]
