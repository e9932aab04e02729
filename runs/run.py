"""One run: train a method and test it, or test a trained one; what `train.py` does."""

import argparse
import time
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY, build_trainer
from dassl.lazy import load
from dassl.utils import UserError, set_random_seed, setup_logger
from runs import openworld, trackers
from runs.command import expected_errors
from runs.config import dataset_label, setup_cfg
from runs.folder import RunFolder, checkpoint_digest
from runs.inputs import look
from runs.machine import MemoryShortage, device_name, memory_shortage, peak_memory
from runs.metrics import metrics
from runs.predictions import FILE as PREDICTIONS
from runs.predictions import MAKE, check_can_keep, gather, write_predictions


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """One run, for parsed arguments of train.py.

    Returns:
        The content of results.json (None with --no-train).

    Raises:
        one of `expected_errors`; a MemoryShortage where the memory of the GPU or the machine, or
            that of the workers that load images, is too small.
    """
    try:
        return _run(args)
    except (RuntimeError, MemoryError) as error:
        if shortage := memory_shortage(error):
            raise MemoryShortage(shortage) from error
        raise


def _run(args: argparse.Namespace) -> dict[str, Any] | None:
    """As `run`, with torch's own error where a memory is too small."""
    if not args.eval_only and (args.model_dir or args.load_epoch is not None):
        raise UserError("--model-dir and --load-epoch are for --eval-only, which is not given")
    cfg = setup_cfg(args)
    refuse_test_only(cfg, trains=not args.eval_only)
    folder = RunFolder(cfg, args.eval_only)
    folder.check()
    checkpoint = checkpoint_digest(args.model_dir, args.load_epoch)
    done = folder.find_results(checkpoint)
    if done is not None:
        folder.check_inputs(done, look(cfg, not args.eval_only))
        print(f"Results exist already: {folder.results_path} ({_summary(done)})")
        for note in left_out(folder):
            print(f"Note: {note}")
        return done
    log = folder.results_path.parent if args.eval_only else folder.path
    with (
        folder.lock(),
        setup_logger(log),
        trackers.following(folder, args.model_dir) as followed,
    ):
        print(f"Setting fixed seed: {cfg.SEED}")
        set_random_seed(cfg.SEED)
        print(f"Configuration: {folder.path / 'config.yaml'} (hash {folder.hash})")
        load("dassl.data.data_manager")  # before the clock starts
        followed.load()
        started = time.perf_counter() - folder.trained_seconds()
        trainer = build_trainer(cfg)
        if args.no_train:
            return None
        if cfg.TEST.PREDICTIONS and not cfg.TEST.NO_TEST:
            check_can_keep(trainer)
        subset = cfg.DATASET.SUBSAMPLE_CLASSES
        if subset != "all" and trainer.num_classes < 2:
            raise UserError(
                f"{dataset_label(cfg)} has one {subset} class only, of which every answer is "
                "right: base and new need two classes each, so a dataset needs four"
            )
        if args.eval_only:
            trainer.load_model(args.model_dir, epoch=args.load_epoch)
        # not before: a mistake must not tie the folder to its settings
        inputs = folder.claim(trainer.dm.dataset)
        trainer.metrics_listener = followed.record
        if args.eval_only:
            trainer.test()
        else:
            trainer.train()
        if not trainer.evaluator.results:
            print("Not tested (TEST.NO_TEST): no results are written")
            return None
        total = time.perf_counter() - started
        if folder.claim(trainer.dm.dataset) != inputs:
            raise UserError(
                f"images of {dataset_label(cfg)} have changed while they were tested: no results "
                "are written, the same command tests the model again"
            )
        measured = _measure(trainer, args, folder, total)
        results = folder.results({**measured, **inputs})
        _write_beside(trainer, folder, results)
        folder.write_results(results)
        followed.results(results)
        print(f"Results: {folder.results_path} ({_summary(results)})")
        return results


def _write_beside(trainer: Any, folder: RunFolder, results: dict[str, Any]) -> None:
    """Write what stands beside results, which are written last."""
    if folder.cfg.TEST.PREDICTIONS:
        write_predictions(folder.results_path.parent, gather(trainer, results))
    if not openworld.applies(folder.path, results):
        return
    try:
        openworld.write_openworld(trainer, folder.path, results, cheaply=True)
        return
    except expected_errors() as error:  # never at the price of the results
        why = str(error)
    except RuntimeError as error:
        why = memory_shortage(error)
        if not why:
            raise
    print(f"Note: no open-world figures ({why}); {MAKE} {folder.path} makes them")


