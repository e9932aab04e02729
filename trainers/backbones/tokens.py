"""From a template and a class name to token ids, with the tokenizer of a text tower."""

from __future__ import annotations

from typing import Any

from trainers.errors import MethodError

EXAMPLE = '"a photo of a {}."'  # of a template, for messages
WORDS = 49406  # ids of CLIP's vocabulary below its start token and what follows


def plain_name(classname: str) -> str:
    """A class name as it stands in a prompt: underscores are blanks."""
    return classname.replace("_", " ")


def fill(template: str, classname: str) -> str:
    """Put a class name (`_` becomes a blank) into the `{}` of a template; all else is kept."""
    if template.count("{}") != 1:
        raise MethodError(f"template {template!r}: write {{}} exactly once, as in {EXAMPLE}.")
    return template.replace("{}", plain_name(classname))


def is_text(text: str) -> bool:
    """Whether UTF-8 has all characters: not the lone halves of some that YAML and JSON can name."""
    return text.isascii() or text.encode(errors="replace").decode() == text


class Tokenizer:
    """What makes token ids of words: one for each text tower, OpenAI's or a wrapped one.

    Attributes:
        start: ids that begin every prompt; there may be none.
        end: ids that follow the words; the last one is the end token.
        pad: id that fills a prompt up to the context length of its tower.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int

    def encode(self, text: str, inside: bool = False) -> list[int]:
        """Token ids of a text, without start and end tokens.

        Args:
            text: words.
            inside: they stand behind other words, which some tokenizers read otherwise.

        Raises:
            MethodError: the text has characters that UTF-8 has not.
        """
        if not is_text(text):  # a tokenizer would put another character in their place
            raise MethodError(
                f"{text!a} has characters that are no text: write the prompt in UTF-8"
            )
        return self._encode(text, inside)

    def prompt(self, text: str, classname: str, context_length: int) -> list[int]:
        """Token ids of a whole prompt, start and end tokens included.

        Raises:
            MethodError: the prompt does not fit; the message names the class.
        """
        ids = [*self.start, *self.encode(text), *self.end]
        check_fits(len(ids), classname, context_length)
        return ids

    def clean(self, text: str) -> str:
        """A text as the tokenizer reads it: two that are equal here are the same prompt."""
        raise NotImplementedError

    def piece(self, token: int) -> tuple[str, bool]:
        """The text of a token, and whether a word ends with it."""
        raise NotImplementedError

    def _encode(self, text: str, inside: bool) -> list[int]:
        raise NotImplementedError


class ClipTokenizer(Tokenizer):
    """OpenAI's; it is loaded on first use."""

    pad = 0

    @property
    def start(self) -> tuple[int, ...]:  # type: ignore[override]
        """The start token."""
        return (self._loaded.encoder["<|startoftext|>"],)

    @property
    def end(self) -> tuple[int, ...]:  # type: ignore[override]
        """The end token, the highest of all ids."""
        return (self._loaded.encoder["<|endoftext|>"],)

    @property
    def _loaded(self) -> Any:
        from clip.clip import _tokenizer  # `clip` loads torchvision, which is slow

        return _tokenizer  # a second one would read its words once more

    def clean(self, text: str) -> str:
        """Case and repeated blanks do not count."""
        return " ".join(text.lower().split())

    def piece(self, token: int) -> tuple[str, bool]:
        """See `bpe_piece`."""
        return bpe_piece(self._loaded, token)

    def _encode(self, text: str, inside: bool) -> list[int]:
        return self._loaded.encode(text)  # word by word: what stands before does not matter


CLIP = ClipTokenizer()


def encode(text: str) -> list[int]:
    """Token ids of a text by OpenAI's tokenizer, see `Tokenizer.encode`."""
    return CLIP.encode(text)


def bpe_piece(tokenizer: Any, token: int) -> tuple[str, bool]:
    """As `Tokenizer.piece`, for OpenAI's tokenizer and those that are made like it."""
    told, known = tokenizer.decoder[token], tokenizer.byte_decoder
    characters = told.removesuffix("</w>")
    if token >= WORDS:
        return characters, True
    characters = bytes(known[one] for one in characters).decode(errors="backslashreplace")
    return characters, told.endswith("</w>")


def check_fits(length: int, classname: str, context_length: int) -> None:
    """Refuse a prompt of `length` tokens that is longer than the tower reads.

    Raises:
        MethodError: naming the class and both lengths.
    """
    if length > context_length:
        raise MethodError(
            f'the prompt of class "{classname}" has {length} tokens, but CLIP reads at most '
            f"{context_length} (start and end token included): "
            "shorten the class name or the context"
        )
