"""`benchmarks.graphs`, with a small CLIP and graphs on the CPU."""

from __future__ import annotations

from benchmarks import graphs as benchmark
from benchmarks.graphs import step_seconds, table

SMALL = {"images": 4, "size": "small", "precision": "fp32", "steps": 2, "device": "cpu"}


def test_both_ways_are_timed(on_cpu):
    row = step_seconds("MoPD", 5, **SMALL)
    assert (row["method"], row["classes"], row["images"]) == ("MoPD", 5, 4)
    assert row["off"] > 0 and row["on"] > 0
    assert (on_cpu.captures, on_cpu.replays) == (1, 1 + 2 + 2)
    assert table([row]).splitlines()[2].startswith("MoPD      5          4 ")


def test_a_step_that_is_not_captured_has_no_time(on_cpu):
    on_cpu.error = RuntimeError("no")
    row = step_seconds("CoOp", 5, **SMALL)
    assert row["off"] > 0 and row["on"] is None
    assert row["note"].endswith("launched one by one, not as a CUDA graph: no")
    assert table([row]).splitlines()[2].split()[-2:] == ["-", "-"]


def test_without_a_gpu_it_says_so(stopped):
    assert stopped(benchmark.main, "--methods", "CoOp") == (
        "torch sees no CUDA device here, and a CPU has no CUDA graphs"
    )
