"""The table of sources: torchvision's addresses, the readers' folders, the page of the docs."""

from __future__ import annotations

import inspect
import re

import pytest
import yaml
from torchvision import datasets as tv

from dassl.data.datasets import DATASET_REGISTRY
from datasets.counts import COUNTS
from runs.config import REPOSITORY
from tools.data import preparation
from tools.data.parts import is_split
from tools.data.place import DEVKIT
from tools.data.sources import SOURCES


def test_addresses_and_digests_are_those_of_torchvision():
    known = {part.file: part for source in SOURCES.values() for part in source.parts}

    def given(name):
        return known[name].urls, known[name].digest

    for url, md5 in tv.OxfordIIITPet._RESOURCES:
        assert given(url.rpartition("/")[2]) == ((url,), f"md5:{md5}")
    for kind in ("image", "label"):
        name, md5 = tv.Flowers102._file_dict[kind]
        assert given(name) == ((tv.Flowers102._download_url_prefix + name,), f"md5:{md5}")
    for reader in (tv.Food101, tv.DTD):
        name = reader._URL.rpartition("/")[2]
        assert given(name) == ((reader._URL,), f"md5:{reader._MD5}")
    assert known["fgvc-aircraft-2013b.tar.gz"].urls == (tv.FGVCAircraft._URL,)
    assert known["SUN397.tar.gz"].digest == f"md5:{tv.SUN397._DATASET_MD5}"
    for name, reader in (("caltech-101.zip", tv.Caltech101), ("EuroSAT.zip", tv.EuroSAT)):
        (url,), digest = given(name)
        source = inspect.getsource(reader.download)
        if name == "caltech-101.zip" and "drive.google.com" in source:
            continue  # older ones have copies of other archives
        assert f'"{url}"' in source
        assert f'"{digest.removeprefix("md5:")}"' in source
    for kind, part in (("train", "ILSVRC2012_img_train.tar"), ("val", "ILSVRC2012_img_val.tar")):
        assert tv.imagenet.ARCHIVE_META[kind] == (part, known[part].digest.removeprefix("md5:"))
    assert tv.imagenet.ARCHIVE_META["devkit"][0] == DEVKIT


def test_every_part_says_where_a_person_gets_it_and_names_are_unique():
    for stem, source in SOURCES.items():
        files = [part.file for part in source.parts]
        assert len(set(files)) == len(files), stem
        for part in source.parts:
            assert "https://" in part.by_hand, part.file
            assert part.images or part.files, part.file
            assert part.how != "archive" or part.content, part.file
            if part.how == "file":
                assert part.files == (part.file,)


@pytest.mark.parametrize("stem", SOURCES)
def test_a_source_fits_its_reader(stem):
    config = REPOSITORY / "configs" / "datasets" / f"{stem}.yaml"
    source = SOURCES[stem]
    assert yaml.safe_load(config.read_text())["DATASET"]["NAME"] == source.reader
    _, *published = COUNTS[source.reader]
    images = sum(part.images.count for part in source.parts if part.images)
    assert images == sum(number or 0 for number in published)
    splits = [part.file for part in source.parts if is_split(part.file)]
    assert splits in ([], [f"split_zhou_{source.reader}.json"])
    reader = DATASET_REGISTRY.get(source.reader)
    places = {f"images/{part}" for part in ("train", "val")}
    if stem != "imagenet":
        places = {
            f"{reader.image_dir}/{root}".strip("/") for root in getattr(reader, "roots", [""])
        }
    assert {part.images.folder for part in source.parts if part.images} == places


def test_the_page_says_what_the_table_of_sources_says():
    text = (REPOSITORY / "docs" / "prepare_data.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `([\w-]+)` \| (yes|partly) \| (.*?) \|", text, re.MULTILINE)
    assert [row[:3] for row in rows] == [
        (stem, source.folder, preparation.automatic(source)) for stem, source in SOURCES.items()
    ]
    for stem, _, _, by_hand in rows:
        files = {part.file for part in SOURCES[stem].parts if part.only_by_hand}
        named = set(re.findall(r"`([\w.]+)`", by_hand))
        assert named == files | ({DEVKIT} if stem == "imagenet" else set())
