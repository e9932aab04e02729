"""Pre-train the small CLIP of the embedded world from scratch.

    python -m tools.pretrain_embedded            # writes assets/shapes_clip.pt

The architecture is OpenAI's (`clip.model.CLIP`), the tokenizer too; images and captions are
drawn from the same world as the dataset `shapes`, with other seeds.
"""

from collections.abc import Sequence

from runs import command
from runs.config import REPOSITORY

WEIGHTS = REPOSITORY / "assets" / "shapes_clip.pt"


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Draw the pairs, train, write the weights."""
    parser = command.parser(__doc__, "tools.pretrain_embedded")
    add = parser.add_argument
    add("--steps", type=int, default=5000)
    add("--batch", type=int, default=192)
    add("--images", type=int, default=120_000)
    add("--seed", type=int, default=0)
    add("--out", type=command.path, default=WEIGHTS)
    args = parser.parse_args(argv)
    from tools.world.pretraining import make_weights  # needs torch, which is slow to import

    make_weights(**vars(args))


if __name__ == "__main__":
    command.run(main)
