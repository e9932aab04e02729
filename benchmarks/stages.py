"""Where the time of a job goes: parts of the code as stages, whose seconds add up to the whole."""

import builtins
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.data import dataloader

from benchmarks.measure import synchronize
from dassl.data import data_manager
from dassl.engine.base import TrainerBase
from runs import run
from trainers.backbones import clip_model, text_tower

IMPORT = "start, import"
REST = "job: settings, folders, results"
TEST = "test: logits, metrics"
STAGES = (
    *(IMPORT, "load CLIP", "read lists", "build the trainer", "loaders", "decode + augment"),
    *("image tower", "hard prompts", "text tower, forward", "backward", "losses, optimiser"),
    *("training loop, logs", "checkpoints", TEST, REST),
)


class Stages:
    """Seconds of each stage, without those of the stages that ran inside it.

    Attributes:
        own: seconds by stage.
        whole: seconds by stage, with all that ran inside.
        images: images that went through the image tower.
        texts: passes of the text tower by the numbers of shared and of own tokens, prompts, sets of
            prompts, and whether gradients were taken.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.own: dict[str, float] = defaultdict(float)
        self.whole: dict[str, float] = defaultdict(float)
        self.images = 0
        self.texts: Counter[tuple[int, int, int, int, bool]] = Counter()
        self.device = device
        self._stack: list[str] = []
        self._since = 0.0

    def _count(self) -> None:
        """Give the seconds since the last change of stages to the innermost one."""
        now = time.perf_counter()
        if self._stack:
            self.own[self._stack[-1]] += now - self._since
        self._since = now

    def _wait(self) -> None:
        if self.device == "cpu" or not torch.cuda.is_current_stream_capturing():
            synchronize(self.device)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside as `name`."""
        self._wait()
        self._count()
        outermost = name not in self._stack
        started = self._since
        self._stack.append(name)
        try:
            yield
        finally:
            self._wait()
            self._count()
            self._stack.pop()
            if outermost:
                self.whole[name] += self._since - started

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, counted as `name`."""

        @wraps(call)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return call(*args, **kwargs)

        return counted

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Count everything that runs inside, by its stage."""
        with ExitStack() as stack:

            def wrap(owner: Any, attribute: str, name: str) -> None:
                call = getattr(owner, attribute)
                stack.enter_context(patch.object(owner, attribute, self.timed(name, call)))

            for name, call in (
                ("load CLIP", clip_model.load_clip),
                ("read lists", data_manager.build_dataset),
            ):
                for module in _modules_with(call):
                    wrap(module, call.__name__, name)
            for step in ("__getitem__", "keep_images"):
                wrap(data_manager.DatasetWrapper, step, "decode + augment")
            wrap(dataloader._BaseDataLoaderIter, "__next__", "loaders")
            for loader in (dataloader.DataLoader, *dataloader.DataLoader.__subclasses__()):
                wrap(loader, "__iter__", "loaders")
            wrap(torch.autograd, "backward", "backward")
            wrap(torch.autograd, "grad", "backward")
            wrap(TrainerBase, "save_model", "checkpoints")
            for towers in (clip_model.FrozenCLIP, *clip_model.FrozenCLIP.__subclasses__()):
                wrap(towers, "encode_templates", "hard prompts")
                wrap(towers, "encode_prompts", "text tower, forward")
                wrap(towers, "encode_image", "image tower")
            build = self.timed("build the trainer", run.build_trainer)
            stack.enter_context(patch.object(run, "build_trainer", self._watched(build)))
            counting = self._counting(text_tower.TextTower.forward)
            stack.enter_context(patch.object(text_tower.TextTower, "forward", counting))
            stack.enter_context(patch.object(builtins, "__import__", self._importing()))
            stack.enter_context(self.stage(REST))
            yield

    def _watched(self, build: Callable[..., Any]) -> Callable[..., Any]:
        """`build_trainer`, for a trainer whose steps and tests are counted."""

        def watched(cfg: Any) -> Any:
            trainer = build(cfg)
            for method, name in (
                ("forward_backward", "losses, optimiser"),
                ("run_epoch", "training loop, logs"),
                ("test", TEST),
            ):
                setattr(trainer, method, self.timed(name, getattr(trainer, method)))
            if hasattr(trainer, "clip"):
                encode = trainer.clip.encode_image

                def counted(images: Any) -> Any:
                    self.images += len(images)
                    return encode(images)

                trainer.clip.encode_image = counted
            return trainer

        return watched

    def _counting(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The text tower's `forward`, with its passes counted."""

        def counted(tower: Any, prefix: Any, suffix: Any, layout: Any) -> Any:
            sets = len(prefix) if prefix.dim() == 3 else 1
            learns = torch.is_grad_enabled() and (prefix.requires_grad or suffix.requires_grad)
            key = (prefix.shape[-2], suffix.shape[-2], len(layout.lengths), sets, learns)
            self.texts[key] += 1
            return forward(tower, prefix, suffix, layout)

        return counted

    def _importing(self) -> Callable[..., Any]:
        """`import` that counts what is loaded for the first time."""
        load = builtins.__import__

        def counted(name: str, *args: Any, **kwargs: Any) -> Any:
            if name in sys.modules or (self._stack and self._stack[-1] == IMPORT):
                return load(name, *args, **kwargs)
            with self.stage(IMPORT):
                return load(name, *args, **kwargs)

        return counted


def _modules_with(call: Callable[..., Any]) -> list[Any]:
    """The modules that have a function under its name."""
    modules = list(sys.modules.values())
    return [m for m in modules if getattr(m, "__dict__", {}).get(call.__name__) is call]
