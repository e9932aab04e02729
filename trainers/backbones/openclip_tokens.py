"""open_clip's tokenizers, taken apart: start tokens, words, end tokens, padding."""

from __future__ import annotations

from typing import Any

from trainers.backbones.tokens import Tokenizer, bpe_piece
from trainers.errors import MethodError

PROBE = "a photo"  # words that every tokenizer has some ids for


class BpeTokenizer(Tokenizer):
    """CLIP's words, as open_clip reads them.

    Args:
        wrapped: an `open_clip.SimpleTokenizer`.
    """

    pad = 0

    def __init__(self, wrapped: Any):
        self.wrapped = wrapped
        self.start, self.end = (wrapped.sot_token_id,), (wrapped.eot_token_id,)
        _check(self, wrapped)

    def clean(self, text: str) -> str:
        """See `Tokenizer`."""
        return self.wrapped.clean_fn(text)

    def piece(self, token: int) -> tuple[str, bool]:
        """See `bpe_piece`."""
        return bpe_piece(self.wrapped, token)

    def _encode(self, text: str, inside: bool) -> list[int]:
        return self.wrapped.encode(text)  # word by word


class HubTokenizer(Tokenizer):
    """A tokenizer of Hugging Face's `transformers`, as open_clip wraps it.

    What stands around the words is read from a prompt of its own, since open_clip may change it.

    Args:
        wrapped: an `open_clip.HFTokenizer`.
    """

    def __init__(self, wrapped: Any):
        self.wrapped = wrapped
        row = wrapped([PROBE])[0].tolist()
        words = self._encode(PROBE, inside=False)
        whole = len(wrapped.tokenizer(self.clean(PROBE)).input_ids)
        places = range(len(row) - len(words) + 1)
        at = next((i for i in places if row[i : i + len(words)] == words), len(row))
        self.start, self.end = tuple(row[:at]), tuple(row[at + len(words) : whole])
        self.pad = row[-1]
        _check(self, wrapped)

    def clean(self, text: str) -> str:
        """See `Tokenizer`."""
        return self.wrapped.clean_fn(text)

    @property
    def highest(self) -> int:
        """The highest id of all."""
        return max(self.wrapped.tokenizer.get_vocab().values())

    def piece(self, token: int) -> tuple[str, bool]:
        """See `Tokenizer`; marks of where a word begins or goes on are left out."""
        told = str(self.wrapped.tokenizer.convert_ids_to_tokens(token))
        return told.removeprefix("##").replace("\u2581", " ").strip() or told, True

    def _encode(self, text: str, inside: bool) -> list[int]:
        found = self._words(self.clean(text))
        if not inside:
            return found
        before = self._words("a")  # what follows a word may be cut otherwise than what begins
        both = self._words(f"a {self.clean(text)}")
        return both[len(before) :] if both[: len(before)] == before else found

    def _words(self, text: str) -> list[int]:
        return list(self.wrapped.tokenizer(text, add_special_tokens=False).input_ids)


def wrap(tokenizer: Any) -> Tokenizer:
    """The tokenizer of an open_clip model as ours.

    Raises:
        MethodError: it is of a kind that cannot be taken apart.
    """
    if hasattr(tokenizer, "sot_token_id"):
        return BpeTokenizer(tokenizer)
    if hasattr(tokenizer, "clean_fn") and hasattr(tokenizer, "tokenizer"):
        return HubTokenizer(tokenizer)
    raise MethodError(f"its tokenizer, a {type(tokenizer).__name__}, is not supported")


def _check(tokenizer: Tokenizer, wrapped: Any) -> None:
    """Refuse a tokenizer that makes other prompts than start, words, end and padding."""
    row = wrapped([PROBE])[0].tolist()
    ids = tokenizer.prompt(PROBE, PROBE, len(row))
    if ids + [tokenizer.pad] * (len(row) - len(ids)) != row or not tokenizer.end:
        raise MethodError(
            "its tokenizer makes prompts that are not start tokens, words, end tokens and padding "
            f'(of "{PROBE}": {row[:8]}...), which is not supported'
        )
