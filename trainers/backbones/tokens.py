"""From a template and a class name to token ids, with OpenAI's tokenizer."""

from typing import Any

from trainers.errors import MethodError

EXAMPLE = '"a photo of a {}."'  # of a template, for messages


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


def _tokenizer() -> Any:
    """OpenAI's tokenizer; a second one would read its words once more."""
    from clip.clip import _tokenizer  # `clip` loads torchvision, which is slow

    return _tokenizer


def encode(text: str) -> list[int]:
    """Token ids of a text, without start and end token.

    Raises:
        MethodError: the text has characters that UTF-8 has not.
    """
    if not is_text(text):  # the tokenizer would put another character in their place
        raise MethodError(f"{text!a} has characters that are no text: write the prompt in UTF-8")
    return _tokenizer().encode(text)


def start_token() -> int:
    """Id of the start token."""
    return _tokenizer().encoder["<|startoftext|>"]


def end_token() -> int:
    """Id of the end token, the highest of all ids."""
    return _tokenizer().encoder["<|endoftext|>"]


def encode_prompt(text: str, classname: str, context_length: int) -> list[int]:
    """Token ids of a whole prompt, start and end token included.

    Raises:
        MethodError: the prompt does not fit; the message names the class.
    """
    ids = [start_token(), *encode(text), end_token()]
    check_fits(len(ids), classname, context_length)
    return ids


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
