"""`benchmarks.device`: every part at the size of a test."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

from benchmarks import device, device_parts, device_steps, kernels, measure, whole_table
from benchmarks.text_side import TextSide
from datasets.counts import COUNTS

METHODS = ["CoOp", "CoCoOp", "KgCoOp", "ProGrad", "SiPD", "MoPD"]
BASE = {"EuroSAT": 5, "DescribableTextures": 24, "Caltech101": 50}


@pytest.fixture
def report(in_process, capsys, monkeypatch):
    """Run some parts of a small report; what it printed."""
    monkeypatch.setattr(TextSide, "peak", lambda side, way: getattr(side, f"{way}_kept"))
    monkeypatch.setattr(device_steps, "DATASETS", ("EuroSAT", "DescribableTextures"))

    def run(*words: str) -> str:
        device.main(["--small", "--device", "cpu", "--minutes", "60", *words])
        return capsys.readouterr().out

    return run


def cells(shown: str, *first: str) -> list[list[str]]:
    """The cells of the lines of tables that begin with one of these words."""
    lines = [line.strip("|").split("|") for line in shown.splitlines() if line.startswith("|")]
    found = [[cell.strip() for cell in line] for line in lines]
    return [line for line in found if line[0] in first]


def titles(shown: str) -> list[str]:
    return re.findall(r"^\*\*(.*?)[ ,:(].*\*\* \(\d+ s\):$", shown, flags=re.MULTILINE)


def test_the_report_begins_with_hardware_and_command_and_ends_with_its_time(report):
    shown = report("--parts", "image_tower", "--runs", "1")
    first, second = shown.split("\n\n")[:2]
    assert first == f"### {measure.hardware()}"
    assert second.startswith("`python -m benchmarks.device --small --device cpu ")
    assert re.fullmatch(r"All parts: \d+ s\.", shown.strip().splitlines()[-1])
    assert [row[:2] for row in cells(shown, "fp32", "bf16")] == [["fp32", "False"],
                                                                 ["bf16", "False"]]  # fmt: skip


def test_steps_are_timed_and_the_whole_table_follows(report, monkeypatch):
    operations = []
    right = device_steps.Steps._operations

    def see(steps, trainer, B):
        operations.append((trainer.cfg.TRAINER.NAME, right(steps, trainer, B)))
        return operations[-1][1]

    monkeypatch.setattr(device_steps.Steps, "_operations", see)
    shown = report("--parts", "steps")
    steps, table = shown.split("Whole table, 3 seeds")
    rows = cells(steps, *METHODS)
    assert [row[:4] for row in rows[:6]] == [
        *(["CoOp", "EuroSAT", "5", "32"], ["CoCoOp", "EuroSAT", "5", "1"]),
        *(["KgCoOp", "EuroSAT", "5", "128"], ["ProGrad", "EuroSAT", "5", "32"]),
        *(["SiPD", "EuroSAT", "5", "128"], ["MoPD", "EuroSAT", "5", "128"]),
    ]
    assert [row[2] for row in rows[6:]] == ["24"] * 6 and {row[5] for row in rows} == {"-"}
    found = dict(operations[:6])
    # one image, one set of prompts; and a second backward pass
    assert found["CoOp"] == found["MoPD"] == found["CoCoOp"]
    assert 1.4 * found["CoOp"] < found["ProGrad"]
    hours = cells(table, *METHODS, "all")
    assert [row[0] for row in hours] == [*METHODS, "all"] and {row[3] for row in hours} == {"-"}
    total = sum(int(row[1].replace(",", "")) for row in hours[:-1])
    assert int(hours[-1][1].replace(",", "")) == total == 868_815


def test_a_step_that_is_captured_has_a_time_of_its_own(on_cpu, monkeypatch):
    monkeypatch.setattr(device_steps, "has_graphs", lambda device: True)
    some = {"text": "small", "precision": "fp32", "device": "cpu", "lists": 1, "runs": 1}
    steps = device_steps.Steps(SimpleNamespace(**some), 10)
    ((dataset, names),) = device_steps.base_lists(1)
    row = steps.row("CoOp", dataset, names)
    assert row["eager"] > 0 and row["graph"] > 0 and on_cpu.captures == 1
    on_cpu.error = RuntimeError("no")
    assert steps.row("CoOp", dataset, names)["graph"] is None


def test_times_of_steps_are_told_with_and_without_graphs():
    steps = object.__new__(device_steps.Steps)
    steps.args, steps.rate = SimpleNamespace(device="cuda"), 1e12
    row = {"method": "CoOp", "dataset": "EuroSAT", "classes": 5, "images": 32, "memory": 2**21}
    shown = "\n".join(steps.show([{**row, "eager": 0.03, "graph": 0.01, "floor": 0.002}]))
    assert cells(shown, "CoOp")[0][4:] == ["30", "10", "2", "5.0x", "2.0"]
    assert cells(shown, "CoOp")[1] == ["CoOp", "81,900", ">0.68", ">0.23"]  # 81900 x 30 ms


def test_kernels_are_those_of_the_benchmark_of_kernels(report):
    shown = report("--parts", "kernels")
    rows = cells(shown, *METHODS)
    assert [row[:3] for row in rows if row[0] == "MoPD"] == [
        *(["MoPD", "EuroSAT", "5"], ["MoPD", "DescribableTextures", "24"]),
    ]
    with torch._subclasses.fake_tensor.FakeTensorMode():
        counting = kernels.Counting("small")
        names = dict(device_steps.base_lists(1))["EuroSAT"]
        expected = [counting.count(way, "MoPD", names).kernels for way in ("plain", "ours")]
    assert [int(n) for n in rows[-2][3:5]] == expected and len(rows) == 12


def test_the_other_parts_have_their_tables(report):
    words = ("text_side", "training_steps", "input", "image_tower")
    shown = report("--parts", *words)
    assert titles(shown) == ["Text", "Training", "Input", "Image"]
    assert [row[0] for row in cells(shown, *METHODS)] == sorted(METHODS)
    assert len(cells(shown, "16")) == 2  # classes: time and memory
    assert [row[0] for row in cells(shown, "0", "2")] == ["0", "2"]  # workers
    assert "failed" not in shown and "cut short" not in shown


def test_whole_jobs_in_every_way(report):
    shown = report("--parts", "base2new")
    rows = cells(shown, "CoOp", "MoPD")
    ways = ["ours", "plain", "views", "device augment"]
    assert [row[:2] for row in rows] == [[m, way] for m in ("CoOp", "MoPD") for way in ways]
    assert {row[-1] for row in rows if row[1] in ("ours", "views")} == {"same"}


def test_every_precision_trains(report, monkeypatch):
    trained = []

    def job(module, words):
        pairs = dict(zip(words[1::2], words[2::2], strict=True))
        name = pairs["TRAINER.MOPD.PREC"]
        trained.append((module, name, pairs["--trainer"], pairs["OPTIM.MAX_EPOCH"]))
        if name == "bf16":
            raise SystemExit("python -m benchmarks.job failed:\nno memory")
        memory = {"process_gib": 1.25, "device_gib": None}
        return 1.0, {
            "results": [{"accuracy": 50.0, "nll": 1.5, "seconds": {"train": 2.0}, "memory": memory}]
        }

    monkeypatch.setattr(measure, "fresh_process", job)
    with pytest.raises(SystemExit, match="^1 measurements failed: see the report$"):
        report("--parts", "precisions")
    assert trained == [("benchmarks.job", name, "MoPD", "2") for name in ("fp32", "bf16", "amp")]


def test_the_words_of_a_precision_are_those_of_a_run(in_process, tmp_path, data_root):
    args = SimpleNamespace(device="cpu", small=True, place=tmp_path)
    (tmp_path / "data").symlink_to(data_root)
    (name, make), *_ = device_parts.precision_part(args, 60.0).rows
    row = make()
    assert name == row[0] == "fp32" and 0 < float(row[1]) <= 100 and row[5:] == ["-", "-"]


def test_what_fails_is_told_and_the_report_goes_on(report, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(device_parts.image_tower, "tower_speed", fail)
    with pytest.raises(SystemExit, match="^2 measurements failed: see the report$"):
        report("--parts", "image_tower", "input")
    shown = capsys.readouterr().out
    assert "- failed: fp32: RuntimeError: no compiler\n- failed: bf16: RuntimeError" in shown
    assert titles(shown) == ["Image", "Input"] and len(cells(shown, "0", "2")) == 2


def test_a_part_that_cannot_begin_is_told(report, monkeypatch, capsys):
    def fail(args, seconds):
        raise OSError("disk full")

    monkeypatch.setitem(device.PARTS, "kernels", (fail, 0.5))
    with pytest.raises(SystemExit, match="^1 measurements failed"):
        report("--parts", "kernels")
    assert re.search(
        r"\*\*kernels\*\* \(0 s\):\n\n- failed: OSError: disk full", capsys.readouterr().out
    )


def test_a_report_without_time_names_all_that_it_lacks(report):
    shown = report("--minutes", "0.0001")
    assert titles(shown)[:2] == ["Steps", "Text"] and len(titles(shown)) == len(device.PARTS)
    lines = re.findall(r"^- cut short, --minutes is used up; left out: (.*)$", shown, re.MULTILINE)
    assert len(lines) == len(device.PARTS)
    assert lines[-2] == "ours; plain; views; device augment" and lines[1] == "fp32, 16 classes"


def test_compiled_towers_run_in_a_process_that_can_be_ended(monkeypatch):
    called = []
    found = {"rate": 1.0, "matmul": 1e12, "share": 0.5, "first": 9.0}
    monkeypatch.setattr(
        measure, "fresh_process", lambda module, words: called.append((module, words)) or (1, found)
    )
    args = device.read_args(["--small", "--device", "cpu", "--compile"])
    rows = dict(device_parts.tower_part(args, 10.0).rows)
    assert list(rows) == ["fp32", "bf16", "fp32, compiled", "bf16, compiled"]
    assert rows["bf16, compiled"]()[:3] == ["bf16", "True", 8]
    ((module, words),) = called
    assert module == "benchmarks.image_tower" and "--compile" in words and "bf16" in words


def test_a_small_report_compiles_nothing_and_takes_two_minutes():
    small, whole = (device.read_args([*w, "--device", "cpu"]) for w in (["--small"], []))
    assert (small.compile, small.minutes, whole.compile, whole.minutes) == (False, 2, True, 8)
    assert sum(share for _, share in device.PARTS.values()) == pytest.approx(1.0)


def test_a_device_that_is_not_there_is_refused(stopped):
    message = stopped(device.main, "--device", "cuda")
    assert message == "--device cuda, but torch sees no CUDA device here: use --device cpu"


def test_steps_of_the_table_follow_from_the_shipped_settings():
    found = {(t.method, t.dataset): t for t in whole_table.trainings()}
    assert len(found) == 6 * 11
    assert {t.dataset: t.classes for t in found.values()} == {
        name: -(-COUNTS[name].classes // 2) for name in {t.dataset for t in found.values()}
    }
    few = found["MoPD", "EuroSAT"]  # 80 images are less than a batch of 128; 100 epochs
    assert (few.classes, few.batch, few.steps) == (5, 128, 100)
    assert found["MoPD", "DescribableTextures"].steps == 25 * (24 * 16 // 128)  # its own 25 epochs
    assert found["CoCoOp", "ImageNet"].steps == 10 * 500 * 16
    assert sum(t.steps for t in found.values() if t.method == "CoOp") == 27_300


def test_times_between_class_lists_are_interpolated(monkeypatch):
    one = whole_table.Training
    monkeypatch.setattr(
        whole_table,
        "trainings",
        lambda: (one("A", "x", 10, 1, 100), one("A", "y", 30, 1, 10), one("B", "x", 10, 1, 5)),
    )
    monkeypatch.setattr(whole_table, "seeds", lambda: 2)
    seconds = {("A", 20): 2.0, ("A", 40): 4.0}
    known = whole_table.Total(220, 2 * (100 * 2.0 + 10 * 3.0))
    assert whole_table.total(seconds, "A") == known
    assert whole_table.total(seconds, "B") == whole_table.Total(10, None)
    rows = whole_table.projection([seconds, {**seconds, ("B", 1): 36.0}])
    assert rows == [
        *(["A", "220", "0.13", "0.13"], ["B", "10", "-", ">0.10"], ["all", "230", "-", ">0.23"]),
    ]
