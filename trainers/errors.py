"""What tells a user about a mistake in a method's settings."""

from collections.abc import Iterable
from difflib import get_close_matches


class MethodError(ValueError):
    """A mistake of the user in a method's settings.

    The message is complete: it says what is wrong, where, and what to write instead.
    It is shown without a traceback.
    """


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known name that is most like a misspelt one, whatever its case; "" if none is close."""
    by_lower = {one.lower(): one for one in reversed(list(known))}  # of twins the first
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else ""


def meant(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """`, do you mean "x"?` for the known name that is most like a misspelt one; "" for none."""
    near = closest(name, known, cutoff)
    return f', do you mean "{near}"?' if near else ""


def brief(value: object) -> str:
    """A value as it is shown in a message: as Python writes it, of bounded length."""
    return shorten(repr(value))


def shorten(text: str, longest: int = 80) -> str:
    """A text of bounded length: its start, and how long it is where it was cut."""
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"
