"""Published datasets on a server of this machine, and a dataset of the tests' own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from dassl.data.datasets import DATASET_REGISTRY
from datasets import counts
from datasets.counts import COUNTS, Counts
from datasets.splits import PARTS
from tests.tools.data.archives import picture
from tests.tools.data.local_server import File, serving
from tests.tools.data.published import FILES, SPLIT_DIGESTS
from tests.tools.data.toy import Toy, ToyTestOnly
from tools.data import checks, download
from tools.data.parts import Images, Part, Source
from tools.data.sources import SOURCES


@pytest.fixture
def server(monkeypatch):
    """The real table of sources, but two images are complete, and this server has the files."""
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    with serving() as server:
        for stem, source in SOURCES.items():
            changed = []
            for part in source.parts:
                body = FILES.get(part.file, b"")
                path = f"/{stem}/{part.file}"
                server.files[path] = File(body)
                digest = f"md5:{hashlib.md5(body).hexdigest()}"
                changed.append(
                    replace(
                        part,
                        urls=(server.url(path),) if part.urls else (),
                        digest=digest if part.digest else "",
                        published=digest if part.published else "",
                        images=part.images and replace(part.images, count=2),
                        size=len(body),
                    )
                )
            monkeypatch.setitem(SOURCES, stem, replace(source, parts=tuple(changed)))
        for name in counts.DIGESTS:
            monkeypatch.setitem(counts.DIGESTS, name, SPLIT_DIGESTS)
        yield server


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A whole dataset of 3 classes, 5 images each, that the tools know; its folder."""
    for reader in (Toy, ToyTestOnly):
        monkeypatch.setitem(DATASET_REGISTRY._obj_map, reader.__name__, reader)
    monkeypatch.setitem(COUNTS, "Toy", Counts(3, 9, 3, 3))
    source = Source(
        "Toy",
        (
            Part(
                "toy.zip",
                images=Images("images", 15),
                urls=("http://127.0.0.1:9/toy.zip",),
                content=("images",),
                by_hand="https://toy.example",
            ),
            Part(
                "split_zhou_Toy.json",
                files=("split_zhou_Toy.json",),
                how="file",
                by_hand="https://split.example",
            ),
        ),
    )
    monkeypatch.setitem(SOURCES, "toy", source)
    monkeypatch.setattr(checks, "known_datasets", lambda: {"toy": "Toy", "shapes": "Shapes"})
    folder = tmp_path / "toy"
    lists: dict[str, list] = {split: [] for split in PARTS}
    for label, name in enumerate(("ant", "bee", "cat")):
        (folder / "images" / name).mkdir(parents=True)
        for i, split in enumerate(("train",) * 3 + ("val", "test")):
            path = f"images/{name}/{i}.jpg"
            (folder / path).write_bytes(picture((80 * label, 50 * i, 0)))
            lists[split].append([path, label, name])
    (folder / "split_zhou_Toy.json").write_text(json.dumps(lists))
    return folder
