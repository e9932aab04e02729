"""Training steps as graphs: captured once, the same bits, and what is said where they cannot be.

There is no GPU here: steps are captured by `cpu_graphs`, in the place of torch's CUDA graphs.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

import train
from benchmarks.training_step import bare_trainer
from runs.trained import TrainedRun
from tests.trainers.cpu_graphs import METHODS, REFUSED, TAKEN, same
from trainers import cocoop, graphs
from trainers.base import PromptTrainer
from trainers.coop import CoOp
from trainers.mopd import MoPD


def trainer_of(name: str, frozen_clip, *pairs: str) -> Any:
    """A trainer for three classes, with random towers."""
    return bare_trainer(name, frozen_clip, ["cat", "blue dog", "fox"], *pairs)


def batches(*sizes: int, D: int = 96) -> list[dict[str, torch.Tensor]]:
    """Batches of unit features, the same for the same sizes."""
    make = torch.Generator().manual_seed(3)
    return [
        {
            "feature": normalize(torch.randn(B, D, generator=make), dim=-1),
            "label": torch.randint(3, (B,), generator=make),
        }
        for B in sizes
    ]


def steps_of(trainer: Any, given: list[dict[str, torch.Tensor]]) -> list[dict[str, float]]:
    found = []
    for trainer.batch_idx, batch in enumerate(given):
        found.append({name: float(v) for name, v in trainer.forward_backward(batch).items()})
    return found


def state(trainer: Any) -> dict[str, Any]:
    return {"learned": trainer.prompt_learner.state_dict(), "optim": trainer.optim.state_dict()}


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_of_another_size_runs_by_itself(method, frozen_clip, request, capsys):
    given = batches(4, 4, 3, 4, 1, 4)
    plain = trainer_of(method, frozen_clip)
    expected = steps_of(plain, given)
    on_cpu = request.getfixturevalue("on_cpu")
    trainer = trainer_of(method, frozen_clip)
    assert steps_of(trainer, given) == expected
    assert same(state(trainer), state(plain))
    assert (on_cpu.captures, on_cpu.replays) == (1, 4)
    assert TAKEN in capsys.readouterr().out
    learned = list(trainer.prompt_learner.parameters())
    trainer.step_graph.release()
    assert all(parameter.grad is None for parameter in learned)


def test_a_shape_that_comes_twice_in_a_row_is_captured_anew(frozen_clip, request, capsys):
    given = batches(3, 4, 3, 4, 4, 4, 4, 3, 4)
    plain = trainer_of("MoPD", frozen_clip)
    expected = steps_of(plain, given)
    on_cpu = request.getfixturevalue("on_cpu")
    trainer = trainer_of("MoPD", frozen_clip)
    assert steps_of(trainer, given) == expected
    assert same(state(trainer), state(plain))
    assert torch.equal(trainer.gate_log.sums, plain.gate_log.sums)
    # one by one: the first 4, the one before the second 4 in a row, the last 3
    assert (on_cpu.captures, on_cpu.replays) == (2, len(given) - 3)
    assert capsys.readouterr().out == f"{TAKEN}\n"


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_number_that_changes_from_step_to_step_is_found(mode, frozen_clip, on_cpu, capsys):
    class Ramped(MoPD):
        """Says that its step is static, which it is not."""

        node = classmethod(lambda cls: "MOPD")
        static_step = MoPD.static_step

        def losses(self, features, label):
            logits, terms = super().losses(features, label)
            return logits, terms | {"loss": terms["loss"] * (1 + self.batch_idx)}

    plain, trainer = (trainer_of("MoPD", frozen_clip, "TRAIN.CUDA_GRAPH", mode) for _ in range(2))
    plain.__class__ = trainer.__class__ = Ramped
    plain.step_graph.mode = "off"
    given = batches(4, 4, 4, 4)
    expected, found = steps_of(plain, given), steps_of(trainer, given)
    assert found[:3] == expected[:3]
    # the loss and the gradients of gate and context; the gate's log is right
    said = "3 of 4 results have other bits"
    if mode == "auto":
        assert found == expected and same(state(trainer), state(plain))
        assert torch.equal(trainer.gate_log.sums, plain.gate_log.sums)
        assert (on_cpu.captures, on_cpu.replays) == (1, 2)
        assert capsys.readouterr().out == f"{REFUSED}replayed, {said}\n"
    else:
        assert found[3]["loss"] == pytest.approx(expected[3]["loss"] / 4, rel=1e-5)
        assert on_cpu.replays == 4
        assert capsys.readouterr().out == f"{TAKEN}, though {said}\n"


def test_figures_of_a_step_stay_when_the_next_one_is_made(frozen_clip, on_cpu):
    trainer = trainer_of("CoOp", frozen_clip)
    first, second, third = [trainer.forward_backward(batch) for batch in batches(*[4] * 6)][3:]
    assert on_cpu.replays == 6
    assert len({float(terms["loss"]) for terms in (first, second, third)}) == 3


def test_gradients_that_someone_drops_come_back(frozen_clip, on_cpu):
    plain, trainer = (trainer_of("MoPD", frozen_clip) for _ in range(2))
    plain.step_graph.mode = "off"
    for batch in batches(*[4] * 5):
        plain.forward_backward(batch)
        trainer.forward_backward(batch)
        trainer.model_zero_grad()
    assert on_cpu.replays == 5 and same(state(trainer), state(plain))


def test_a_gradient_scaler_works_with_a_graph(frozen_clip, on_cpu):
    """Its factor is on the device; it falls where gradients overflow."""
    plain, trainer = (trainer_of("CoOp", frozen_clip) for _ in range(2))
    plain.step_graph.mode = "off"
    for one in (plain, trainer):
        one.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=2)
        one.batch_idx = 1
        for batch in batches(*[4] * 8):
            one.forward_backward(batch)
    assert on_cpu.replays == 8
    assert same(state(trainer), state(plain))
    assert trainer.scaler.state_dict() == plain.scaler.state_dict()
    assert trainer.scaler.get_scale() < 2.0**127


@pytest.mark.parametrize(
    ("name", "pairs", "why"),
    [
        ("MoPD", ("TRAINER.MOPD.GATE_NOISE", "0.5"), "the gate draws random numbers in each step"),
        ("MoPD", ("TRAINER.MOPD.GATE", "random"), "the gate draws random numbers in each step"),
        ("CoCoOp", (), "a batch of 4 images is computed in parts, to save memory"),
    ],
)
def test_a_step_that_cannot_be_captured_is_told(
    name, pairs, why, frozen_clip, on_cpu, monkeypatch, capsys
):
    monkeypatch.setattr(cocoop, "TOKENS_PER_PASS", 40)  # two images
    steps_of(trainer_of(name, frozen_clip, *pairs), batches(4, 4))
    assert capsys.readouterr().out == f"{REFUSED}{why}\n"
    assert on_cpu.captures == 0


def test_a_compiled_tower_has_graphs_of_its_own(frozen_clip, on_cpu, monkeypatch, capsys):
    monkeypatch.setattr(frozen_clip, "compiled", frozen_clip.visual)
    steps_of(trainer_of("CoOp", frozen_clip), batches(4, 4))
    assert capsys.readouterr().out == f"{REFUSED}the image tower is compiled\n"
    assert on_cpu.captures == 0


def test_prompts_in_parts_are_not_captured(frozen_clip, on_cpu, monkeypatch, capsys):
    monkeypatch.setattr(graphs, "TOKENS_PER_PASS", 10)
    steps_of(trainer_of("CoOp", frozen_clip), batches(4, 4))
    assert capsys.readouterr().out == f"{REFUSED}prompts are computed in parts, to save memory\n"


def test_a_class_speaks_for_itself_alone(frozen_clip, on_cpu, capsys):
    class Ramped(MoPD):
        """Its loss depends on the epoch, which its parent's does not."""

        node = classmethod(lambda cls: "MOPD")

        def losses(self, features, label):
            logits, terms = super().losses(features, label)
            return logits, terms | {"loss": terms["loss"] * self.epoch}

    trainer = trainer_of("MoPD", frozen_clip)
    trainer.__class__ = Ramped
    steps_of(trainer, batches(4, 4))
    told = "the class Ramped does not say `static_step` (docs/own_method.md)"
    assert capsys.readouterr().out == f"{REFUSED}{told}\n"


