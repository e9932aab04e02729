"""`benchmarks.kernels`, with a small CLIP."""

from __future__ import annotations

import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks import kernels
from benchmarks.kernels import Counting, Kernels, all_lengths, class_lists
from datasets.counts import COUNTS
from datasets.eurosat import NAMES
from trainers.backbones.text_tower import TextTower
from trainers.backbones.tokens import encode

SMALL = ("--size", "small", "--images", "4")
LISTS = {"one": [2], "alike": [3] * 5, "all lengths": [*range(1, 20)], "many": [1, 2, 3, 7] * 30}


def names_of(lengths: list[int]) -> list[str]:
    return [" ".join(["oak"] * n) for n in lengths]


def test_the_lists_are_those_of_the_eleven_datasets():
    lengths = all_lengths()
    assert len(lengths) == 11
    assert {name: len(found) for name, found in lengths.items()} == {
        name: COUNTS[name].classes for name in lengths
    }
    # the dot that ends a prompt may join the last letters of a name
    assert lengths["EuroSAT"] == [len(encode(f"{name}.")) - 1 for name in NAMES.values()]


def test_base_is_the_first_half_rounded_up():
    found = {which: names for _, which, names in class_lists(["OxfordPets"], ["base", "all"])}
    assert len(found["base"]) == 19 and found["all"][:19] == found["base"]
    assert [len(encode(name)) for name in found["all"]] == all_lengths()["OxfordPets"]


def test_what_computes_is_counted_and_what_views_or_reserves_is_not():
    x = torch.ones(2, 3)
    with Kernels() as found:
        y = torch.empty(2, 3)
        y.copy_(x).view(3, 2).transpose(0, 1)
        (x.relu()[:1] + 1).sum().detach()
    assert dict(found.found) == {"aten::copy_": 1, "aten::relu": 1, "aten::add": 1, "aten::sum": 1}
    assert found.total == 4 and found.transfers == 0


def test_numbers_that_the_host_reads_are_transfers_one_for_each_tensor():
    with FakeTensorMode():
        a, b = torch.ones(3), torch.ones(())
        with Kernels() as found:
            a.tolist()
            b.item()
            bool(b > 0)
    assert found.transfers == 3


@pytest.mark.parametrize("lengths", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("method", ["CoOp", "CoCoOp", "ProGrad"])
def test_ours_launches_fewer_kernels_than_the_plain_way_for_any_list(method, lengths):
    with FakeTensorMode():
        counting = Counting("small", images=2)
        plain, ours, again = (
            counting.count(way, method, names_of(lengths)) for way in ("plain", "ours", "ours")
        )
    assert ours == again
    assert ours.kernels < plain.kernels
    assert plain.transfers == ours.transfers == 0
    assert ours.tokens <= (1.3 if len(lengths) >= 100 else 1.8) * ours.needed
    sets = 2 if method == "CoCoOp" else 1
    assert plain.tokens == 77 * len(lengths) * sets


@pytest.mark.parametrize("way", ["plain", "ours"])
def test_without_content_as_many_kernels_are_counted_as_with_it(way):
    names = names_of([1, 4, 2])
    with FakeTensorMode():
        fake = Counting("small", images=4).count(way, "MoPD", names)
    real = Counting("small", images=4).count(way, "MoPD", names)
    assert (real.kernels, real.tokens, real.needed) == (fake.kernels, fake.tokens, fake.needed)


def test_a_table_for_each_method_and_code_1_above_the_bound(capsys, stopped):
    words = (*SMALL, "--methods", "CoCoOp", "CoOp", "--datasets", "EuroSAT", "--lists", "base")
    kernels.main([*words, "--at-most", "1"])
    shown = capsys.readouterr().out
    assert re.findall(r"^(\w+):$", shown, flags=re.MULTILINE) == ["CoCoOp", "CoOp"]
    rows = re.findall(r"^EuroSAT, base +5 .* (\d\.\d\d) ", shown, flags=re.MULTILINE)
    assert len(rows) == 2 and all(float(ratio) <= 1.8 for ratio in rows)
    message = stopped(kernels.main, *words, "--at-most", "0.1")
    assert re.fullmatch(r"too many:\nCoOp, EuroSAT, base: 0\.\d\d kernels, not 0\.1", message)


def test_tokens_in_vain_are_above_the_bound(monkeypatch, stopped):
    """A tower that computes every class twice."""
    encode_once = TextTower._encode

    def twice(self, prefix, suffix, layout):
        encode_once(self, prefix, suffix, layout)
        return encode_once(self, prefix, suffix, layout)

    monkeypatch.setattr(TextTower, "_encode", twice)
    words = (*SMALL, "--methods", "CoOp", "--datasets", "EuroSAT", "--lists", "base")
    message = stopped(kernels.main, *words, "--at-most", "5")
    assert message == "too many:\nCoOp, EuroSAT, base: 2.00 tokens, not 1.8"
