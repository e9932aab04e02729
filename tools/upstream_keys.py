"""Keys of the published code's configurations: a user who writes one is told ours."""

from __future__ import annotations

from typing import Any

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError


def _ours(key: str, method: Any) -> str | None:
    """What to do about a key that the published code of a method reads; None for other keys."""
    known = {name.upper(): knob for name, knob in getattr(method, "upstream", {}).items()}
    if key.upper() not in known:
        return None
    knob = known[key.upper()]
    return f"set TRAINER.{method.node()}.{knob}" if knob else "remove it"


def hint(key: str) -> str:
    """For a key that does not exist here: what to do if it comes from published code."""
    found = {n: _ours(key, TRAINER_REGISTRY.get(n)) for n in TRAINER_REGISTRY.registered_names()}
    known = [f"{advice} ({name})" for name, advice in found.items() if advice]
    return f", a key of published code: {' or '.join(known)}" if known else ""


def check_given(given: dict[str, str], trainer: str) -> None:
    """Refuse keys of another method's node that the published code of `trainer` reads.

    Args:
        given: the keys that the user has set, and where.
        trainer: the name of the trainer that runs.

    Raises:
        UserError: here they would have no effect; the message names ours.
    """
    for key, source in given.items():
        advice = _ours(key, TRAINER_REGISTRY.get(trainer))
        if advice:
            raise UserError(f"{source}: {key} has no effect on {trainer} here: {advice}")
