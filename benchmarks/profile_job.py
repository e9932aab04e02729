"""Where the time of a job goes, and how far it is from the arithmetic that it needs.

    python -m benchmarks.profile_job base2new --trainer MoPD --dataset shapes --seed 1
    python -m benchmarks.profile_job base2new --plain --trainer CoOp --dataset oxford_pets --seed 1

Arguments are those of tools.protocol, and --plain for the plain way. The job runs in a process of
its own, and its runs go to a folder that is deleted afterwards, so that it is never skipped. It
uses your cache unless told otherwise (`-- CACHE.FEATURES False`, or another `CACHE.DIR`).

The floor is the arithmetic of the images and prompts that the job sent through the towers, counted
by formula, at the rate of a big matrix product of the same precision, measured in the same run.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from benchmarks import flops, job, measure
from benchmarks.stages import STAGES
from runs import command
from trainers.backbones.clip_model import load_clip
from trainers.backbones.precision import resolve_precision

IMAGES, TEXTS = ("image tower",), ("hard prompts", "text tower, forward", "backward")


def stage_table(own: dict[str, float], style: str = "simple") -> str:
    """Seconds and percent of each stage, in the order of a job."""
    total = sum(own.values())
    order = [name for name in STAGES if name in own]
    rows = [[name, f"{own[name]:.2f}", f"{100 * own[name] / total:.1f}"] for name in order]
    rows.append(["whole process", f"{total:.2f}", "100.0"])
    return tabulate(rows, ["stage", "seconds", "percent"], style, disable_numparse=True)


def floor_table(report: dict[str, Any], device: str, style: str = "simple") -> str:
    """Arithmetic of both towers against the time that they took."""
    (results, *_), own = report["results"], report["own"]
    precision = resolve_precision(results["precision"], device)
    clip = load_clip(results["backbone"], precision)
    rate = flops.matmul_rate(precision.dtype, device)
    images = report["images"] * flops.image_flops(clip.visual)
    texts = sum(count * flops.text_flops(clip.text, *key) for *key, count in report["texts"])
    total = sum(own.values())
    rows = []
    for what, needed, taken in (
        ("images", images, sum(own.get(name, 0.0) for name in IMAGES)),
        ("prompts", texts, sum(own.get(name, 0.0) for name in TEXTS)),
        ("whole job", images + texts, total),
    ):
        least = needed / rate
        far = f"{taken / least:.1f}x" if least else "-"
        rows.append([what, f"{needed / 1e9:,.0f}", f"{least:.3f}", f"{taken:.2f}", far])
    headers = ["towers", "GFLOP", "floor (s)", "taken (s)", "times the floor"]
    shown = tabulate(rows, headers, style, disable_numparse=True)
    what = f"a big {precision.name} matrix product does {rate / 1e9:,.0f} GFLOP/s"
    return f"{shown}\n{report['images']:,} images were encoded; {what}"


def profile(words: Sequence[str], plain: bool = False) -> dict[str, Any]:
    """The report of a job (see `benchmarks.job`), in a folder of its own."""
    words = list(words)
    at = words.index("--") if "--" in words else len(words)
    with tempfile.TemporaryDirectory() as output:
        # a captured step has no stages
        pairs = ["TRAIN.CUDA_GRAPH", "off", *words[at + 1 :]]
        words = [*words[:at], "--output", output, "--", *pairs]
        return job.run("protocol", words, plain)[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = command.parser(__doc__, "benchmarks.profile_job")
    parser.add_argument("--plain", action="store_true", help="the plain way")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="as for tools.protocol")
    plain = "--plain" in words[: words.index("--") if "--" in words else None]
    if not words or words[0] in ("-h", "--help"):
        parser.parse_args(words or ["--help"])
    words = [word for word in words if word != "--plain"]
    report = profile(words, plain)
    device = "cpu" if report["results"][0]["device"] == "cpu" else "cuda"
    print(f"{' '.join(words)}{' (plain)' if plain else ''}; {measure.hardware(device)}")
    print(stage_table(report["own"]))
    if plain:  # the floor is that of our tokens, which the plain way does not tell
        return
    print(f"\n{floor_table(report, device)}")


if __name__ == "__main__":
    main()
