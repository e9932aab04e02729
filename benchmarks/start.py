"""How long a command takes to start, and CLIP to load.

    python -m benchmarks.start            # ViT-B/16's sizes, random weights; a file of 335 MiB
    python -m benchmarks.start --small    # a small CLIP, for a quick look

Starting: commands that need no torch beside a process that only imports what they used to wait for.
Loading: OpenAI's builder, which draws random weights and then overwrites them, beside ours, beside
reading the bytes of the file. All tensors are compared. Processor time of one process each, so that
other work on the machine disturbs little; ways are timed in turn.
"""

import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import clip
import torch
from tabulate import tabulate
from torch import nn

from benchmarks.reference import SIZES, plain_clip
from runs import command
from runs.config import REPOSITORY
from trainers.backbones.clip_model import FrozenCLIP, load_clip
from trainers.backbones.precision import resolve_precision

PRECISION = resolve_precision("fp32", "cpu")
IMPORTS = ("-c", "import torch, torchvision, clip")
COMMANDS = ("train --help", "tools.tables --help", "tools.prepare_data --list", "tools.pools list")


def process_seconds(*words: str) -> float:
    """Processor seconds of a Python process.

    Raises:
        RuntimeError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def starts(runs: int) -> list[list[str]]:
    """A row for each command: its seconds, those of the imports, how many times faster."""
    rows = []
    for line in COMMANDS:
        words = ("-m", *line.split())
        pairs = [(process_seconds(*IMPORTS), process_seconds(*words)) for _ in range(runs)]
        rows.append([f"python -m {line}", *shown(pairs)])
    return rows


def plain_load(path: Path) -> FrozenCLIP:
    """As OpenAI's code loads a file: a random model first, rounded to fp16, then the weights."""
    if is_script(path):
        weights = dict(torch.jit.load(path, map_location="cpu").state_dict())
    else:
        weights = dict(torch.load(path, map_location="cpu", weights_only=True))
    return FrozenCLIP(clip.model.build_model(weights).float(), PRECISION)


def is_script(path: Path) -> bool:
    """Whether `write_files` made a TorchScript archive of it."""
    return path.name.startswith("archive")


def write_files(folder: Path, small: bool) -> list[Path]:
    """CLIP with random weights in fp16, as OpenAI's files: a state dict, a TorchScript archive."""
    model: Any = plain_clip(**SIZES["small" if small else "ViT-B/16"])
    side = model.visual.input_resolution
    traced: Any = torch.jit.trace(
        model, (torch.zeros(1, 3, side, side), clip.tokenize("a")), check_trace=False
    )
    for part in (model, traced):
        convert(part)
    state, archive = folder / "state_dict.pt", folder / "archive.pt"
    torch.save(model.state_dict(), state)
    traced.save(str(archive))
    return [state, archive]


def convert(part: nn.Module) -> None:
    """Store in fp16 what OpenAI's files have in fp16: all but LayerNorm and embeddings."""
    kept = ("ln_", "embedding", "logit_scale")
    for name, parameter in part.named_parameters():
        if not any(word in name for word in kept):
            parameter.data = parameter.data.half()


def loads(path: Path, runs: int) -> list[list[str]]:
    """Rows for one file: ours and bare reading, each beside the plain way.

    Raises:
        AssertionError: a tensor differs.
    """
    ways: list[Callable[[], Any]] = [
        lambda: plain_load(path), lambda: load_clip(str(path), PRECISION), path.read_bytes,
    ]  # fmt: skip
    plain, ours = (way().state_dict() for way in ways[:2])
    assert plain.keys() == ours.keys()
    assert all(torch.equal(value, ours[key]) for key, value in plain.items())
    seconds = [[timed(way) for way in ways] for _ in range(runs)]
    name = path.stem.replace("_", " ")
    return [
        [f"{name}, load_clip", *shown([(row[0], row[1]) for row in seconds])],
        [f"{name}, reading only", *shown([(row[0], row[2]) for row in seconds])],
    ]


def timed(call: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def shown(pairs: Sequence[tuple[float, float]]) -> list[str]:
    """Medians of both, and of their ratio."""
    slow, fast = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(pair[0] / pair[1] for pair in pairs)
    return [f"{slow:.2f}", f"{fast:.2f}", f"{ratio:.1f}x"]


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = command.parser(__doc__, "benchmarks.start")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args(argv)
    warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)  # OpenAI's files are such
    headers = ["command", "torch, torchvision, clip (s)", "command (s)", "faster"]
    print(tabulate(starts(args.runs), headers, disable_numparse=True))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(Path(folder), args.small)
        rows = [row for path in paths for row in loads(path, args.runs)]
    print()
    headers = ["file", "OpenAI's builder (s)", "this (s)", "faster"]
    print(tabulate(rows, headers, disable_numparse=True))


if __name__ == "__main__":
    main()
