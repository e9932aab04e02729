"""Are the images of results still the same? Reading all of them, and asking again.

    python -m benchmarks.content                    # as many files as ImageNet has test images
    python -m benchmarks.content --files 5000 --kib 100

Files of random bytes are written, about as large as --kib says. "read" fills an empty index of
digests, "again" finds it filled, which is what a run does whose results exist.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks import measure
from runs import command
from trainers.features import files
from trainers.features.cache import FeatureCache
from trainers.features.files import FileDigests


def write_files(folder: Path, count: int, kib: int) -> list[str]:
    """Files of random bytes in 1,000 folders; their paths."""
    bytes_of = random.Random(1).randbytes
    paths = []
    for i in range(count):
        path = folder / f"{i % 1000}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes_of(kib * 1024))
        paths.append(str(path))
    return paths


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser(__doc__, "benchmarks.content")
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--kib", type=int, default=16, help="size of a file")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(Path(folder), args.files, args.kib)
        time.sleep(files.SETTLED_NS / 1e9)
        cache = FeatureCache(Path(folder) / "cache", 2**40)
        read = FileDigests(paths, cache)
        read.keep()
        timed = measure.in_turn(
            [lambda: FileDigests(paths, None), lambda: FileDigests(paths, cache)], args.runs
        )
        if any((found.digests != read.digests).any() for found in timed.results):
            raise SystemExit("not the same digests")
    print(f"{args.files:,} files of {args.kib} KiB; {measure.hardware()}")
    rows = [
        ["read", f"{timed.seconds(0):.2f}", "1.0x"],
        ["again", f"{timed.seconds(1):.2f}", f"{timed.ratio():.1f}x"],
    ]
    print(tabulate(rows, ["way", "seconds", "faster"], disable_numparse=True))


if __name__ == "__main__":
    main()
