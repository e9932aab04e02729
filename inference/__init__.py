"""After training: load a prompt, classify images, take it along.

    from inference import export, load_prompt, predict

docs/python.md shows them at work.
"""

from typing import TYPE_CHECKING

from dassl.lazy import on_first_use

if TYPE_CHECKING:
    from .classify import predict
    from .exporting import export
    from .prompt import Prompt, load_prompt

# no module has the name of what it defines: once imported it would stand in its place
_ON_FIRST_USE = {
    **dict.fromkeys(("Prompt", "load_prompt"), "prompt"),
    "export": "exporting",
    "predict": "classify",
}
__all__ = ["Prompt", "export", "load_prompt", "predict"]

__getattr__ = on_first_use(__name__, _ON_FIRST_USE)
