"""From command line and YAML files to one frozen configuration, with errors that help.

Order, later wins: defaults, knobs of the methods, dataset file, trainer file, the settings for
this dataset in the table that the trainer file names (`PER_DATASET: file.yaml`, beside it), flags,
trailing KEY VALUE pairs. A model that is tested on another dataset than it was trained on keeps the
settings for the dataset of its training.
"""

from __future__ import annotations

import argparse
import ast
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

import datasets  # noqa: F401 - registers the datasets
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.lazy import load
from dassl.utils import UserError
from datasets.own import run_name, split_name
from runs.upstream_keys import check_given, published

REPOSITORY = Path(__file__).resolve().parents[1]
PER_DATASET = "PER_DATASET"  # key of a trainer file: a table of settings by dataset
# flag of the command line -> key of the configuration
FLAGS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
}


def default_cfg() -> CfgNode:
    """Dassl's defaults, the keys that CoOp's datasets read, and the knobs of every method."""
    cfg = _without_methods()
    methods()
    trainers.extend_cfg(cfg)
    return cfg


def methods() -> Any:
    """The registry of trainers, with all methods in it; loads torch."""
    load("torch")
    trainers.register()
    return TRAINER_REGISTRY


def _without_methods() -> CfgNode:
    """As `default_cfg`, without the knobs of the methods, whose modules need torch."""
    cfg = get_cfg_default()
    cfg.PROTOCOL = ""  # stamped into results, no effect on the run
    cfg.CONFIG_LABEL = ""  # the same, name of the configuration
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base or new
    cfg.DATASET.PATH = ""  # of your own data; `DATASET.NAME folder:PATH` sets both
    cfg.DATASET.SOURCE = ""  # what a tested model was trained on, if that is another dataset
    cfg.MODEL.COMPILE = False  # the image tower, by torch.compile
    return cfg


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The frozen configuration of one job.

    Raises:
        UserError: unknown key, trainer or dataset, wrong type, missing or broken file; the
            message names the file or flag, the key, and the closest right one.
    """
    cfg = default_cfg()
    if len(args.opts) % 2:
        raise UserError(f"KEY VALUE pairs must come in twos, but these are: {' '.join(args.opts)}")
    pairs = list(zip(args.opts[::2], args.opts[1::2], strict=True))
    source = _trained_on(args, dict(pairs).get("DATASET.SOURCE", ""))
    given: dict[str, str] = {}  # key -> who has set it last
    for path in (args.dataset_config_file, args.config_file):
        if path:
            _merge_file(cfg, Path(path), source or dict(pairs).get("DATASET.NAME"), given)
    for flag, key in FLAGS.items():
        if getattr(args, flag):
            _merge(cfg, key, getattr(args, flag), f"--{flag.replace('_', '-')}", given)
    if args.seed is not None and args.seed >= 0:  # 0 is a seed like any other
        cfg.SEED = args.seed
    for key, value in pairs:
        if key.startswith("-"):
            raise UserError(f"flags come before KEY VALUE pairs, but {key} comes after them")
        _merge(cfg, key, value, "command line", given)
    if not cfg.DATASET.ROOT:
        cfg.DATASET.ROOT = str(REPOSITORY / "data")
    own = split_name(cfg.DATASET.NAME)
    if own:
        cfg.DATASET.NAME, cfg.DATASET.PATH = own
    cfg.DATASET.SOURCE = "" if source == dataset_label(cfg) else source
    check_name(cfg.TRAINER.NAME, methods(), "trainer", "--trainer")
    check_name(cfg.DATASET.NAME, DATASET_REGISTRY, "dataset", "--dataset-config-file")
    check_given(given, flatten(cfg), cfg.TRAINER.NAME)
    _check_ranges(cfg)
    cfg.freeze()
    return cfg


def dataset_label(cfg: CfgNode) -> str:
    """The dataset's registry name; for your own data a name that tells its folder."""
    return _label(cfg.DATASET.NAME, cfg.DATASET.PATH)


