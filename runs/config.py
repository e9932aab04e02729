"""From command line and YAML files to one frozen configuration, with errors that help.

Order, later wins: defaults, knobs of the methods, dataset file, trainer file, the settings for
this dataset in the table that the trainer file names (`PER_DATASET: file.yaml`, beside it), those
in a table that is named as a pair (`PER_DATASET file.yaml`), the file under configs/backbones that
MODEL.BACKBONE.NAME names, flags, other trailing KEY VALUE pairs. A model that is tested on another
dataset than it was trained on keeps the settings for the dataset of its training.
"""

import argparse
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

import datasets  # noqa: F401 - registers the datasets
import trainers
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.lazy import load
from dassl.utils import UserError
from datasets.errors import DatasetError
from datasets.files import path_problem
from datasets.own import run_name, split_name
from runs import command
from runs.backbone import COMMAND, NAME, backbone_file, settle_images
from runs.merging import Merging, flatten
from runs.settings import PER_DATASET, ReadFlag, read
from runs.upstream_keys import check_given
from trainers.backbones.paths import REPOSITORY
from trainers.errors import meant, shorten
from trainers.exported import trained_settings
from trainers.features.cache import VARIABLE

CONFIGS = REPOSITORY / "configs"
# flag of the command line -> key of the configuration
FLAGS = {
    "seed": "SEED",
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


def build_parser(description: str | None = None) -> argparse.ArgumentParser:
    """The flags of CoOp's train.py; settings follow as KEY VALUE pairs."""
    parser = command.parser(description)
    add = parser.add_argument
    add("--root", default="", help="folder of the datasets")
    add("--output-dir", default="", help="folder of the run")
    add("--resume", default="", help="folder of a run to continue from (default: --output-dir)")
    add("--seed", default="", help="0 or more; negative: not seeded")
    add("--source-domains", nargs="+", help="for domain adaptation or generalisation")
    add("--target-domains", nargs="+", help="for domain adaptation or generalisation")
    add("--transforms", nargs="+", help="names of the training transforms")
    add("--config-file", action=ReadFlag, default="", help="configuration of the trainer")
    dataset = "configuration of the dataset"
    add("--dataset-config-file", action=ReadFlag, default="", help=dataset)
    add("--trainer", default="", help="name of the trainer, e.g. MoPD")
    backbone = "CLIP: a name such as ViT-B/16, a file, open_clip:..., or one of configs/backbones"
    add("--backbone", default="", help=backbone)
    add("--head", default="", help="name of the head")
    add("--eval-only", action="store_true", help="test a trained model")
    model = "with --eval-only: folder of the trained run"
    add("--model-dir", action=ReadFlag, default="", help=model)
    epoch = "with --eval-only: epoch to load (default: the best one)"
    add("--load-epoch", action=ReadFlag, help=epoch)
    add("--no-train", action="store_true", help="build everything, train nothing")
    add("opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs")
    return parser


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
    cfg.DATASET.SPLIT_FILE = ""  # of training shots that others published
    cfg.TEST.PREDICTIONS = False  # keep what the model says of each image
    cfg.LOG = CfgNode()
    cfg.LOG.WANDB, cfg.LOG.MLFLOW = "", ""  # where a tracker gets the run; empty: nowhere
    cfg.MODEL.COMPILE = False  # the image tower, by torch.compile
    cfg.TRAIN.CUDA_GRAPH = "auto"  # training steps as a CUDA graph: auto, on, off
    return cfg


def setup_cfg(args: argparse.Namespace) -> CfgNode:
    """The frozen configuration of one job.

    Raises:
        UserError: unknown key, trainer or dataset, wrong type, missing or broken file; the
            message names the file or flag, the key, and the closest right one.
    """
    cfg = default_cfg()
    if len(args.opts) % 2:
        words = shorten(" ".join(args.opts), 400)
        raise UserError(f"KEY VALUE pairs must come in twos, but these are: {words}")
    pairs = list(zip(args.opts[::2], args.opts[1::2], strict=True))
    tables = [value for key, value in pairs if key == PER_DATASET]
    pairs = [(key, value) for key, value in pairs if key != PER_DATASET]
    source = _trained_on(args, dict(pairs).get("DATASET.SOURCE", ""))
    called = (source,) if source else _names_of(dict(pairs).get("DATASET.NAME", ""))
    merging = Merging(cfg)
    for path in (args.dataset_config_file, args.config_file):
        if path:
            merging.file(Path(path), *called)
    if table := read(PER_DATASET, tables[-1], "", COMMAND) if tables else "":
        path = Path(os.path.expanduser(table))
        if not merging.table(path, *called):
            print(f"Note: {path} has no settings for {(called or (cfg.DATASET.NAME,))[0]}")
    backbone = dict(pairs).get(NAME) or args.backbone or cfg.MODEL.BACKBONE.NAME
    if file := backbone_file(backbone):
        merging.file(file)
        args = argparse.Namespace(**{**vars(args), "backbone": ""})
        pairs = [(key, value) for key, value in pairs if key != NAME]
    for flag, key in FLAGS.items():
        if getattr(args, flag):
            merging.set(key, getattr(args, flag), f"--{flag.replace('_', '-')}")
    for key, value in pairs:
        if key.startswith("-"):
            raise UserError(
                f"flags come before KEY VALUE pairs, but {shorten(key)} comes after them"
            )
        merging.set(key, value, COMMAND)
    _check_paths(cfg)
    if not cfg.DATASET.ROOT:
        cfg.DATASET.ROOT = str(REPOSITORY / "data")
    own = split_name(cfg.DATASET.NAME)
    if own:
        cfg.DATASET.NAME, cfg.DATASET.PATH = own
    cfg.DATASET.SOURCE = "" if source == dataset_label(cfg) else source
    check_trainer(cfg.TRAINER.NAME, "--trainer")
    names = sorted(DATASET_REGISTRY.registered_names())
    check_name(cfg.DATASET.NAME, names, "dataset", "--dataset-config-file")
    check_given(merging.given, merging.defaults, cfg.TRAINER.NAME)
    _check_domains(cfg)
    _check_together(cfg)
    settle_images(cfg, merging.given)
    cfg.freeze()
    return cfg


def dataset_label(cfg: CfgNode) -> str:
    """The dataset's registry name; for your own data a name that tells its folder."""
    return label_of(cfg.DATASET.NAME, cfg.DATASET.PATH)


def dataset_cfg(name: str, path: str, data: Path, shots: int = -1, seed: int = -1) -> CfgNode:
    """The configuration with which a run would read a dataset, whole unless `shots` are given.

    Args:
        name: registered name.
        path: of your own data, else empty.
        data: folder of the datasets.
        shots, seed: of the draw.
    """
    cfg = _without_methods()
    cfg.DATASET.NAME, cfg.DATASET.PATH, cfg.DATASET.ROOT = name, path, str(data)
    cfg.DATASET.NUM_SHOTS, cfg.SEED = shots, seed
    cfg.VERBOSE = False
    cfg.freeze()
    return cfg


def check_setting(key: str, value: Any, source: str) -> Any:
    """A value of a setting as a configuration holds it; refuse one that no configuration can take.

    Raises:
        UserError: see `Merging.set`.
    """
    if key == PER_DATASET:
        return read(key, value, "", source)
    cfg = default_cfg()
    Merging(cfg).set(key, value, source)
    return flatten(cfg).get(key, value)


def label_of(name: str, path: str) -> str:
    """As `dataset_label`, for DATASET.NAME and DATASET.PATH."""
    return run_name(f"{name.lower()}:{path}") if path else name


def _names_of(given: str) -> tuple[str, ...]:
    """Names of the dataset DATASET.NAME in a table: as given and, of own data, as its label."""
    own = None
    with suppress(DatasetError):  # said when the setting is read
        own = split_name(given)
    return tuple(filter(None, (given, own and label_of(*own))))


def _trained_on(args: argparse.Namespace, given: str) -> str:
    """Label of the dataset on which the model that is tested was trained; "" if not known.

    Raises:
        UserError: the folder of the model says something else than DATASET.SOURCE, or nothing.
    """
    if not args.eval_only:
        if given:
            raise UserError("DATASET.SOURCE is for --eval-only: a run is trained on its DATASET")
        return ""
    told = trained_settings(args.model_dir, UserError) if args.model_dir else None
    if not told:  # a checkpoint that was copied out of its run
        return given
    path, settings = told
    named = settings if isinstance(settings, dict) else {}
    source, name, folder = (named.get(f"DATASET.{key}", "") for key in ("SOURCE", "NAME", "PATH"))
    if not name or not all(isinstance(one, str) for one in (source, name, folder)):
        raise UserError(f"{path} cannot be read: is --model-dir the folder of a trained run?")
    found = source or label_of(name, folder)
    if given not in ("", found):
        raise UserError(
            f"DATASET.SOURCE is {given}, but the model in {args.model_dir} was trained on {found}"
        )
    return found


def _check_together(cfg: CfgNode) -> None:
    """Refuse settings of the engine that do not fit each other."""
    optim = cfg.OPTIM
    if optim.WARMUP_EPOCH > optim.MAX_EPOCH:
        raise UserError(
            f"OPTIM.WARMUP_EPOCH is {optim.WARMUP_EPOCH}, longer than the training: expected "
            f"at most OPTIM.MAX_EPOCH {optim.MAX_EPOCH}"
        )
    if optim.NAME == "sgd" and optim.SGD_NESTEROV and (optim.SGD_DAMPNING or not optim.MOMENTUM):
        raise UserError(
            f"OPTIM.SGD_NESTEROV needs OPTIM.MOMENTUM above 0, which is {optim.MOMENTUM}, and "
            f"OPTIM.SGD_DAMPNING 0, which is {optim.SGD_DAMPNING}"
        )


def _check_domains(cfg: CfgNode) -> None:
    """Refuse domains that neither the dataset nor the method reads."""
    node = cfg.DATASET
    readers = (DATASET_REGISTRY.get(node.NAME), methods().get(cfg.TRAINER.NAME))
    for key, flag in (("SOURCE_DOMAINS", "source"), ("TARGET_DOMAINS", "target")):
        if node[key] and not any(getattr(one, "reads_domains", True) for one in readers):
            raise UserError(
                f"DATASET.{key} (--{flag}-domains) is {', '.join(map(str, node[key]))}, but "
                f"neither {node.NAME} nor {cfg.TRAINER.NAME} reads it: leave it out (a class of "
                "your own that does says reads_domains = True)"
            )


def _check_paths(cfg: CfgNode) -> None:
    """Put `~` in full in the folders of the run; the cache's may be that of the environment."""
    if not cfg.CACHE.DIR and (problem := path_problem(given := os.environ.get(VARIABLE, ""))):
        raise UserError(f"environment: {VARIABLE} is {given!r}: {problem}")
    cfg.OUTPUT_DIR, cfg.RESUME = map(os.path.expanduser, (cfg.OUTPUT_DIR, cfg.RESUME))


def check_trainer(name: str, flag: str = "") -> None:
    """As `check_name`, for the name of a method."""
    check_name(name, sorted(methods().registered_names()), "trainer", flag)


def check_name(name: str, known: Iterable[str], what: str, flag: str = "") -> None:
    """Refuse a name that is not among the known ones, with the closest one and all that are.

    Raises:
        UserError: as said.
    """
    known = list(known)
    if name not in known:
        found = f'there is no {what} "{shorten(name)}"'
        if flag and not name:
            found = f"no {what} is given ({flag})"
        raise UserError(f"{found}{meant(name, known) or '.'} Known: {', '.join(known)}")
