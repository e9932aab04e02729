"""Class names as a user gives them."""

from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UserError
from datasets.files import read_lines, some
from trainers.backbones.tokens import CLIP, Tokenizer, plain_name
from trainers.errors import brief


def check_classes(
    classes: Sequence[str], where: str = "the list of classes", tokenizer: Tokenizer = CLIP
) -> list[str]:
    """Class names without outer blanks.

    Args:
        classes: C names.
        where: they stand, for messages.
        tokenizer: of the model that reads them.

    Raises:
        UserError: there is none, one is empty, no text, or two make the same prompt.
    """
    names = []
    for name in classes:
        if not isinstance(name, str) or not plain_name(name).strip():
            raise UserError(f"{where} has {brief(name)} in it, expected names of classes")
        names.append(name.strip())
    if not names:
        raise UserError(f"{where} is empty, expected at least one name")
    prompts: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        ids = tokenizer.encode(f"{plain_name(name)}.", inside=True)
        prompts.setdefault(tuple(ids), []).append(name)
    twice = [" and ".join(map(brief, same)) for same in prompts.values() if len(same) > 1]
    if twice:
        raise UserError(f"{where} has a class twice, as CLIP reads it: {some(twice)}")
    return names


def read_classes(path: Path) -> list[str]:
    """Class names of a file, one a line; blank lines are left out.

    Raises:
        UserError, DatasetError: as `check_classes`; no such file, or it is not in UTF-8.
    """
    return check_classes([line for _, line in read_lines(path)], str(path))


def split_classes(text: str) -> list[str]:
    """Class names of the command line, between commas.

    Raises:
        UserError: as `check_classes`.
    """
    return check_classes(text.split(",") if text.strip() else [], "--classes")
