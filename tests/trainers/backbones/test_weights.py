"""Weights are found by name and path, and told apart by what is in their file."""

from __future__ import annotations

import hashlib
import os

import clip
import pytest
import torch

from benchmarks.reference import plain_clip
from trainers.backbones import weights
from trainers.backbones.clip_model import load_clip
from trainers.backbones.precision import resolve_precision
from trainers.backbones.weights import find_weights, weights_digest
from trainers.errors import MethodError

CPU = resolve_precision("fp32", "cpu")
SMALL = {"text_width": 64, "text_layers": 1, "resolution": 32, "patch": 16, "width": 64}


def test_a_name_is_downloaded_by_clip_into_its_cache(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    torch.save(plain_clip(**SMALL, layers=1).state_dict(), path)
    asked = []
    monkeypatch.setattr(
        clip.clip, "_download", lambda url, root: asked.append((url, root)) or str(path)
    )
    assert load_clip("ViT-B/16", CPU).resolution == 32
    ((url, root),) = asked
    assert url.endswith("ViT-B-16.pt") and root.endswith(".cache/clip")


def test_the_digest_of_a_name_that_every_clip_knows_needs_no_clip(monkeypatch):
    assert {"RN50", "ViT-B/16"} <= set(weights.NAMES) <= set(clip.available_models())
    monkeypatch.setattr(weights, "_known", lambda: pytest.fail("has loaded clip"))
    assert [weights_digest(name) for name in weights.NAMES] == list(weights.NAMES)


def test_a_failed_download_says_where_to_put_the_file(monkeypatch):
    def offline(url, root):
        raise OSError("no route to host")

    monkeypatch.setattr(clip.clip, "_download", offline)
    with pytest.raises(MethodError) as error:
        load_clip("RN50", CPU)
    for part in ("RN50", "no route to host", "RN50.pt", ".cache/clip"):
        assert part in str(error.value)


def test_relative_paths_are_tried_in_the_working_folder_then_in_the_repository(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert find_weights("assets/shapes_clip.pt").is_file()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/shapes_clip.pt").write_bytes(b"mine")
    assert find_weights("assets/shapes_clip.pt").read_bytes() == b"mine"


def test_a_weights_file_is_hashed_once_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"abc")
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: hashed.append(a) or real(*a))
    # sha256 of "abc" (FIPS 180-2) and of "abcd"
    assert [weights_digest(str(path)) for _ in range(3)] == ["ba7816bf8f01"] * 3
    assert len(hashed) == 1
    path.write_bytes(b"abcd")
    assert weights_digest(str(path)) == "88d4266fd4e6"
    assert len(hashed) == 2
    path.write_bytes(b"abce")  # as many bytes, but later
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 1))
    assert weights_digest(str(path)) == hashlib.sha256(b"abce").hexdigest()[:12]


def test_weights_are_read_once_until_their_file_changes_and_towers_are_copies(
    tmp_path, monkeypatch
):
    path = tmp_path / "weights.pt"
    model = plain_clip(**SMALL, layers=1)
    torch.save(model.state_dict(), path)
    monkeypatch.setattr(weights, "_last", None)
    read, reads = weights._read, []
    monkeypatch.setattr(weights, "_read", lambda path: reads.append(path) or read(path))
    load_clip(str(path), CPU), load_clip(str(path), CPU)
    assert len(reads) == 2  # nothing is kept unless asked for
    weights.keep_last()
    first = load_clip(str(path), CPU)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.fill_(7.0)  # as a method that trains the towers would
    second = load_clip(str(path), CPU)
    assert len(reads) == 3
    assert torch.equal(second.text.positional_embedding, model.positional_embedding)
    with torch.no_grad():
        model.positional_embedding.add_(1.0)
    torch.save(model.state_dict(), path)
    third = load_clip(str(path), CPU)
    assert len(reads) == 4 and torch.equal(
        third.text.positional_embedding, model.positional_embedding
    )