def test_a_step_of_its_own_is_told_when_the_trainer_is_built(
    make_trainer, on_cpu, monkeypatch, capsys
):
    monkeypatch.setattr(CoOp, "forward_backward", lambda self, batch: None)
    make_trainer("CoOp", ["cat", "dog"])
    assert f"{REFUSED}CoOp has its own forward_backward\n" in capsys.readouterr().out


def test_an_error_while_capturing_is_told_and_the_step_is_made(frozen_clip, on_cpu, capsys):
    plain = trainer_of("MoPD", frozen_clip)
    plain.step_graph.mode = "off"
    expected = steps_of(plain, batches(4, 4))
    on_cpu.error = RuntimeError("no kernel of this kind\nwith a long trace")
    trainer = trainer_of("MoPD", frozen_clip)
    assert steps_of(trainer, batches(4, 4)) == expected
    assert capsys.readouterr().out == f"{REFUSED}no kernel of this kind\n"
    assert same(state(trainer), state(plain)) and on_cpu.replays == 0
    assert torch.equal(trainer.gate_log.sums, plain.gate_log.sums)


def test_a_step_that_reads_the_device_falls_back(frozen_clip, on_cpu, monkeypatch, capsys):
    backward = PromptTrainer.backward

    def reads(self, terms):
        terms["loss"].item()
        backward(self, terms)

    monkeypatch.setattr(PromptTrainer, "backward", reads)
    steps_of(trainer_of("CoOp", frozen_clip), batches(4, 4))
    told = "operation not permitted when stream is capturing"
    assert capsys.readouterr().out == f"{REFUSED}{told}\n"


