"""Texts of datasets in other encodings, and names that are no text."""

from __future__ import annotations

import os

import pytest

from datasets.errors import DatasetError
from datasets.files import read_json, read_lines, read_text
from datasets.imagenet import read_classnames
from datasets.own import Csv, Folder, run_name, split_name
from datasets.splits import digest, read_split
from tests.datasets.conftest import touch
from tools.data.checks import check

TEXT = '{"name":\n "café"}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_makes_no_difference(tmp_path, encoding):
    path = tmp_path / "x"
    path.write_text(TEXT, encoding=encoding)
    assert read_text(path) == TEXT and read_json(path) == {"name": "café"}
    path.write_text("n01 café\r\nn02 owl\rn03 jay\n", encoding=encoding, newline="")
    assert read_classnames(path) == {"n01": "café", "n02": "owl", "n03": "jay"}


@pytest.mark.parametrize(
    ("encoding", "line", "guess"),
    [("latin-1", 2, "LATIN1"), ("utf-16", 1, "UTF-16"), ("utf-16-le", 1, "UTF-16LE")],
)
def test_another_encoding_is_told_with_its_line_and_how_to_convert(tmp_path, encoding, line, guess):
    path = tmp_path / "a file"
    path.write_text(TEXT, encoding=encoding)
    for read in (read_text, read_json, read_lines, read_classnames, lambda p: read_split(p, p)):
        with pytest.raises(DatasetError) as error:
            read(path)
        assert str(error.value) == (
            f"{path}, line {line}: not text in UTF-8. Convert the file, from {guess} as it seems: "
            f"iconv -f {guess} -t UTF-8 '{path}' > new && mv new '{path}'"
        )


def test_a_table_in_latin_1_is_told_with_its_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("path,classname\n1.jpg,owl\n2.jpg,café\n", encoding="latin-1")
    with pytest.raises(DatasetError, match=r"x\.csv, line 3: not text in UTF-8\. Convert"):
        Csv.read(str(path))


@pytest.mark.parametrize(
    ("index", "text", "message"),
    [
        (0, "a\ud800.jpg", "test[3] is 'a\\ud800.jpg': no file can have this name on this system"),
        (2, "ow\ud800l", "class names with characters that are no text: 'ow\\ud800l'. Write them"),
    ],
)
def test_lone_surrogates_in_a_split_file_are_named(textures, index, text, message):
    for entry in textures.split["test"]:
        if entry[0] == textures.split["test"][3][0] or index == 2 and entry[1] == 1:
            entry[index] = text
    for entry in textures.split["train"] + textures.split["val"] if index == 2 else ():
        entry[2] = text if entry[1] == 1 else entry[2]
    textures.write()
    assert r"\ud800" in textures.file.read_text()
    assert message in textures.refusal()


def test_image_names_in_any_encoding_are_read_and_class_names_are_not(tmp_path):
    for name in (b"owl", b"jay"):
        for number in range(4):
            touch(tmp_path, [os.fsdecode(b"good/%s/caf\xe9%d.png" % (name, number))])
            touch(tmp_path, [os.fsdecode(b"bad/%s\xe9/%d.png" % (name, number))])
    split = Folder.read(str(tmp_path / "good"))
    assert all("/caf\udce9" in item.impath for item in split.train)
    assert len(digest(split.train)) == 64
    told = r"class names with characters that are no text: 'jay\udce9', 'owl\udce9'. Write them in"
    with pytest.raises(DatasetError) as error:
        Folder.read(str(tmp_path / "bad"))
    assert told in str(error.value)
    assert told in check(f"folder:{tmp_path / 'bad'}", tmp_path).problems[0].what


def test_a_path_in_any_encoding_has_a_name_for_its_runs():
    assert run_name("folder:/x/caf\udce9").startswith("folder-caf-")
    assert run_name("folder:/x/caf\udce9") != run_name("folder:/x/caf\udcea")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("~nosuchuser/x", "there is no home folder ~nosuchuser: write the whole path"),
        ("a\0b", "a path has no NUL characters"),
        ("a\ud800", "no file or folder can have this name here"),
    ],
)
def test_what_cannot_be_a_path_is_told(path, why):
    with pytest.raises(DatasetError) as error:
        split_name(f"folder:{path}")
    assert str(error.value) == f'"folder:{path}": {why}'
    with pytest.raises(DatasetError) as error:
        Csv.read(path)
    assert str(error.value).startswith(f"Csv: DATASET.PATH is {path!r}: {why}\nExpected: ")


def test_files_that_are_no_images_are_counted_by_suffix(tmp_path, capsys):
    for name in ("owl", "jay"):
        touch(tmp_path / "birds" / name, [f"{number}.JPG" for number in range(4)])
    touch(tmp_path / "birds/owl", ["a.heic", "b.HEIC", "Thumbs.db", "noname", ".hidden"])
    note = "files left out, no images by their suffix: 2 .heic, 1 .db, 1 without a suffix"
    assert Folder.read(str(tmp_path / "birds")).notes == (note,)
    assert note in check(f"folder:{tmp_path / 'birds'}", tmp_path).notes
    touch(tmp_path / "birds/new", ["a.heic", "b.avif"])
    with pytest.raises(DatasetError) as error:
        Folder.read(str(tmp_path / "birds"))
    assert (
        f"the class folder {tmp_path}/birds/new has no images (files left out, no images by their "
        "suffix: 1 .heic, 1 .avif): add some, or delete the folder"
    ) in str(error.value)