def left_out(folder: RunFolder) -> list[str]:
    """What a run whose results exist asks for, and does not get."""
    cfg = folder.cfg
    notes = [
        f"TEST.{key} is not done for results that exist: test the model again, with --eval-only "
        "--model-dir and another --output-dir"
        for key in ("PER_CLASS_RESULT", "COMPUTE_CMAT")
        if cfg.TEST[key]
    ]
    notes += [f"{key} gets nothing of results that exist" for key in trackers.untold(folder)]
    if cfg.TEST.PREDICTIONS and not (folder.results_path.parent / PREDICTIONS).is_file():
        notes.append(
            "TEST.PREDICTIONS is not done for results that exist: "
            f"{MAKE} {folder.results_path.parent} makes them from the checkpoint"
        )
    every, last = cfg.TRAIN.CHECKPOINT_FREQ, cfg.OPTIM.MAX_EPOCH
    names = {path.name for path in folder.path.glob("*/model.pth.tar-*")}
    wanted = 0 < every < last and f"model.pth.tar-{every}" not in names
    if wanted and f"model.pth.tar-{last}" in names:
        notes.append(
            "TRAIN.CHECKPOINT_FREQ makes no checkpoints of a training that is done: train again "
            "with another --output-dir"
        )
    return notes


def refuse_test_only(cfg: CfgNode, trains: bool = True) -> None:
    """Refuse to train on a dataset that is only there to be tested on, or to take a part of it.

    Raises:
        UserError: saying what to do instead.
    """
    if not getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "test_only", False):
        return
    if trains and getattr(TRAINER_REGISTRY.get(cfg.TRAINER.NAME), "learns", True):
        raise UserError(
            f"{cfg.DATASET.NAME} is only for testing, nothing is trained on it: train on another "
            "dataset and test here with --eval-only --model-dir RUN, as the protocols xd and dg do"
        )
    subset = cfg.DATASET.SUBSAMPLE_CLASSES
    if subset != "all":
        raise UserError(
            f"{cfg.DATASET.NAME} is always tested with all of its classes, so the results would "
            f"be labelled wrongly: set DATASET.SUBSAMPLE_CLASSES to all, not {subset}"
        )


def _measure(
    trainer: Any, args: argparse.Namespace, folder: RunFolder, total: float
) -> dict[str, Any]:
    """What a job measured, for results.json; `total` is its seconds, earlier sittings included."""
    evaluator = trainer.evaluator
    learned = bool(trainer.get_model_names())
    # a trainer that is not ours may not say which epoch it has loaded
    loaded = getattr(trainer, "loaded_epoch", None) or args.load_epoch
    best = not args.eval_only and folder.cfg.TEST.FINAL_MODEL == "best_val"
    epoch = (loaded if args.eval_only or best else trainer.max_epoch) if learned else 0
    model_dir = args.model_dir if args.eval_only else str(folder.path)
    tested = args.load_epoch if args.eval_only else None if best else trainer.max_epoch
    source = folder.cfg.DATASET.SOURCE or dataset_label(folder.cfg)
    outputs = getattr(evaluator, "outputs", {})  # another evaluator may keep none
    return {
        "source": source if learned else None,
        "num_classes": trainer.num_classes,
        "classnames": list(trainer.dm.dataset.classnames),
        "epoch": epoch,
        "checkpoint": checkpoint_digest(model_dir, tested) if learned else None,
        "accuracy": evaluator.results["accuracy"],
        "macro_f1": evaluator.results["macro_f1"],
        **(metrics(outputs) if outputs else {}),
        "total": evaluator.total,
        "correct": evaluator.correct,
        "seconds": {"train": round(folder.trained_seconds(), 3), "total": round(total, 3)},
        "memory": peak_memory(trainer.device),
        "device": device_name(trainer.device),
    }


def _summary(results: dict[str, Any]) -> str:
    return (
        f"{results['trainer']} on {results['dataset']}, {results['classes']} classes, "
        f"seed {results['seed']}: {results['accuracy']:.2f}%"
    )
