"""The soft prompt: learned context vectors around the names of the classes."""

import torch
from torch import Tensor, nn

from trainers.backbones.packing import Layout
from trainers.backbones.text_tower import TextTower
from trainers.backbones.tokens import check_fits, plain_name
from trainers.errors import MethodError

POSITIONS = ("end", "middle", "front")
DEFAULT_WORDS = "a photo of a"


class PromptLearner(nn.Module):
    """Learned context for C classes (CoOp, Zhou et al. 2022; layout as in the CoOp codebase).

    A prompt is `[start] context name . [end]` ("end"), `[start] context/2 name context/2 . [end]`
    ("middle") or `[start] name context . [end]` ("front"); a tokenizer may have no start token, or
    drop the point. Tokens that all classes share at the start are kept apart, so that the text
    tower computes them once.

    Attributes:
        ctx: (M, W) generic, or (C, M, W) class-specific context, float32, learned.

    Args:
        tower: the text tower that will read the prompts.
        classnames: C names; underscores are read as blanks.
        n_ctx: M, used when no words are given.
        words: words whose token vectors start the context (M is then their number of tokens);
            empty for a random start, normal(0, 0.02).
        class_specific: one context for each class instead of one for all.
        position: where the class name stands, one of `POSITIONS`.
        right_align: the words fill the last of `n_ctx` slots, zeros come before (ProGrad): as many
            tokens as there are words; tokens beyond (a comma is one) stay fixed, before the name.

    Raises:
        MethodError: a prompt does not fit, or a setting is out of range.
    """

    start: Tensor
    tails: Tensor
    index: Tensor

    def __init__(
        self,
        tower: TextTower,
        classnames: list[str],
        n_ctx: int = 16,
        words: str = "",
        class_specific: bool = False,
        position: str = "end",
        right_align: bool = False,
    ):
        super().__init__()
        if position not in POSITIONS:
            raise MethodError(
                f'CLASS_TOKEN_POSITION is "{position}", expected one of: {", ".join(POSITIONS)}'
            )
        ctx, fixed = _start_context(tower, n_ctx, words, right_align)  # (M, W)
        room = tower.context_length - len(tower.tokenizer.start) - len(tower.tokenizer.end)
        if len(ctx) > room:
            raise MethodError(
                f"the context has {len(ctx)} tokens, but prompts of this backbone have room for "
                f"{room} beside start and end token, which the class name needs as well: "
                "set a smaller N_CTX"
            )
        assert position == "end" or not fixed, "tokens before the name need it at the end"
        self.n_ctx = ctx.shape[0]
        empty = n_ctx - len(words.split()) if right_align or not words else 0
        self.words = " ".join([*["X"] * empty, *words.split()])
        C, W = len(classnames), tower.width
        if class_specific:
            per_class = (C, self.n_ctx, W)
            ctx = ctx.repeat(C, 1, 1) if words else torch.empty(per_class).normal_(std=0.02)
        self.ctx = nn.Parameter(ctx)
        shared = {"end": self.n_ctx, "middle": self.n_ctx // 2, "front": 0}[position]
        self.shared = 0 if class_specific else shared  # context tokens that all classes share
        self._lay_out(tower, [plain_name(name) for name in classnames], position, fixed)

    def _lay_out(
        self, tower: TextTower, names: list[str], position: str, before: list[int]
    ) -> None:
        """Token vectors that stay fixed, and which of them stands where (buffers, not saved)."""
        start, end, half = tower.tokenizer.start, tower.tokenizer.end, self.n_ctx // 2
        inside = {"end": self.n_ctx, "middle": half, "front": 0}[position] > 0

        def encode(text: str) -> list[int]:
            return tower.tokenizer.encode(text, inside)

        tails = [[*before, *encode(f"{name}."), *end] for name in names]  # name . [end]
        for name, tail in zip(names, tails, strict=True):
            check_fits(len(start) + self.n_ctx + len(tail), name, tower.context_length)
        # rows of `assemble`'s table: the tails of all classes, then the context
        first, rows = sum(map(len, tails)), iter(range(sum(map(len, tails))))
        prompts = []
        for c, (name, tail) in enumerate(zip(names, tails, strict=True)):
            own = [next(rows) for _ in tail]
            offset = c * self.n_ctx if self.ctx.dim() == 3 else 0
            context = [first + offset + i for i in range(self.n_ctx)]
            n = min(len(encode(name)), len(tail) - len(end))
            order = {
                "end": context + own,
                "middle": context[:half] + own[:n] + context[half:] + own[n:],
                "front": own[:n] + context + own[n:],
            }[position]
            prompts.append(order[self.shared :])
        self.layout = Layout.of([len(order) for order in prompts])
        index = [row for order in prompts for row in order]  # T rows
        device = tower.token_embedding.weight.device
        ids = torch.tensor([*start, *(i for tail in tails for i in tail)], device=device)
        with torch.no_grad():
            fixed = tower.token_embedding(ids).float()
        # of start tokens: (1, W), or as many as the tokenizer has
        self.register_buffer("start", fixed[: len(start)], persistent=False)
        self.register_buffer("tails", fixed[len(start) :], persistent=False)  # (all tails, W)
        self.register_buffer("index", torch.tensor(index), persistent=False)  # (T,)

    def forward(self) -> tuple[Tensor, Tensor, Layout]:
        """The prompts as the text tower reads them: prefix (P, W), suffix (T, W), layout."""
        return self.assemble(self.ctx)

    def assemble(self, ctx: Tensor) -> tuple[Tensor, Tensor, Layout]:
        """As `forward`, for a context other than the learned one.

        Args:
            ctx: of the shape of `self.ctx`, or (G, M, W) generic contexts, one for each of G sets
                of prompts: the prefix is (G, P, W) then.
        """
        if ctx.dim() == 3 and self.ctx.dim() == 2:
            assert self.shared == self.n_ctx, "a context for each set needs the name at the end"
            prefix = torch.cat([self.start.expand(len(ctx), -1, -1), ctx], dim=1)
            return prefix, self.tails[self.index], self.layout
        prefix = torch.cat([self.start, ctx[: self.shared]]) if self.shared else self.start
        table = torch.cat([self.tails, ctx.reshape(-1, ctx.shape[-1])])
        return prefix, table[self.index], self.layout


def context_words(value: str | bool) -> str:
    """The knob `CTX_INIT`: words, or a bool (True means "a photo of a"), as words."""
    if isinstance(value, bool):
        return DEFAULT_WORDS if value else ""
    return plain_name(value).strip()


def _start_context(
    tower: TextTower, n_ctx: int, words: str, right_align: bool
) -> tuple[Tensor, list[int]]:
    """Context vectors (M, W) to start from: of the words, else random; and ids that are left."""
    if not words:
        if n_ctx < 1:
            raise MethodError(f"N_CTX is {n_ctx}, expected at least 1 context token")
        return torch.empty(n_ctx, tower.width).normal_(std=0.02), []
    ids = tower.tokenizer.encode(words)
    count = len(words.split()) if right_align else len(ids)
    with torch.no_grad():
        table = tower.token_embedding.weight
        ctx = table[torch.tensor(ids[:count], device=table.device)].float().cpu()
    if not right_align:
        return ctx, []
    if n_ctx < count:
        raise MethodError(
            f'N_CTX is {n_ctx}, but the context starts from {count} words ("{words}"): '
            f"set N_CTX {count} or more"
        )
    return torch.cat([torch.zeros(n_ctx - count, tower.width), ctx]), ids[count:]
