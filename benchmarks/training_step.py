"""A training step of every method: the plain way (77 tokens, image by image) beside ours.

    python -m benchmarks.training_step                   # 50 classes, ViT-B/16's text tower
    python -m benchmarks.training_step --methods MoPD CoOp --classes 100
    python -m benchmarks.training_step --methods CoCoOp --classes 500 --ours    # ours alone

A step is the method's own: its loss terms from image features, backward pass, and all that comes
with them, short of the image tower and the optimiser. Both ways are timed in turn in one process,
and their loss terms and gradients are compared. "kept" is the most that autograd keeps for a
backward pass, counted exactly. Features of hard prompts are computed once in a job, so they are no
part of a step.
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import Tensor

from benchmarks import measure
from benchmarks.measure import GIB, TOLERANCE
from benchmarks.reference import SIZES, PlainCLIP, plain_clip
from benchmarks.text_side import TextSide, class_names
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.base import TrainerBase
from dassl.optim import build_optimizer
from runs import command
from runs.config import CONFIGS, build_parser, default_cfg, setup_cfg
from runs.machine import process_peak
from trainers.backbones.clip_model import FrozenCLIP
from trainers.backbones.precision import resolve_precision

BATCH = {"CoCoOp": 1}  # as published; the others: 32


def learning_methods() -> list[str]:
    """Names of the registered methods of this project that learn."""
    default_cfg()  # registers them
    found = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    return sorted(
        name
        for name, trainer in found.items()
        if trainer.__module__.startswith("trainers.") and trainer.learns
    )


def bare_trainer(method: str, clip: FrozenCLIP, names: list[str], *pairs: str) -> Any:
    """A method's trainer without data and image tower: it is given image features.

    Args:
        method: registered name; its settings are those of its vit_b16.yaml.
        clip: the towers.
        names: C class names.
        pairs: KEY VALUE pairs, as for train.py.
    """
    words = ["--trainer", method, "--seed", "1"]
    pairs = (*pairs, "CACHE.FEATURES", "False")  # random weights must not fill a user's cache
    words += ["--dataset-config-file", str(CONFIGS / "datasets/caltech101.yaml")]
    file = CONFIGS / "trainers" / method / "vit_b16.yaml"
    words += ["--config-file", str(file)] if file.is_file() else []
    with redirect_stdout(io.StringIO()):
        return _build(method, clip, names, [*words, *pairs])


def _build(method: str, clip: FrozenCLIP, names: list[str], words: list[str]) -> Any:
    cfg = setup_cfg(build_parser().parse_args(words))
    kind = TRAINER_REGISTRY.get(method)
    trainer = kind.__new__(kind)
    TrainerBase.__init__(trainer)
    trainer.check_cfg(cfg)
    trainer.cfg, trainer.clip = cfg, clip
    trainer.device, trainer.scaler = clip.precision.device, clip.precision.scaler()
    trainer.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=names))
    trainer.epoch = trainer.batch_idx = trainer.num_batches = 0
    torch.manual_seed(0)
    trainer.prompt_learner = trainer.build_prompts(clip, names).to(trainer.device)
    trainer.optim = build_optimizer(trainer.prompt_learner, cfg.OPTIM)
    trainer.register_model("prompt_learner", trainer.prompt_learner, trainer.optim)
    return trainer


@dataclass
class Step:
    """A training step of one method: B images, C classes, both ways."""

    method: str
    count: int
    images: int
    size: str = "text"
    device: str = "cpu"
    precision: str = "fp32"
    plain: bool = True
    pairs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.plain:
            self._check_memory()
        precision = resolve_precision(self.precision, self.device)
        model: Any = plain_clip(**SIZES[self.size], dtype=precision.dtype).to(self.device)
        names = class_names(self.count)
        kinds = [PlainCLIP, FrozenCLIP] if self.plain else [FrozenCLIP]
        clips = [kind(model, precision).to(self.device) for kind in kinds]
        pairs = ("TRAIN.CUDA_GRAPH", "off", *self.pairs)
        self.trainers = [bare_trainer(self.method, clip, names, *pairs) for clip in clips]
        ours = self.trainers[-1]
        if hasattr(ours, "pool"):
            for trainer in self.trainers:  # both distil from the same teachers
                trainer.__dict__["teachers"] = ours.teachers
        torch.manual_seed(1)
        features = F.normalize(torch.randn(self.images, clips[0].embed_dim), dim=-1)
        label = torch.randint(self.count, (self.images,))
        self.batch = {"feature": features.to(self.device), "label": label.to(self.device)}

    def _check_memory(self) -> None:
        """Refuse a plain step that would take more than half of the free memory."""
        side = TextSide(self.count, size=self.size, device=self.device, precision=self.precision)
        sets = self.images if self.method == "CoCoOp" else 1  # each image has its own prompts
        need, free = sets * side.plain_need, measure.available_bytes(self.device)
        if need > free / 2:
            raise SystemExit(
                f"{self.method}, {self.count} classes: the plain way needs about "
                f"{need / GIB:.1f} GiB, and {free / GIB:.1f} are free: use fewer --classes "
                "(or --images), or --ours"
            )

    def step(self, trainer: Any) -> tuple[dict[str, Any], Tensor]:
        """The loss terms of a step, and all gradients as one vector."""
        trainer.prompt_learner.zero_grad()
        trainer.model_update = lambda names=None: None
        terms = trainer.forward_backward(self.batch)
        learned = trainer.prompt_learner.parameters()
        found = torch.cat([p.grad.flatten() for p in learned if p.grad is not None])
        return terms, found.float()

    def kept(self, trainer: Any) -> int:
        """Bytes that autograd keeps for the first backward pass of a step."""
        size = trainer.images_per_pass(self.images)
        features, label = (self.batch[key][:size] for key in ("feature", "label"))
        weights = (*trainer.clip.parameters(), *trainer.prompt_learner.parameters())
        return measure.kept_bytes(lambda: trainer.losses(features, label)[1]["loss"], weights)


def compare(step: Step, runs: int, seconds: float = float("inf")) -> dict[str, Any]:
    """Time and compare both ways; a row of figures."""
    ways = [partial(step.step, trainer) for trainer in step.trainers]
    kept = [step.kept(trainer) for trainer in step.trainers]
    timed = measure.in_turn(ways, runs, seconds, step.device)
    row: dict[str, Any] = {"method": step.method, "classes": step.count, "images": step.images}
    if not step.plain:
        return row | {"ours": timed.seconds(0), "kept": kept}
    (plain_terms, plain_gradient), (terms, gradient) = timed.results
    loose, most = TOLERANCE[step.precision]
    del plain_terms["acc"]  # a count of images: ties may fall either way
    for name, value in plain_terms.items():
        # KgCoOp's score is 1 less a mean of cosines: as wrong as features are, whose size is 1
        value, ours = float(value), float(terms[name])
        found = abs(value - ours) / max(abs(value), 0.1 if name == "score" else 1e-3)
        measure.check_same(f"{step.method}'s {name}", found, 10 * loose)
    differ = measure.difference(plain_gradient, gradient)
    measure.check_same(f"{step.method}'s gradients", differ, most)
    return row | {
        **{"plain": timed.seconds(0), "ours": timed.seconds(1), "ratio": timed.ratio()},
        **{"kept": kept, "differ": differ},
    }


def table(rows: Sequence[dict[str, Any]], style: str = "simple") -> str:
    """The rows as a table."""
    shown = []
    for row in rows:
        kept = [f"{one / GIB:.2f}" for one in row["kept"]]
        line = [row["method"], row["classes"], row["images"]]
        if "plain" in row:
            line += [f"{row['plain']:.3g}", f"{row['ours']:.3g}", f"{row['ratio']:.1f}x"]
            line += [*kept, f"{row['differ']:.0e}"]
        else:
            line += ["-", f"{row['ours']:.3g}", "-", "-", *kept, "-"]
        shown.append(line)
    headers = ["method", "classes", "images", "plain (s)", "ours (s)", "faster"]
    headers += ["plain kept (GiB)", "ours kept (GiB)", "gradients differ"]
    return tabulate(shown, headers, style, disable_numparse=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = command.parser(__doc__, "benchmarks.training_step")
    add = parser.add_argument
    methods = learning_methods()
    add("--methods", nargs="+", choices=methods, default=methods, metavar="METHOD")
    add("--classes", type=int, nargs="+", default=[50])
    add("--images", type=int, help="images of a batch (default: 32, CoCoOp 1)")
    add("--runs", type=int, default=5, help="rounds of both ways")
    add("--seconds", type=float, default=60.0, help="no further round after so many (each row)")
    add("--size", choices=("text", "small"), default="text", help="text: that of ViT-B/16")
    add("--device", default="cpu")
    add("--precision", choices=tuple(TOLERANCE), default="fp32")
    add("--ours", action="store_true", help="leave the plain way out")
    add("--at-least", type=float, default=0.0, help="times faster, else exit with code 1")
    args = parser.parse_args(argv)
    rows = []
    for method in args.methods:
        images = args.images or BATCH.get(method, 32)
        for count in args.classes:
            step = Step(method, count, images, args.size, args.device, args.precision,
                        plain=not args.ours)  # fmt: skip
            rows.append(compare(step, args.runs, args.seconds))
    tower = "ViT-B/16 text tower" if args.size == "text" else "small text tower"
    print(f"{tower}, {args.precision}; {measure.hardware(args.device)}")
    print(table(rows))
    print(f"peak memory of the process: {process_peak() / GIB:.1f} GiB")
    measure.check_at_least(
        "a step is faster", [r["ratio"] for r in rows if "ratio" in r], args.at_least
    )


if __name__ == "__main__":
    main()
