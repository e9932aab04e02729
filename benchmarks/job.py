"""One job in this process, the plain way or ours, with its time by stages as JSON at the end.

    python -m benchmarks.job train --root data --trainer CoOp ...            # words of train.py
    python -m benchmarks.job --plain protocol base2new --trainer CoOp ...    # of tools.protocol

The plain way is the published one: prompts of 77 tokens, class features for every test batch,
images decoded in every epoch, loader workers started in every epoch, nothing kept between jobs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

import train
from benchmarks import measure
from benchmarks.stages import IMPORT, Stages
from runs import command
from runs.job_words import read_jobs
from runs.run_job import run_job

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.base import PromptTrainer

# settings of the plain way: no cache, and images are decoded when they are needed
PLAIN = (
    *("CACHE.FEATURES", "False", "CACHE.VIEWS", "False", "DATALOADER.MEMORY_MB", "0"),
)  # fmt: skip


MEASURED = ("seconds", "memory")  # in results.json: what a run took
# points of accuracy that rounding in the text tower may move: a few images near a tie
CLOSE = 0.5


@contextmanager
def plain_path() -> Iterator[None]:
    """Run all that is inside the plain way, apart from the settings `PLAIN`."""
    # not loaded where a job of ours is timed
    from torch.utils.data import DataLoader

    from benchmarks.reference import PlainCLIP
    from trainers.backbones import clip_model
    from trainers.base import PromptTrainer

    start = DataLoader.__init__

    def restarting(loader: Any, *args: Any, **kwargs: Any) -> None:
        start(loader, *args, **{**kwargs, "persistent_workers": False})

    def predict(trainer: PromptTrainer, features: Tensor) -> Tensor:
        return trainer.logits(features, trainer.class_features())

    with ExitStack() as stack:
        stack.enter_context(patch.object(clip_model, "FrozenCLIP", PlainCLIP))
        stack.enter_context(patch.object(DataLoader, "__init__", restarting))
        stack.enter_context(patch.object(PromptTrainer, "predict", predict))
        yield


def run(kind: str, words: Sequence[str], plain: bool = False) -> tuple[float, dict[str, Any]]:
    """Run a job in a fresh process.

    Args:
        kind: "train" or "protocol".
        words: arguments of train.py or tools.protocol.
        plain: the plain way.

    Returns:
        Wall seconds of the process, and its report, see `main`.
    """
    flags = ["--plain"] if plain else []
    seconds, report = measure.fresh_process("benchmarks.job", [*flags, kind, *words])
    report["own"][IMPORT] = seconds - sum(report["own"].values()) + report["own"].get(IMPORT, 0.0)
    return seconds, report


def differing(results: dict[str, Any], others: dict[str, Any]) -> list[str]:
    """Keys of results.json in which two runs differ, apart from what they took."""
    return sorted(
        key
        for key in results.keys() | others.keys()
        if key not in MEASURED and results.get(key) != others.get(key)
    )


def check_close(plain: dict[str, Any], ours: dict[str, Any]) -> None:
    """The same images are tested, and accuracies agree up to `CLOSE` points.

    Raises:
        SystemExit: they do not.
    """
    where = f"{ours['trainer']}, {ours['classes']} classes"
    for key in ("data", "total", "num_classes", "epoch"):
        if plain[key] != ours[key]:
            raise SystemExit(f"not the same results: {where}: {key} {plain[key]} and {ours[key]}")
    measure.check_same(f"accuracies of {where}", abs(plain["accuracy"] - ours["accuracy"]), CLOSE)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the job; the last line is a JSON object.

    Its keys: results (a list of what results.json holds), own and whole (seconds by stage, without
    and with what ran inside it), images and texts (work of the towers, see `Stages`).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = command.parser(__doc__, "benchmarks.job")
    parser.add_argument("--plain", action="store_true", help="the plain way")
    parser.add_argument("kind", choices=("train", "protocol"))
    at = words.index("--plain") + 2 if "--plain" in words[:1] else 1
    args = parser.parse_args(words[:at])
    words = words[at:]
    stages = Stages(device="cuda" if torch.cuda.is_available() else "cpu")
    with ExitStack() as stack:
        if args.plain:
            words += PLAIN
            stack.enter_context(plain_path())
        stack.enter_context(stages.installed())
        if args.kind == "train":
            results = [train.main(words)]
        else:
            with command.mistakes_told():
                results = [found for job in read_jobs(words) for found in run_job(job)]
    report = {
        "results": results,
        **{"own": stages.own, "whole": stages.whole, "images": stages.images},
        "texts": [[*key, count] for key, count in stages.texts.items()],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
