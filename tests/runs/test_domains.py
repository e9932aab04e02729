"""Domains on the command line: refused where nothing reads them."""

from __future__ import annotations

import pytest

from datasets.shapes import Shapes
from runs.config import build_parser, setup_cfg
from trainers.coop import CoOp


@pytest.mark.parametrize(("flag", "key"), [("source", "SOURCE"), ("target", "TARGET")])
@pytest.mark.parametrize("as_flag", [True, False])
def test_domains_that_nothing_reads_are_refused_by_name(job, refused, flag, key, as_flag):
    words = job("CoOp")
    if as_flag:
        words = [f"--{flag}-domains", "art", "photo", *words]
    else:
        words += [f"DATASET.{key}_DOMAINS", "('art', 'photo')"]
    assert refused(words) == (
        f"DATASET.{key}_DOMAINS (--{flag}-domains) is art, photo, but neither Shapes nor CoOp "
        "reads it: leave it out (a class of your own that does says reads_domains = True)"
    )


@pytest.mark.parametrize("reader", [Shapes, CoOp])
def test_a_dataset_or_a_method_that_reads_them_gets_them(job, monkeypatch, reader):
    monkeypatch.setattr(reader, "reads_domains", True)
    cfg = setup_cfg(build_parser().parse_args(["--source-domains", "art", *job("CoOp")]))
    assert list(cfg.DATASET.SOURCE_DOMAINS) == ["art"]


def test_a_class_that_does_not_say_may_read_them(job, monkeypatch):
    monkeypatch.setattr("runs.config.DATASET_REGISTRY.get", lambda name: type(name, (), {}))
    cfg = setup_cfg(build_parser().parse_args(["--target-domains", "art", *job("CoOp")]))
    assert list(cfg.DATASET.TARGET_DOMAINS) == ["art"]
