"""Look at the cache of image and prompt features, and make room.

    python -m tools.cache list
    python -m tools.cache clear
    python -m tools.cache clear --kind views --unused-for 7

Nothing is lost by clearing it: what is needed again is computed again. Settings: CACHE.FEATURES,
CACHE.VIEWS, CACHE.DIR (or the variable MOPD_CACHE), CACHE.LIMIT_GB; see docs/performance.md.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence

from tabulate import tabulate

from runs import command
from trainers.errors import MethodError
from trainers.features.cache import KINDS, Entry, FeatureCache, cache_folder

DAY = 24 * 3600.0


def build_parser() -> argparse.ArgumentParser:
    """The command line of this tool."""
    parser = command.parser(__doc__, "tools.cache")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {"list": "what is kept", "clear": "remove it"}.items():
        action = commands.add_parser(name, help=text)
        action.add_argument(
            "--dir", type=command.path_text, default="", help="the folder, as CACHE.DIR"
        )
        action.add_argument("--kind", choices=sorted(KINDS), help="only these")
        if name == "clear":
            days = "only what was not used for so many days"
            action.add_argument("--unused-for", type=float, default=0.0, metavar="DAYS", help=days)
    return parser


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Do what the command line says.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    args = build_parser().parse_args(argv)
    cache = FeatureCache(cache_folder(args.dir), float("inf"))
    entries = [entry for entry in cache.entries() if args.kind in (None, entry.kind)]
    if args.command == "list":
        print(overview(entries))
        print(f"{len(entries)} entries, {size(entries)} in {cache.folder}")
        return
    latest = time.time() - args.unused_for * DAY
    old = [entry for entry in entries if not args.unused_for or entry.used < latest]
    try:
        cache.remove(old)
    except OSError as error:
        raise MethodError(f"{error.filename} cannot be removed: {error.strerror}") from error
    print(f"removed {len(old)} entries, {size(old)}, from {cache.folder}")


def overview(entries: Sequence[Entry]) -> str:
    """A table: entries of the same kind that are about the same in one row."""
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.kind, entry.about()].append(entry)
    rows = [
        [kind, about, len(group), size(group), _ago(max(entry.used for entry in group))]
        for (kind, about), group in sorted(groups.items())
    ]
    headers = ["kind", "of", "entries", "size", "last used"]
    return tabulate(rows, headers, disable_numparse=True)


def size(entries: Sequence[Entry]) -> str:
    """What entries take on disk, in words."""
    return f"{sum(entry.size for entry in entries) / 2**20:.1f} MiB"


def _ago(moment: float) -> str:
    days = (time.time() - moment) / DAY
    return "today" if days < 1 else f"{days:.0f} days ago"


if __name__ == "__main__":
    command.run(main)
