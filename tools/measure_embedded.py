"""Measure the embedded world: zero-shot CLIP, linear probes, and which prompt fits which style.

python -m tools.measure_embedded
"""

from collections.abc import Sequence

from runs import command
from runs.config import REPOSITORY


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = command.parser(__doc__, "tools.measure_embedded")
    parser.add_argument("--data", type=command.path, default=REPOSITORY / "data")
    parser.add_argument("--weights", default="assets/shapes_clip.pt")
    args = parser.parse_args(argv)
    from tools.world.measuring import measure, report  # needs torch, which is slow to import

    print(report(measure(args.data, args.weights)))


if __name__ == "__main__":
    command.run(main)