def dataset_cfg(name: str, path: str, data: Path, shots: int = -1) -> CfgNode:
    """The configuration with which a run would read a dataset, whole unless `shots` are given.

    Args:
        name: registered name.
        path: of your own data, else empty.
        data: folder of the datasets.
    """
    cfg = _without_methods()
    cfg.DATASET.NAME, cfg.DATASET.PATH, cfg.DATASET.ROOT = name, path, str(data)
    cfg.DATASET.NUM_SHOTS = shots
    cfg.VERBOSE = False
    cfg.freeze()
    return cfg


def check_setting(key: str, value: str, source: str) -> None:
    """Refuse a KEY VALUE pair that no configuration can take.

    Raises:
        UserError: unknown key, with the closest right one, or a value of another type.
    """
    _merge(default_cfg(), key, value, source, {})


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
        UserError: no such file, or broken YAML (with line and column).
    """
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        found = f"; {path.parent} has: {', '.join(near)}" if near else ""
        raise UserError(f"no such configuration file: {path}{found}")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error


def _label(name: str, path: str) -> str:
    return run_name(f"{name.lower()}:{path}") if path else name


def _trained_on(args: argparse.Namespace, given: str) -> str:
    """Label of the dataset on which the model that is tested was trained; "" if not known.

    Raises:
        UserError: the folder of the model says something else than DATASET.SOURCE, or nothing.
    """
    if not args.eval_only:
        if given:
            raise UserError("DATASET.SOURCE is for --eval-only: a run is trained on its DATASET")
        return ""
    path = Path(args.model_dir) / "config.yaml"
    if not args.model_dir or not path.is_file():  # a checkpoint that was copied out of its run
        return given
    settings = read_yaml(path)
    if not isinstance(settings, dict) or "DATASET.NAME" not in settings:
        raise UserError(f"{path} cannot be read: is --model-dir the folder of a trained run?")
    found = settings.get("DATASET.SOURCE") or _label(
        settings["DATASET.NAME"], settings.get("DATASET.PATH", "")
    )
    if given not in ("", found):
        raise UserError(
            f"DATASET.SOURCE is {given}, but the model in {args.model_dir} was trained on {found}"
        )
    return found


def _merge_file(cfg: CfgNode, path: Path, dataset: str | None, given: dict[str, str]) -> None:
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
            _merge(cfg, name, value, source, given)


def _merge(cfg: CfgNode, key: str, value: Any, source: str, given: dict[str, str]) -> None:
    """Set one existing key, with the type of its default, and note who has given it."""
    known = flatten(cfg)
    if key not in known and not published(key):
        raise UserError(f'{source}: unknown key "{key}"{_near(key, known)}')
    given[key] = source
    if key not in known:  # told below, with all others of its kind
        return
    default = known[key]
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


def _check_ranges(cfg: CfgNode) -> None:
    """Refuse numbers with which training cannot work."""
    least = {
        "OPTIM.MAX_EPOCH": 1,
        "OPTIM.LR": 0,
        "TRAIN.PRINT_FREQ": 1,
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.MEMORY_MB": 0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 1,
        "DATALOADER.TEST.BATCH_SIZE": 1,
    }
    settings = flatten(cfg)
    for key, low in least.items():
        if settings[key] < low:
            raise UserError(f"{key} is {settings[key]}, expected at least {low}")
    if not all(cfg.INPUT.PIXEL_STD):
        raise UserError(f"INPUT.PIXEL_STD is {cfg.INPUT.PIXEL_STD}, expected numbers above 0")


def check_name(name: str, registry: Any, what: str, flag: str) -> None:
    """Refuse a name that is not registered, with the closest one and all that are.

    Raises:
        UserError: as said.
    """
    names = sorted(registry.registered_names())
    if name not in names:
        found = f'there is no {what} "{name}"' if name else f"no {what} is given ({flag})"
        near = get_close_matches(name, names, n=1, cutoff=0.3)
        hint = f', do you mean "{near[0]}"?' if near else ""
        raise UserError(f"{found}{hint or '.'} Known: {', '.join(names)}")


def _near(key: str, known: dict[str, Any]) -> str:
    """A suggestion for a key that does not exist."""
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:  # the right leaf in a wrong section
        leaf = key.rpartition(".")[2]
        near = [k for k in known if k.rpartition(".")[2] == leaf][:1]
    return f', do you mean "{near[0]}"?' if near else ""


def _kind(value: Any) -> str:
    names = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}
    return names.get(type(value), f"a {type(value).__name__}")