@pytest.mark.parametrize("mode", graphs.MODES)
def test_other_bits_are_refused_or_taken_as_the_mode_says(mode, frozen_clip, on_cpu, capsys):
    on_cpu.wrong = 1.0
    plain = trainer_of("MoPD", frozen_clip, "TRAIN.CUDA_GRAPH", "off")
    trainer = trainer_of("MoPD", frozen_clip, "TRAIN.CUDA_GRAPH", mode)
    *checked, last = steps_of(trainer, batches(4, 4, 4, 4))
    expected = steps_of(plain, batches(4, 4, 4, 4))
    assert checked == expected[:3]
    assert last["loss"] == pytest.approx(expected[3]["loss"] + (mode == "on"), abs=1e-5)
    assert (
        capsys.readouterr().out
        == {
            "auto": f"{REFUSED}replayed, 1 of 4 results have other bits\n",
            "on": f"{TAKEN}, though 1 of 4 results have other bits\n",
            "off": "",
        }[mode]
    )
    assert on_cpu.replays == {"auto": 1, "on": 4, "off": 0}[mode]


# ---- torch's own graphs, with its calls alone


@pytest.fixture
def calls(monkeypatch) -> Iterator[list[str]]:
    """What is called of torch.cuda, in order; the end of a capture fails if "fail" is in it."""
    modes = ["warn"]
    found: list[str] = []

    class Stream:
        def __init__(self, name: str | int):
            self.name = name if isinstance(name, str) else f"side {name}"
            found.append(f"new {self.name}")

        def wait_stream(self, other: Stream) -> None:
            found.append(f"{self.name} waits for {other.name}")

    class Generator:
        def clone_state(self) -> str:
            return "kept"

        def graphsafe_set_state(self, state: str) -> None:
            found.append(f"random numbers: {state}")

    class Graph:
        def replay(self) -> None:
            found.append("replay")

    @contextmanager
    def stream(one: Stream) -> Iterator[None]:
        found.append(f"on {one.name}")
        try:
            yield
        finally:
            found.append(f"off {one.name}")

    @contextmanager
    def graph(one: Graph, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        found.append(f"capture on {stream.name}, {capture_error_mode}")
        try:
            yield
        finally:
            if "fail" in found:
                raise RuntimeError("the capture is invalid")
            found.append("captured")

    fakes = {"Stream": Stream, "CUDAGraph": Graph, "stream": stream, "graph": graph}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    main = Stream("main")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: main)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(),))
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])

    def set_mode(mode: str) -> None:
        modes.append(mode)
        found.append(f"waiting: {mode}")

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    found.clear()
    graphs.side_stream.cache_clear()
    yield found
    graphs.side_stream.cache_clear()


