"""CoCoOp's training step: `python -m benchmarks.training_step --methods CoCoOp`, with its flags.

python -m benchmarks.cocoop_step                      # 50 classes, ViT-B/16's text tower
python -m benchmarks.cocoop_step --classes 500 --ours # ImageNet's base classes, memory as well
"""

import sys
from collections.abc import Sequence

from benchmarks import training_step


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    training_step.main(["--methods", "CoCoOp", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    main()
