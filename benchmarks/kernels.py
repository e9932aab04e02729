"""Kernels of a training step: the plain 77-token way beside ours, for the lists of 11 datasets.

    python -m benchmarks.kernels                          # base and all classes, all methods
    python -m benchmarks.kernels --methods MoPD CoOp --datasets EuroSAT ImageNet --lists base
    python -m benchmarks.kernels --at-most 1.0            # exit code 1 where ours are more

On a GPU a step of few classes costs what its kernels cost to launch, not what they compute. Counted
are torch's operations in forward, backward and optimiser step from image features, without those
that only view or reserve memory; and apart from them the transfers to the host, each of which waits
for the GPU. What a step tells of itself is read every TRAIN.PRINT_FREQ steps there: no part of the
count. Tensors have shapes and no content (`FakeTensorMode`), so that no GPU is needed and 1000
classes take a second. With the same torch a count is the same everywhere; on a GPU an operation may
take more kernels than one.

--at-most holds for lists of fewer than 100 classes; from there on, where arithmetic counts too, for
1.25 times as many kernels. Tokens are bounded as well: at most 1.8 and 1.3 times those that are
needed. CoCoOp has a prompt for each image: its figures are stated, not bounded.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.reference import SIZES, PlainCLIP, plain_clip
from benchmarks.training_step import BATCH, bare_trainer, learning_methods
from runs import command
from runs.merging import read_yaml
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision

LENGTHS = Path(__file__).with_name("name_lengths.yaml")
LISTS = ("base", "all")
TO_HOST = "aten::_local_scalar_dense"
# neither compute nor copy, though their schema does not say that they view
NO_KERNEL = ("aten::_unsafe_view", "aten::empty", "aten::new_empty", "aten::promote_types")
FEW = 100  # classes: below, launches alone count
MORE = 1.25  # times --at-most, from `FEW` classes on
TOKENS = (1.8, 1.3)  # most times the needed tokens: below `FEW` classes, and from there on
UNBOUND = ("CoCoOp",)


class Kernels(TorchDispatchMode):
    """Counts operations that launch a kernel, and transfers to the host, while it is active.

    Attributes:
        found: how often each operation was called.
        transfers: numbers that the host waited for; each reads as 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.transfers = 0
        self._read: int | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, schema = func._schema.name, func._schema
        if name == TO_HOST:
            storage = args[0].untyped_storage()
            self.transfers += storage._cdata != self._read  # numbers of one tensor come together
            self._read = storage._cdata
            return args[0].dtype.is_floating_point and 1.0 or 1
        views = any(r.alias_info and not r.alias_info.is_write for r in schema.returns)
        if name.startswith("aten::") and not views and not name.startswith(NO_KERNEL):
            self.found[name] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        """All kernels."""
        return sum(self.found.values())


@dataclass
class Count:
    """What a step takes.

    Attributes:
        kernels: operations that launch one.
        transfers: to the host.
        tokens: positions that go through the text tower's first block.
        needed: positions that must, start token and shared context counted once.
    """

    kernels: int
    transfers: int
    tokens: int
    needed: int