def test_a_capture_is_warmed_up_on_the_stream_that_is_captured(calls):
    outputs, replay = graphs.capture(lambda: calls.append("step") or [None])
    replay()
    assert calls == [
        *("new side 0", "side 0 waits for main", "on side 0", "step", "step"),
        *("waiting: error", "step", "waiting: warn"),
        *("capture on side 0, thread_local", "step", "captured", "off side 0"),
        *("main waits for side 0", "replay"),
    ]
    assert outputs == [None]
    options = inspect.signature(torch.cuda.graphs.graph.__init__).parameters
    assert {"stream", "capture_error_mode"} <= options.keys()


def test_all_captures_share_a_stream(calls):
    for _ in range(2):
        graphs.capture(lambda: [None])
    assert [call for call in calls if call.startswith("new")] == ["new side 0"]
    assert calls.count("capture on side 0, thread_local") == 2


def test_what_the_host_waits_for_raises_before_a_capture_begins(calls):
    def step() -> Any:
        if torch.cuda.get_sync_debug_mode() == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        return [None]

    with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
        graphs.capture(step)
    ends = ["waiting: error", "waiting: warn", "random numbers: kept", "off side 0"]
    assert calls[-5:] == [*ends, "main waits for side 0"] and not any(
        "capture" in call for call in calls
    )


def test_a_capture_that_fails_leaves_its_stream_and_names_the_first_error(calls):
    def step() -> Any:
        if "capture on side 0, thread_local" in calls:
            calls.append("fail")
            raise RuntimeError("operation not permitted\nand so on")
        return [None]

    with pytest.raises(RuntimeError) as error:
        graphs.capture(step)
    ends = ["fail", "random numbers: kept", "off side 0", "main waits for side 0"]
    assert calls[-4:] == ends
    assert graphs.first_line(error.value) == "operation not permitted"


# ---- settings


def test_on_is_refused_without_a_gpu_before_anything_loads(job, refused, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.base.load_clip", lambda *_: pytest.fail("CLIP is loaded"))
    assert refused(job("CoOp", "TRAIN.CUDA_GRAPH", "on")) == (
        "TRAIN.CUDA_GRAPH is on, but this run is on the CPU, which has no CUDA graphs: set "
        "TRAIN.CUDA_GRAPH auto or off"
    )


def test_yaml_may_say_on_and_off_without_quotes(job, refused, tmp_path):
    words, path = job("CoOp"), tmp_path / "graph.yaml"
    place = words.index("--config-file") + 1
    text = Path(words[place]).read_text().replace("PRINT_FREQ: 5", "CUDA_GRAPH: on")
    path.write_text(text)
    words[place] = str(path)
    assert refused(words).startswith("TRAIN.CUDA_GRAPH is on, but this run is on the CPU")
    message = refused(job("CoOp", "TRAIN.CUDA_GRAPH", "yes"))
    assert "TRAIN.CUDA_GRAPH is 'yes', expected one of: auto, on, off" in message


def test_it_is_no_part_of_what_a_run_is(job, tmp_path):
    train.main(job("CoOp", "OPTIM.MAX_EPOCH", "1"))
    train.main(job("CoOp", "OPTIM.MAX_EPOCH", "1", "TRAIN.CUDA_GRAPH", "off"))
    run = TrainedRun.of(tmp_path / "run")
    assert "TRAIN.CUDA_GRAPH" not in run.results["base"]["settings"]
