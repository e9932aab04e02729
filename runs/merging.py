"""Settings of YAML files and KEY VALUE pairs into a configuration, with errors that help."""

import ast
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils import UserError
from runs.upstream_keys import published
from trainers.errors import closest
from trainers.yaml_files import load

PER_DATASET = "PER_DATASET"  # key of a trainer file: a table of settings by dataset


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """All settings as {"A.B": value}."""
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        name = f"{prefix}{key}"
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def read_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises:
        UserError: no such file, broken YAML, or a key that is there twice (with the line).
    """
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        found = f"; {path.parent} has: {', '.join(near)}" if near else ""
        raise UserError(f"no such configuration file: {path}{found}")
    return load(path, UserError)


def merge_file(cfg: CfgNode, path: Path, dataset: str | None, given: dict[str, str]) -> None:
    """Merge a file and, if it names a table of settings by dataset, those of the dataset."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected settings as KEY: VALUE, found {content!r}")
    table_name = content.pop(PER_DATASET, None)
    _merge_tree(cfg, content, str(path), given)
    if table_name is None:
        return
    table_path = path.with_name(str(table_name))
    table = read_yaml(table_path)
    name = dataset or cfg.DATASET.NAME
    settings = table.get(name) if isinstance(table, dict) else None
    if isinstance(settings, dict):
        _merge_tree(cfg, settings, f"{table_path}, {name}", given)
        print(f"Settings for {name} from {table_path}: {settings}")


def _merge_tree(
    cfg: CfgNode, tree: dict, source: str, given: dict[str, str], prefix: str = ""
) -> None:
    """Merge nested settings of a file, key by key."""
    known = flatten(cfg)
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in known:
            upstream = [published(f"{name}.{leaf}") for leaf in value]
            if not any(k.startswith(f"{name}.") for k in known) and not any(upstream):
                raise UserError(f'{source}: unknown section "{name}"{_near(f"{name}.", known)}')
            _merge_tree(cfg, value, source, given, f"{name}.")
        else:
            merge(cfg, name, value, source, given)


def merge(cfg: CfgNode, key: str, value: Any, source: str, given: dict[str, str]) -> None:
    """Set one existing key, with the type of its default, and note who has given it."""
    known = flatten(cfg)
    if key not in known and not published(key):
        raise UserError(f'{source}: unknown key "{key}"{_near(key, known)}')
    given[key] = source
    if key not in known:  # told below, with all others of its kind
        return
    default = known[key]
    if value is None or not isinstance(default, str) and _literal(value) is None:
        if default != "" and not key.endswith(".CTX_INIT"):
            raise UserError(
                f"{source}: {key} has no value, expected {_kind(default)} such as {default!r}; "
                "without the key its default is taken"
            )
        value = ""
    try:
        cfg.merge_from_list([key, _coerce(key, value, default)])
    except ValueError as error:
        raise UserError(
            f"{source}: {key} is {value!r}, expected {_kind(default)} such as {default!r}"
        ) from error


def _coerce(key: str, value: Any, default: Any) -> Any:
    """What yacs takes: whole numbers for decimal ones, and CTX_INIT as words or a bool."""
    if isinstance(default, str) and isinstance(value, str):
        # a path or name is not an expression: "1e3" stays a string, but True is CTX_INIT's bool
        if not (key.endswith(".CTX_INIT") and value.lower() in ("true", "false")):
            return repr(value)
        value = value.lower() == "true"
    if key.endswith(".CTX_INIT") and isinstance(value, bool):
        from trainers.prompts.learner import DEFAULT_WORDS  # needs torch

        return repr((default or DEFAULT_WORDS) if value else "")
    if isinstance(default, float):
        decoded = _literal(value)
        if isinstance(decoded, int) and not isinstance(decoded, bool):
            return float(decoded)
    return value


def _literal(value: Any) -> Any:
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError):
        return value


def _near(key: str, known: dict[str, Any]) -> str:
    """A suggestion for a key that does not exist."""
    leaf = key.rpartition(".")[2]
    same = (k for k in known if k.rpartition(".")[2] == leaf)  # in another section
    near = closest(key, known, cutoff=0.5) or next(same, "")
    return f', do you mean "{near}"?' if near else ""


def _kind(value: Any) -> str:
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(value), f"a {type(value).__name__}")
