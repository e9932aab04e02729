"""All measurements of a device in one report, for docs/performance.md.

    python -m benchmarks.device > report.md            # on the GPU, or the CPU where there is none
    python -m benchmarks.device --small                # a trial in two minutes, on a CPU
    python -m benchmarks.device --parts steps kernels --minutes 3

ViT-B/16 has random weights (speed does not depend on them) and JPEG files of 500x375 pixels are
written to a folder that is deleted afterwards: nothing is downloaded, and your cache is not used.
Parts: steps of every method for class lists of the paper, and the time of its whole table; text
side, steps and image tower beside the plain way or the arithmetic; the input of an evaluation; a
training in every precision; a whole base2new job of two methods; kernels of the steps.

Each part is printed when it is done. Each has a share of --minutes, and what one does not need the
next ones may use. One that runs out of time is interrupted: it shows what it has, and names the
rows that it lacks. What fails becomes a line of the report, which then ends with exit code 1.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import device_parts, device_steps, measure
from benchmarks.budget import Outcome, Part, told, work_off
from runs import command


def steps_part(args: argparse.Namespace, seconds: float) -> Part:
    """Steps of every method for class lists of the paper."""
    return device_steps.Steps(args, seconds).part()


# what makes each part, and its share of the time
PARTS: dict[str, tuple[Callable[[argparse.Namespace, float], Part], float]] = {
    "steps": (steps_part, 0.16),
    "text_side": (device_parts.text_part, 0.12),
    "training_steps": (device_parts.method_part, 0.10),
    "precisions": (device_parts.precision_part, 0.12),
    "input": (device_parts.input_part, 0.10),
    "image_tower": (device_parts.tower_part, 0.14),
    "base2new": (device_parts.job_part, 0.18),
    "kernels": (device_steps.kernel_part, 0.08),
}
SPARE = 0.04  # of the time, for what comes before the first part and between them


def blocks(args: argparse.Namespace, started: float) -> Iterator[str]:
    """Title, and the parts that were asked for; `args.failed` counts what failed."""
    yield f"### {measure.hardware(args.device)}"
    yield f"`python -m benchmarks.device {' '.join(args.words)}`".replace(" `", "`")
    whole = 60 * args.minutes * (1 - SPARE)
    shares = [PARTS[name][1] for name in args.parts]
    for place, name in enumerate(args.parts):
        until = started + whole * sum(shares[: place + 1]) / sum(shares)
        began = time.perf_counter()
        try:
            part = PARTS[name][0](args, until - began)
        except Exception as error:  # the next part goes on
            part, outcome = Part(name, [], list), Outcome(failed=[told(error)])
        else:
            outcome = work_off(part, until - began)
        taken = time.perf_counter() - began
        yield from shown(part, outcome, taken)
        args.failed += len(outcome.failed)
    yield f"All parts: {time.perf_counter() - started:.0f} s."


def shown(part: Part, outcome: Outcome, seconds: float) -> Iterator[str]:
    """A part's title, tables, and lines about rows that are not there."""
    yield f"**{part.title}** ({seconds:.0f} s):"
    if outcome.done:
        try:
            yield from part.show(outcome.done)
        except (Exception, SystemExit) as error:  # the next part goes on
            outcome.failed.append(f"its tables: {told(error)}")
    lines = [f"- failed: {line}" for line in outcome.failed]
    if outcome.late:
        late = "; ".join(outcome.late)
        lines.append(f"- cut short, --minutes is used up; left out: {late}")
    if lines:
        yield "\n".join(lines)


def read_args(words: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, and what follows from them."""
    parser = command.parser(__doc__, "benchmarks.device")
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--small", action="store_true", help="a small CLIP and few small images")
    names = tuple(PARTS)
    add("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    add("--minutes", type=float, help="that the whole may take (default: 8; small: 2)")
    add("--methods", nargs=2, default=["CoOp", "MoPD"], metavar=("FIRST", "SECOND"))
    add("--epochs", type=int, help="of the jobs (default: 10; small: 1)")
    add("--runs", type=int, help="rounds (default: 5; small: 1)")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="MODEL.COMPILE as well (default: not with --small)",
    )
    args = parser.parse_args(words)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda, but torch sees no CUDA device here: use --device cpu")
    args.words = list(sys.argv[1:] if words is None else words)
    args.epochs = args.epochs or (1 if args.small else 10)
    args.runs = args.runs or (1 if args.small else 5)
    args.minutes = args.minutes or (2.0 if args.small else 8.0)
    args.compile = not args.small if args.compile is None else args.compile
    args.precision = "fp16" if args.device == "cuda" else "fp32"
    args.tower = "small" if args.small else "ViT-B/16"
    args.text = "small" if args.small else "text"
    args.classes = [16] if args.small else [10, 50, 100, 500, 1000]
    args.step_classes = 16 if args.small else 50
    args.lists = 3 if args.small else len(device_steps.DATASETS)
    args.failed = 0
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report."""
    started = time.perf_counter()
    args = read_args(argv)
    with tempfile.TemporaryDirectory() as place:
        args.place = Path(place)
        for block in blocks(args, started):
            print(f"{block}\n", flush=True)
    if args.failed:
        raise SystemExit(f"{args.failed} measurements failed: see the report")


if __name__ == "__main__":
    main()
