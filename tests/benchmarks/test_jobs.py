"""Benchmarks of whole jobs: evaluation, base2new, profile and growth."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import base2new, evaluation, flops, growth, job, pool_step, profile_job
from benchmarks.images import SIZE, picture, write_folder
from benchmarks.text_side import TextSide
from trainers.prompts.pool import load_pool

JOB = ("OPTIM.MAX_EPOCH", "1")


def rows_of(shown: str, *first: str) -> list[list[str]]:
    """The cells of the lines of a table that begin with one of these words."""
    lines = [re.split(r" {2,}", line.strip()) for line in shown.splitlines()]
    return [cells for cells in lines if cells[0] in first and len(cells) > 2]


def test_repeated_evaluations_agree(in_process, few_images, capsys, stopped):
    message = stopped(evaluation.main, *few_images, "--runs", "1", "--at-least", "1e6")
    assert message.startswith("second against first: ")
    shown = capsys.readouterr().out
    assert [row[0] for row in rows_of(shown, "plain", "first", "second")] == [
        *("plain", "first", "second"),
    ]
    assert re.search(r"40 images, 1 rounds\naccuracy \d+\.\d\d in every way", shown)


def test_base2new_gives_the_same_results_in_every_way(in_process, few_images, capsys, stopped):
    words = [*few_images, "--", *JOB]
    message = stopped(base2new.main, "--at-least", "1e6", *words)
    assert message.startswith("the second method with views: ")
    rows = rows_of(capsys.readouterr().out, "CoOp", "MoPD")
    assert [row[:2] for row in rows] == [
        [method, way] for method in ("CoOp", "MoPD") for way in ("plain", "ours", "views")
    ]
    assert {row[-1] for row in rows if row[1] == "views"} == {"same"}
    assert len({(row[0], row[-3], row[-2]) for row in rows if row[1] != "plain"}) == 2


def test_a_wrong_text_tower_fails_jobs(in_process, wrong_tower, few_images, stopped):
    message = stopped(evaluation.main, *few_images, "--runs", "1")
    assert message.startswith("not the same results: accuracies of CoOp, all classes differ by")
    message = stopped(base2new.main, *few_images, "--", *JOB)
    assert re.match(r"not the same results: accuracies of CoOp, (base|new) classes differ", message)


RESULTS = {
    "trainer": "CoOp", "classes": "new", "data": "d", "total": 8, "num_classes": 2, "epoch": 1,
    "accuracy": 50.0, "checkpoint": "c", "seconds": {"train": 1.0}, "memory": {"process_gib": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("way", "change", "message"),
    [
        ("views", {"checkpoint": "other"}, "CoOp, new classes: checkpoint (views)"),
        ("plain", {"accuracy": 50.6}, "accuracies of CoOp, new classes differ by 6.0e-01"),
        ("plain", {"data": "other"}, "CoOp, new classes: data other and d"),
    ],
)
def test_results_of_another_way_are_refused(way, change, message):
    taken = {"seconds": {"train": 9.0}, "memory": {"process_gib": 9}}
    for more, refused in ((taken, False), (taken | change, True)):
        outcome = {("ours", "CoOp"): (1.0, [RESULTS]), (way, "CoOp"): (1.0, [RESULTS | more])}
        if not refused:
            base2new.check_results(outcome, ["views"], ["plain"])
            continue
        with pytest.raises(SystemExit, match=re.escape(message)):
            base2new.check_results(outcome, ["views"], ["plain"])


def test_a_profile_adds_up_to_the_whole_process(in_process, few_images, capsys, tmp_path):
    words = ["base2new", "--trainer", "ProGrad", "--seed", "1", *few_images]
    profile_job.main([*words, "--", *JOB, "CACHE.DIR", str(tmp_path)])
    first, second = capsys.readouterr().out.split("\n\n")
    rows = [line.rsplit(maxsplit=2) for line in first.splitlines()[3:]]
    names = [name.strip() for name, *_ in rows]
    assert names[-1] == "whole process" and rows[-1][2] == "100.0"
    assert {"load CLIP", "image tower", "decode + augment", "backward", "checkpoints"} <= set(names)
    assert sum(float(seconds) for _, seconds, _ in rows[:-1]) == pytest.approx(
        float(rows[-1][1]), abs=0.01 * len(rows)
    )
    assert "44 images were encoded" in second  # 2 classes x 2 for training, 4 classes x 10 tested


def test_a_profile_of_the_plain_way_has_its_stages(in_process, few_images, capsys):
    words = ["base2new", "--plain", "--trainer", "CoOp", "--seed", "1", *few_images]
    profile_job.main([*words, "--", *JOB])
    shown = capsys.readouterr().out
    assert "text tower, forward" in shown and "floor" not in shown


@pytest.fixture
def attended(monkeypatch) -> list[int]:
    """The operations of each attention, which is not computed: versions of torch count it in
    different ways, or not at all."""
    found = []

    def attend(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):
        pairs = torch.ones(*q.shape[:-1], k.shape[-2], dtype=torch.bool)  # a query sees a key
        pairs = pairs.tril() if is_causal else pairs
        pairs = pairs if attn_mask is None else pairs & (attn_mask == 0)
        found.append(2 * 2 * int(pairs.sum()) * q.shape[-1])  # two products
        return q + (k + v).mean(dim=-2, keepdim=True)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    return found


# of names that are equally long the average is exact
@pytest.mark.parametrize(("classes", "lengths", "most"), [(8, 1, 0.0), (20, 2, 0.01)])
def test_operations_are_those_that_torch_counts(attended, classes, lengths, most):
    side = TextSide(classes, size="small")
    prefix, suffix, layout = side.learner()
    assert len(set(layout.lengths)) == lengths
    numbers = (len(prefix), len(suffix), classes, 1)
    with FlopCounterMode(display=False) as counter:
        features = side.clip.text(prefix, suffix, layout)
        forward = counter.get_total_flops()
        features.sum().backward()
    text, attention = side.clip.text, sum(attended)
    assert flops.text_flops(text, *numbers, False) == pytest.approx(forward + attention, rel=most)
    # each product of attention has two in the backward pass; one with frozen weights has one
    both = counter.get_total_flops() + 3 * attention
    assert flops.text_flops(text, *numbers, True) == pytest.approx(both, rel=most)
    attended.clear()
    with FlopCounterMode(display=False) as counter:
        side.clip.encode_image(torch.zeros(1, 3, 32, 32))
    total = counter.get_total_flops() + sum(attended)
    assert len(attended) == 1 and flops.image_flops(side.clip.visual) == total


def test_growth_is_told_as_a_power():
    assert growth.growth([10, 1000], [1.0, 10.0]) == (
        "100 times as many take 10.00 times as long (power 0.50)"
    )


def test_pools_have_as_many_templates_as_asked_for(tmp_path, stopped):
    for count in (1, 36, 200):
        assert len(load_pool(str(growth.write_pool(tmp_path, count)), "dtd")) == count
    assert "--teachers 1000: at most" in stopped(lambda _: growth.write_pool(tmp_path, 1000))


def test_growth_prints_a_table_for_every_axis(capsys):
    words = ["--size", "small", "--runs", "1", "--teachers", "2", "4", "--picked", "1", "2"]
    words += ["--classes", "4", "8", "--images", "2", "4", "--files", "16", "32"]
    growth.main([*words, "--pixels", "48", "36", "--image-size", "32"])
    shown = capsys.readouterr().out
    assert re.findall(r"^With (.*?): 2 times as many", shown, flags=re.MULTILINE) == [
        *("H, teachers", "K, picked teachers", "C, classes", "B, images of a batch"),
        "the number of files",
    ]


def test_pictures_are_as_heavy_as_photographs_and_always_the_same(tmp_path: Path):
    folder = write_folder(tmp_path, ["a", "b"], 2, 1)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    assert files == [
        *("test/a/00000.jpg", "test/b/00000.jpg", "train/a/00000.jpg", "train/a/00001.jpg"),
        *("train/b/00000.jpg", "train/b/00001.jpg"),
    ]
    sizes = {(folder / file).stat().st_size for file in files}
    assert len(sizes) == 6 and min(sizes) > 35_000 and max(sizes) < 80_000
    pixels = np.asarray(picture(5)).astype(float)
    assert pixels.shape == (SIZE[1], SIZE[0], 3) and np.array_equal(pixels, picture(5))
    beside = np.corrcoef(pixels[:, 1:].ravel(), pixels[:, :-1].ravel())[0, 1]
    assert 0.9 < beside < 0.999 and pixels.std() > 40  # neither noise nor flat


def test_the_plain_way_ends_with_its_block():
    from trainers.backbones import clip_model

    before = clip_model.FrozenCLIP
    with job.plain_path():
        assert clip_model.FrozenCLIP is not before
    assert clip_model.FrozenCLIP is before


def test_steps_with_pools_are_whole_steps_of_the_embedded_world(data_root, capsys):
    pool_step.main(["--rounds", "1", "--data", str(data_root)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line[:5] == "scale"]
    assert [(name, H) for name, H, *_ in rows] == [
        ("scale_description_h12", "12"),
        ("scale_description_h200", "200"),
    ]
    assert rows[0][-2:] == ["1.00", "1.00"] and all(float(x) > 0 for x in rows[1][2:])