def class_lists(datasets: Sequence[str], lists: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """Dataset, list and class names: a word, repeated as often as the name has tokens."""
    for dataset, numbers in all_lengths().items():
        names = [" ".join(["oak"] * n) for n in numbers]
        base = -(-len(names) // 2)  # the first half, rounded up
        for which in lists:
            if dataset in datasets:
                yield dataset, which, names[:base] if which == "base" else names


def all_lengths() -> dict[str, list[int]]:
    """Tokens of each class name, by dataset."""
    lists = read_yaml(LENGTHS)
    return {dataset: [int(n) for n in words.split()] for dataset, words in lists.items()}


@dataclass
class Counting:
    """Both ways of a tower without content; use it inside `FakeTensorMode`.

    Attributes:
        size: a key of `SIZES`.
        images: images of a batch; None for those of `BATCH`, else 32.
    """

    size: str = "text"
    images: int | None = None
    clips: dict[str, FrozenCLIP] = field(init=False)

    def __post_init__(self) -> None:
        precision = resolve_precision("fp32", "cpu")
        model = plain_clip(**SIZES[self.size])
        self.clips = {"plain": PlainCLIP(model, precision), "ours": FrozenCLIP(model, precision)}

    def count(self, way: str, method: str, names: list[str]) -> Count:
        """Count a step of a method, one way, for C class names."""
        with patch.object(nn.Module, "to", lambda module, *_: module):  # no content to move
            trainer = bare_trainer(method, self.clips[way], names)
        trainer.holds_back = True  # as on a GPU
        D, B = trainer.clip.embed_dim, self.images or BATCH.get(method, 32)
        if hasattr(trainer, "pool"):
            teachers = torch.randn(len(trainer.pool), len(names), D)
            trainer.__dict__["teachers"] = F.normalize(teachers, dim=-1)
        features = F.normalize(torch.randn(B, D), dim=-1)
        batch = {"feature": features, "label": torch.zeros(B, dtype=torch.long)}
        tokens: list[int] = []
        seen = trainer.clip.text.blocks[0].ln_1.register_forward_pre_hook(
            lambda module, args: tokens.append(args[0].shape[:-1].numel())
        )
        for parameter in trainer.prompt_learner.parameters():
            parameter.grad = torch.zeros_like(parameter)
        trainer.optim.step()  # the first one fills the optimiser's memory
        with torch.no_grad():
            trainer.losses(features, batch["label"])  # what is made once in a job
        tokens.clear()
        with Kernels() as kernels:
            trainer.forward_backward(batch)
        seen.remove()
        prefix, suffix, _ = trainer.prompt_learner()
        needed = (B if trainer.image_conditional else 1) * (len(prefix) + len(suffix))
        return Count(kernels.total, kernels.transfers, sum(tokens), needed)


def rows_of(counting: Counting, method: str, lists: Any) -> list[dict[str, Any]]:
    """A row of figures for each class list."""
    rows = []
    for dataset, which, names in lists:
        plain, ours = (counting.count(way, method, names) for way in ("plain", "ours"))
        rows.append(
            {
                "list": f"{dataset}, {which}",
                "classes": len(names),
                "kernels": (plain.kernels, ours.kernels, ours.kernels / plain.kernels),
                "tokens": (ours.needed, ours.tokens, ours.tokens / ours.needed),
                "transfers": (plain.transfers, ours.transfers),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]], style: str) -> str:
    """The rows of a method."""
    shown = [
        [
            *(row["list"], row["classes"], *row["kernels"][:2], f"{row['kernels'][2]:.2f}"),
            *(*row["tokens"][:2], f"{row['tokens'][2]:.2f}", row["transfers"][1]),
        ]
        for row in rows
    ]
    headers = ["class list", "classes", "kernels, plain", "ours", "ratio"]
    headers += ["tokens, needed", "computed", "ratio", "transfers"]
    return tabulate(shown, headers, style, disable_numparse=True)


def too_many(method: str, rows: Sequence[dict[str, Any]], most: float) -> list[str]:
    """The lists whose figures are above their bounds, in words."""
    if method in UNBOUND:
        return []
    found = []
    for row in rows:
        few = row["classes"] < FEW
        bounds = {"kernels": most * (1 if few else MORE), "tokens": TOKENS[0 if few else 1]}
        for what, bound in bounds.items():
            if row[what][2] > bound:
                found.append(f"{method}, {row['list']}: {row[what][2]:.2f} {what}, not {bound:g}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table for each method."""
    parser = command.parser(__doc__, "benchmarks.kernels")
    add = parser.add_argument
    methods, datasets = learning_methods(), list(all_lengths())
    add("--methods", nargs="+", choices=methods, default=methods, metavar="METHOD")
    add("--datasets", nargs="+", choices=datasets, default=datasets, metavar="DATASET")
    add("--lists", nargs="+", choices=LISTS, default=list(LISTS))
    add("--images", type=int, help="images of a batch (default: 32, CoCoOp 1)")
    add("--size", choices=("text", "small"), default="text", help="text: that of ViT-B/16")
    add("--style", default="simple", help="of the tables, as tabulate names it; github: markdown")
    add("--at-most", type=float, help="times as many kernels as the plain way, else code 1")
    args = parser.parse_args(argv)
    above = []
    with FakeTensorMode():
        counting = Counting(args.size, args.images)
        for method in args.methods:
            rows = rows_of(counting, method, class_lists(args.datasets, args.lists))
            print(f"{method}:\n\n{table(rows, args.style)}\n", flush=True)
            above += too_many(method, rows, args.at_most or float("inf"))
    if args.at_most is not None and above:
        raise SystemExit("too many:\n" + "\n".join(above))


if __name__ == "__main__":
    main()
