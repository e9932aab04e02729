"""Look at prompt pools and check them before a run.

    python -m tools.pools list                                     the shipped pools
    python -m tools.pools show paper --dataset OxfordPets          the templates, one per line
    python -m tools.pools show paper --dataset oxford_pets --classname "pug"
    python -m tools.pools check my_pool.yaml other_pool.yaml       every dataset section of files
    python -m tools.pools check my_pool.yaml --backbone open_clip:ViT-B-16-SigLIP2/webli
    python -m tools.pools stats mixed --dataset shapes             what its teachers know
    python -m tools.pools choose mixed --dataset shapes --count 6 --out six.yaml

The number of a template is its row in the pool and its column in the gate.
Exit code 1 for a mistake, with a message that says where it is.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dassl.utils import UserError
from runs import command
from runs.config import REPOSITORY
from runs.jobs import Job
from runs.results import write_atomically
from tools.results.style import drawing, save
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
    stats = commands.add_parser("stats", help="what teachers know, and how alike they are")
    choose = commands.add_parser("choose", help="write the best part of a pool as a pool")
    for action in (stats, choose):
        _add_images(action.add_argument)
    stats.add_argument("--out", type=command.path, help="folder for stats.json and the picture")
    choose.add_argument("--count", type=command.count, required=True, help="teachers to choose")
    rules = ("coverage", "accuracy", "random")
    choose.add_argument("--by", choices=rules, default=rules[0], help="default: coverage")
    choose.add_argument("--out", type=command.path, required=True, help="the new pool, a .yaml")
    return parser


def _add_images(add: Callable[..., Any]) -> None:
    """Flags that say on which images teachers are looked at."""
    add("pool", help="a name under configs/pools, or a path to a YAML file")
    add("--dataset", required=True, help="stem of a file under configs/datasets, or folder:PATH")
    add("--classes", choices=("all", "base", "new"), default="base", help="default: base")
    add("--shots", type=command.count, default=16, help="training images of each class")
    add("--seed", type=int, default=1, help="of the shots, and of --by random")
    add("--data", type=command.path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--config", default="", help="stem under configs/trainers/ZeroshotCLIP2")


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


def _look(args: argparse.Namespace) -> Any:
    """The teachers of a pool on the images that the flags say."""
    command.load_torch()
    from tools.learned.pool_look import look_at_pool  # needs torch

    job = Job(
        protocol="fewshot" if args.classes == "all" else "base2new",
        trainer="ZeroshotCLIP2", dataset=args.dataset, seed=args.seed, shots=args.shots,
        data=args.data.absolute(), output=Path("unused"), config=args.config,
        opts=("TRAINER.ZEROSHOTCLIP2.POOL", args.pool),
    )  # fmt: skip
    job.check()
    return look_at_pool(job, args.classes)


def _title(args: argparse.Namespace) -> str:
    classes = "" if args.classes == "all" else f", {args.classes} classes"
    return f"{args.pool} on {args.dataset}{classes}, {args.shots} shots, seed {args.seed}"


def show_stats(args: argparse.Namespace) -> None:
    """Print what teachers know; write numbers and picture where asked."""
    found = _look(args)
    from tools.learned.pool_look import pool_numbers
    from tools.learned.pool_report import pool_figure, pool_table

    numbers, title = pool_numbers(found), _title(args)
    print(pool_table(title, numbers))
    if args.out:
        text = json.dumps({"pool": title, **numbers}, indent=1) + "\n"
        write_atomically(args.out / "stats.json", text, other="another --out")
        with drawing():
            paths = save(pool_figure(title, numbers), args.out, "teachers")
        print("", args.out / "stats.json", *paths, sep="\n")


def choose(args: argparse.Namespace) -> None:
    """Write a part of a pool as a pool."""
    if args.out.exists():
        raise UserError(f"{args.out} exists already: give another --out")
    found = _look(args)
    from tools.learned.pool_look import RULES
    from tools.learned.pool_report import chosen_pool

    H, title = len(found.pool), _title(args)
    if args.count > H:
        raise UserError(f"--count is {args.count}, but {args.pool} has {H} teachers")
    numbers = RULES[args.by](found, args.count, args.seed)
    said = f"{args.count} of the {H} teachers of {title}, by {args.by}."
    text = chosen_pool(args.pool, found.dataset, numbers, said, args.out)
    write_atomically(args.out, text, other="another --out")
    for number in numbers:
        print(f"{number:3d}  {found.pool[number]}")
    whole, part = (found.accuracy(found.ensemble(one)) for one in (None, numbers))
    print(f"\n{args.out}\nRight on the shots: the part {part:.1f}%, the whole pool {whole:.1f}%")


@command.mistakes_told()
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = build_parser().parse_args(argv)
    if args.command == "list":
        return _told(list_pools)
    if args.command == "show":
        return _told(show_pool, args.pool, args.dataset, args.classname)
    if args.command in ("stats", "choose"):
        return _told(show_stats if args.command == "stats" else choose, args)
    # the next ones are checked even if one is wrong
    return max([_told(check_pool, name, args.backbone) for name in args.pools])


def _told(call: Callable[..., None], *words: Any) -> int:
    """Exit code of a call, whose mistake is told."""
    try:
        with command.mistakes_told():
            call(*words)
    except SystemExit:
        return 1
    return 0


if __name__ == "__main__":
    command.run(lambda: sys.exit(main()))
