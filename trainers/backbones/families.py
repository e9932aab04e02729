"""Which family a backbone belongs to: the one place that looks at its name.

A family is a module with the functions `load`, `weights_file`, `digest`, `preprocessing`,
`tokenizer`, `clean`, `vocabulary`, `recipe` and `versions`, each of which takes the name, and with
`STRICT_IMAGES`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainers.backbones import openai, openclip


def family_of(name: str) -> Any:
    """The module of the family of MODEL.BACKBONE.NAME."""
    return openclip if name.startswith(openclip.PREFIX) else openai


def find_weights(name: str) -> Path:
    """The file of a backbone's weights; what is on the internet is downloaded first.

    Raises:
        MethodError: no such name or file, or the download failed.
    """
    return family_of(name).weights_file(name)


def weights_digest(name: str) -> str:
    """A short text that tells weights apart: a digest of files, or a name that stands for itself.

    Raises:
        MethodError: no such name or file.
    """
    return family_of(name).digest(name)
