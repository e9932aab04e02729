"""A training step of MoPD on `shapes`, with pools of 12 and of 200 texts of each class.

    python -m benchmarks.pool_step
    python -m benchmarks.pool_step --pools embedded configs/studies/pools/scale_mixed_h200.yaml

Whole steps, optimiser included, of the embedded configuration: from features that the cache has,
and from decoded images. Steps of the pools take turns in one process; times are those of the CPU,
which others that use it do not lengthen. The small CLIP's step takes milliseconds, so that a pool
shows more than with any real one (`benchmarks.growth`).
"""

import io
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from dassl.engine import build_trainer
from runs import command
from runs.config import REPOSITORY
from runs.jobs import Job
from runs.run_job import settings

POOLS = [f"configs/studies/pools/scale_description{size}.yaml" for size in ("_h12", "_h200")]


def trainer_of(pool: str, data: Path) -> Any:
    """MoPD with a pool, in the midst of an epoch, its teachers encoded."""
    opts = ("TRAINER.MOPD.POOL", pool)
    job = Job("base2new", "MoPD", "shapes", 1, 16, data, Path("unused"), opts=opts)
    with redirect_stdout(io.StringIO()):
        trainer = build_trainer(settings(job, job.evaluations()[0]))
    trainer.set_model_mode("train")
    trainer.epoch, trainer.batch_idx, trainer.num_batches = 1, 0, 10
    assert len(trainer.teachers) == len(trainer.pool)
    return trainer


def seconds(steps: Sequence[Any], batches: Sequence[Any], rounds: int) -> list[float]:
    """Median CPU time of a step of each, which take turns."""
    taken: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds + 3):
        for own, trainer, batch in zip(taken, steps, batches, strict=True):
            start = time.process_time()
            trainer.forward_backward(batch)
            own.append(time.process_time() - start)
    return [median(own[3:]) for own in taken]  # the first ones warm up


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser(__doc__, "benchmarks.pool_step")
    parser.add_argument("--pools", nargs="+", default=POOLS, help="the first one is the baseline")
    parser.add_argument("--rounds", type=command.count, default=60)
    parser.add_argument("--data", type=command.path, default=REPOSITORY / "data")
    args = parser.parse_args(argv)
    trainers = [trainer_of(pool, args.data.absolute()) for pool in args.pools]
    images = [next(iter(trainer.train_loader_x)) for trainer in trainers]
    features = [
        {"feature": trainer.image_features(batch["img"]), "label": batch["label"]}
        for trainer, batch in zip(trainers, images, strict=True)
    ]
    kept, whole = (seconds(trainers, batches, args.rounds) for batches in (features, images))
    rows = [
        [Path(pool).stem, len(t.pool), *(f"{1000 * s:.2f}" for s in (k, w)),
         f"{k / kept[0]:.2f}", f"{w / whole[0]:.2f}"]
        for pool, t, k, w in zip(args.pools, trainers, kept, whole, strict=True)
    ]  # fmt: skip
    headers = ["pool", "H", "from features (ms)", "from images (ms)", "ratio", "ratio"]
    print(tabulate(rows, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
