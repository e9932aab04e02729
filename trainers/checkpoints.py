"""Checkpoints of methods: what is read fits the run that reads it, or is refused."""

from pathlib import Path
from typing import Any

from dassl.utils import load_checkpoint
from trainers.backbones.families import weights_digest
from trainers.errors import MethodError
from trainers.exported import TENSORS, exported_checkpoint, is_export, trained_settings


def read_checkpoint(trainer: Any, directory: str, epoch: int | None) -> dict[str, Any]:
    """A checkpoint of a run that fits a trainer; its "state_dict" is without dead keys.

    Args:
        trainer: a `PromptTrainer` whose model is built.
        directory: the run's folder, or that of an exported prompt.
        epoch: None takes the best one; of an exported prompt the one that there is.

    Raises:
        MethodError: no directory, no such checkpoint or epoch, or a checkpoint of another
            method, context length, pool size or number of classes.
    """
    path = find_checkpoint(directory, epoch)
    found, hint = trained_settings(directory, MethodError), ""
    if found:  # there is none where a checkpoint was copied out of its run
        _check_training(trainer, *found)
        hint = f", they are in {found[0]}"
    exported = path.name == TENSORS
    checkpoint = exported_checkpoint(directory, epoch) if exported else load_checkpoint(str(path))
    _check_fits(trainer, checkpoint, path, hint)
    print(f'Loading weights to prompt_learner from "{path}" (epoch = {checkpoint["epoch"]})')
    return checkpoint


def find_checkpoint(directory: str, epoch: int | None) -> Path:
    """The file of a checkpoint below the folder of a run, of no epoch the best; or of an export.

    Raises:
        MethodError: no directory, or no such file; the message names the epochs that there are.
    """
    if not directory:
        raise MethodError(
            "no --model-dir is given: evaluation needs the folder of a trained run, "
            "otherwise it would test an untrained prompt"
        )
    folder = Path(directory) / "prompt_learner"
    path = folder / ("model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}")
    if is_export(directory):
        return Path(directory) / TENSORS
    if not path.is_file():
        raise MethodError(f'Model not found at "{path}"; {_saved_epochs(folder)}')
    return path


def _saved_epochs(folder: Path) -> str:
    """What checkpoints a folder holds, for a message."""
    if not folder.is_dir():
        return f"there is no folder {folder}: is --model-dir the folder of a trained run?"
    epochs = sorted(int(p.name.rpartition("-")[2]) for p in folder.glob("model.pth.tar-*[0-9]"))
    return f"epochs that were saved (--load-epoch): {', '.join(map(str, epochs)) or 'none'}"


def _check_training(trainer: Any, config: Path, trained: Any) -> None:
    """Refuse what a checkpoint's shapes do not tell: another backbone, position or classes."""
    if not isinstance(trained, dict):
        raise MethodError(f"{config} holds no settings: move it away, or get it again")
    cfg, knobs = trainer.cfg, trainer.knobs
    now = {"BACKBONE_DIGEST": weights_digest(cfg.MODEL.BACKBONE.NAME)}
    if "CLASS_TOKEN_POSITION" in knobs:
        now[f"TRAINER.{trainer.node()}.CLASS_TOKEN_POSITION"] = knobs.CLASS_TOKEN_POSITION
    if knobs.get("CSC"):  # each context belongs to one class
        now |= {f"DATASET.{key}": cfg.DATASET[key] for key in ("NAME", "SUBSAMPLE_CLASSES")}
    differ = [
        f"{key} {trained[key]!r}, but this run has {value!r}"
        for key, value in now.items()
        if key in trained and trained[key] != value
    ]
    if differ:
        raise MethodError(f"the model in {config.parent} was trained with {'; '.join(differ)}")


def _check_fits(trainer: Any, checkpoint: dict[str, Any], path: Path, hint: str) -> None:
    """Drop dead keys; refuse a checkpoint of another method or with other shapes."""
    missing = {"state_dict", "epoch"} - set(checkpoint)
    if missing:
        raise MethodError(
            f"{path} is no checkpoint of a run: it has no {' and no '.join(sorted(missing))}"
        )
    mine = trainer.cfg.TRAINER.NAME
    writer = checkpoint.get("trainer") or mine  # published code does not tell
    if writer != mine:
        raise MethodError(
            f"{path} was written by {writer}, but this run is {mine}: "
            f"use --trainer {writer} or another --model-dir"
        )
    state, dead = checkpoint["state_dict"], trainer.dead_keys
    checkpoint["state_dict"] = state = {k: v for k, v in state.items() if not k.startswith(dead)}
    found = {k: tuple(v.shape) for k, v in state.items()}
    wanted = {k: tuple(v.shape) for k, v in trainer.prompt_learner.state_dict().items()}
    wrong = [
        f"{key} is {found.get(key, 'not there')}, expected {wanted.get(key, 'no such key')}"
        for key in sorted(wanted.keys() | found.keys())
        if found.get(key) != wanted.get(key)
    ]
    if wrong:
        raise MethodError(
            f"{path} does not fit this run: {'; '.join(wrong)}. A context (ctx) depends on "
            "N_CTX, CTX_INIT, CSC and the backbone, a gate on POOL and GATE: use the settings "
            f"of the training{hint}"
        )
