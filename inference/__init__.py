"""After training: load a prompt, classify images, take it along.

    from inference import load_prompt, predict

Both are described in docs/python.md.
"""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

if TYPE_CHECKING:
    from .classify import predict
    from .prompt import Prompt, load_prompt

__all__ = ["Prompt", "load_prompt", "predict"]

__getattr__ = on_first_use(
    __name__, {"Prompt": "prompt", "load_prompt": "prompt", "predict": "classify"}
)
