"""Look at prompt pools and check them before a run.

    python -m tools.pools list                                     the shipped pools
    python -m tools.pools show paper --dataset OxfordPets          the templates, one per line
    python -m tools.pools show paper --dataset oxford_pets --classname "pug"
    python -m tools.pools check my_pool.yaml other_pool.yaml       every dataset section of files
    python -m tools.pools check my_pool.yaml --backbone open_clip:ViT-B-16-SigLIP2/webli

The number of a template is its row in the pool and its column in the gate.
Exit code 1 for a mistake, with a message that says where it is.
"""

import argparse
import sys
from collections.abc import Callable

from runs import command
from trainers.backbones.tokens import CLIP, fill
from trainers.prompts.pool import POOLS, load_pool, pool_description, pool_sections


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.pools")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the shipped pools")
    show = commands.add_parser("show", help="print the templates of a pool for one dataset")
    show.add_argument("pool", help="a name under configs/pools, or a path to a YAML file")
    show.add_argument("--dataset", required=True, help="e.g. OxfordPets or oxford_pets")
    show.add_argument("--classname", help="print the prompts of this class")
    check = commands.add_parser("check", help="check every section of pools")
    check.add_argument("pools", nargs="+", metavar="pool", help="names or paths, as in show")
    which = "whose tokenizer decides which prompts are the same (default: OpenAI's)"
    check.add_argument("--backbone", default="", metavar="NAME", help=which)
    return parser


def list_pools() -> None:
    """Print name and description of every pool under configs/pools."""
    files = sorted(POOLS.glob("*.yaml"))
    width = max((len(file.stem) for file in files), default=0)
    for file in files:
        print(f"{file.stem:<{width}}  {pool_description(str(file))}".rstrip())


def show_pool(name: str, dataset: str, classname: str | None = None) -> None:
    """Print the numbered templates of a pool, or the prompts of one class."""
    for number, template in enumerate(load_pool(name, dataset)):
        print(f"{number:3d}  {fill(template, classname) if classname else template}")


def check_pool(name: str, backbone: str = "") -> None:
    """Expand a pool for each of its sections and print how many templates each has."""
    clean = CLIP.clean
    if backbone:
        from trainers.backbones.families import family_of  # needs torch

        clean = family_of(backbone).clean(backbone)
    sizes = [f"{part} {len(load_pool(name, part, clean))}" for part in pool_sections(name)]
    print(f"{name}: ok ({', '.join(sizes)})")


@command.mistakes_told()
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = build_parser().parse_args(argv)
    if args.command == "list":
        return _told(list_pools)
    if args.command == "show":
        return _told(show_pool, args.pool, args.dataset, args.classname)
    # the next ones are checked even if one is wrong
    return max([_told(check_pool, name, args.backbone) for name in args.pools])


def _told(call: Callable[..., None], *words: str | None) -> int:
    """Exit code of a call, whose mistake is told."""
    try:
        with command.mistakes_told():
            call(*words)
    except SystemExit:
        return 1
    return 0


if __name__ == "__main__":
    command.run(lambda: sys.exit(main()))
