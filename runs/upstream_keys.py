"""Keys that mean nothing to the trainer that runs: a user who writes one is told ours."""

from collections.abc import Container, Mapping
from typing import Any

from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError


def published(key: str) -> list[str]:
    """The methods whose published code reads a key, in any case of letters."""
    names = TRAINER_REGISTRY.registered_names()
    return [name for name in names if key.upper() in _upstream(TRAINER_REGISTRY.get(name))]


def check_given(given: Mapping[str, str], known: Container[str], trainer: str) -> None:
    """Refuse keys of published code, and keys of another method, all in one message.

    A trainer that does not tell its node may read any.

    Args:
        given: the keys that the user has set, and where.
        known: all keys of the configuration.
        trainer: the name of the trainer that runs.

    Raises:
        UserError: here they would have no effect; the message names ours.
    """
    method = TRAINER_REGISTRY.get(trainer)
    nodes = {
        TRAINER_REGISTRY.get(name).node()
        for name in TRAINER_REGISTRY.registered_names()
        if hasattr(TRAINER_REGISTRY.get(name), "node")
    }
    lines = []
    for key, source in given.items():
        advice = _advice(key, method, nodes) if hasattr(method, "node") else ""
        if not advice and key not in known:
            advice = f"only the published code of {', '.join(published(key))} has it"
        if advice:
            lines.append(f"{source}: {key}: {advice}")
    if lines:
        what = "this setting has" if len(lines) == 1 else "these settings have"
        raise UserError(f"{what} no effect on {trainer} here:\n  " + "\n  ".join(lines))


def _upstream(method: Any) -> dict[str, str]:
    return {key.upper(): knob for key, knob in getattr(method, "upstream", {}).items()}


def _advice(key: str, method: Any, nodes: set[str]) -> str:
    """What to write instead of a key; empty for one that has an effect."""
    own = f"TRAINER.{method.node()}"
    if key.upper() in _upstream(method):
        knob = _upstream(method)[key.upper()]
        return f"set {own}.{knob}" if knob else "remove it"
    top, _, rest = key.partition(".")
    node, _, knob = rest.partition(".")
    if top != "TRAINER" or node not in nodes or node == method.node():
        return ""
    return f"set {own}.{knob}" if knob in method.defaults else "remove it"
