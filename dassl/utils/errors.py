"""Errors that a user can fix. Their text says what is wrong, where, and what to do."""

__all__ = [
    *("CheckpointError", "ChoiceError", "FolderError", "ImageError", "MissingFileError"),
    "UserError",
]


class UserError(ValueError):
    """A mistake of the user: ``train.py`` prints the text without a traceback and exits with 1."""

    def __init__(self, message: object = "") -> None:
        super().__init__(_without_worker_traceback(type(self), str(message)))


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that should exist does not."""


class FolderError(UserError, OSError):
    """A folder cannot be created or written."""


class ChoiceError(UserError, AssertionError):
    """A configured choice is not one of those offered (upstream asserts here)."""


class CheckpointError(UserError):
    """A checkpoint cannot be used: damaged, of another trainer, or of other shapes."""


class ImageError(UserError):
    """An image file cannot be decoded."""


def _without_worker_traceback(kind: type, message: str) -> str:
    """Undo what a DataLoader worker does to the text of an exception.

    torch rebuilds a worker's exception as ``type(text)`` with the worker's whole traceback as text.
    The original message is what follows the last mention of the exception's type.
    """
    if not message.startswith("Caught "):
        return message
    _, found, original = message.rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
    return original.rstrip("\n") if found else message
