"""One job: one trainer, one dataset, one seed.

Train and test on the base classes of an embedded dataset, then test on its new classes:

    python train.py --root data --seed 1 --trainer MoPD --output-dir output/try \
        --dataset-config-file configs/datasets/shapes.yaml \
        --config-file configs/trainers/MoPD/embedded.yaml \
        DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base
    (the same) --eval-only --model-dir output/try --load-epoch 30 \
        DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES new
"""

from collections.abc import Sequence
from typing import Any

from runs import command
from runs.config import build_parser
from runs.run import run


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Do what the command line does.

    Args:
        argv: arguments, as on the command line; None takes the process' own.

    Returns:
        The content of results.json (None with --no-train).

    Raises:
        SystemExit: code 1 after a message on stderr, for mistakes of the user and for what the
            machine refuses; code 2 for unknown flags.
    """
    args = build_parser(__doc__).parse_args(argv)
    command.load_torch()
    return run(args)


if __name__ == "__main__":
    command.run(main, resumes=True)
