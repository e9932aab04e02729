"""What is there already: linked, used, or told as damaged, and never overwritten."""

from __future__ import annotations

import json
import os

import pytest

from tests.tools.data.published import ARCHIVES, CLASSNAMES, SPLIT, SPLIT_JSON, run, tree
from tools.data.place import count_images
from tools.data.sources import SOURCES


def test_a_tree_of_torchvision_is_linked(server, capsys, tmp_path):
    for archive, top in (("images.tar.gz", "images"), ("annotations.tar.gz", "annotations")):
        for name, content in ARCHIVES[archive].items():
            path = tmp_path / "oxford-iiit-pet" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert (tmp_path / "oxford-iiit-pet" / top).is_dir()
    run(capsys, "oxford_pets", "--data", str(tmp_path))
    assert server.requests == []
    assert os.readlink(tmp_path / "oxford_pets" / "images") == "../oxford-iiit-pet/images"
    assert (tmp_path / "oxford_pets/annotations/test.txt").read_bytes() == b"pug_2 1 1 1\n"


def test_an_incomplete_tree_of_torchvision_is_not_linked(server, capsys, tmp_path):
    (tmp_path / "dtd/dtd/images/banded").mkdir(parents=True)
    (tmp_path / "dtd/dtd/images/banded/banded_0001.jpg").write_bytes(b"only one")
    run(capsys, "dtd", "--data", str(tmp_path))
    assert not (tmp_path / "dtd/images").is_symlink()
    assert tree(tmp_path / "dtd/images") == {"banded/banded_0001.jpg": b"1",
                                             "zigzagged/zigzagged_0001.jpg": b"2"}  # fmt: skip
    assert (tmp_path / "dtd/dtd/images/banded/banded_0001.jpg").read_bytes() == b"only one"


def test_a_tree_one_folder_too_deep_is_not_downloaded_again(server, capsys, tmp_path):
    for name, content in ARCHIVES["EuroSAT.zip"].items():
        path = tmp_path / "eurosat/2750" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "eurosat/split_zhou_EuroSAT.json").write_bytes(SPLIT_JSON)
    told = f"its images lie one folder too deep: mv {tmp_path}/eurosat/2750/2750/* "
    assert told in run(capsys, "eurosat", "--dry-run", "--data", str(tmp_path))
    assert told in run(capsys, "eurosat", "--data", str(tmp_path), code=1)
    assert server.requests == []


def test_a_variant_uses_the_names_of_imagenet(server, capsys, tmp_path):
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "classnames.txt").write_bytes(CLASSNAMES)
    planned = run(capsys, "imagenet_a", "--dry-run", "--data", str(tmp_path))
    assert "  classnames.txt: is there\n" in planned  # though its own folder is not
    run(capsys, "imagenet_a", "--data", str(tmp_path))
    assert tree(tmp_path / "imagenet-adversarial") == ARCHIVES["imagenet-a.tar"]
    assert [path for path, _ in server.requests] == ["/imagenet_a/imagenet-a.tar"]


@pytest.mark.parametrize(
    ("stem", "file", "content", "message"),
    [
        (
            "dtd",
            "split_zhou_DescribableTextures.json",
            b'{"train": []}',
            "expected the keys train, val and test",
        ),
        ("dtd", "split_zhou_DescribableTextures.json", b"[1, 2", "is not valid JSON"),
        (
            "dtd",
            "split_zhou_DescribableTextures.json",
            json.dumps(SPLIT | {"val": []}).encode(),
            "does not list the images of the published split",
        ),
        (
            "imagenet_a",
            "classnames.txt",
            b"n1 one\nn0 zero\n",
            "has 2 classes, expected 1000, sorted",
        ),
        (
            "imagenet_a",
            "classnames.txt",
            b"".join(reversed(CLASSNAMES.splitlines(keepends=True))),
            "has 1000 classes, expected 1000, sorted by wnid: delete it, and get it from",
        ),
        ("imagenet_a", "classnames.txt", b"n0\n", "line 1: expected `<wnid> <name>`, found 'n0'"),
    ],
)
def test_a_list_with_another_content_does_not_move_in(
    server, capsys, tmp_path, stem, file, content, message
):
    server.files[f"/{stem}/{file}"].body = content
    shown = run(capsys, stem, "--data", str(tmp_path), code=1)
    assert message in shown
    assert f"{tmp_path}/downloads/{stem}/{file}" in shown
    assert not (tmp_path / SOURCES[stem].folder / file).exists()


@pytest.mark.parametrize(
    ("stem", "file", "content", "why"),
    [
        ("dtd", "split_zhou_DescribableTextures.json", b"{", "{} is not valid JSON: "),
        (
            "dtd",
            "split_zhou_DescribableTextures.json",
            json.dumps(SPLIT | {"val": []}).encode(),
            "{} does not list the images of the published split)",
        ),
        ("oxford_flowers", "imagelabels.mat", b"junk", "imagelabels.mat is damaged, or another"),
        ("oxford_flowers", "cat_to_name.json", b"\xff", "{}, line 1: not text in UTF-8. "),
        ("imagenet_a", "classnames.txt", b"junk\n", "{}, line 1: expected `<wnid> <name>`, "),
    ],
)
def test_a_small_file_that_is_damaged_is_told_and_kept_until_it_is_moved_away(
    server, capsys, tmp_path, stem, file, content, why
):
    run(capsys, stem, "--data", str(tmp_path))
    path = tmp_path / SOURCES[stem].folder / file
    good = path.read_bytes()
    path.write_bytes(content)
    before = tree(tmp_path)
    command = f"python -m tools.prepare_data {stem} --data {tmp_path}"
    for flag in ((), ("--dry-run",), ("--repair",)):
        shown = run(capsys, stem, "--data", str(tmp_path), *flag, code=1)
        told = shown.partition("error: left undone:\n")[2]
        assert told.startswith(
            f"  - {stem}, {file}: {file} is there but damaged ({why.format(path)}"
        )
        assert told.endswith(f"): move it away: mv {path} {path}.damaged && {command}\n")
        assert f"  {file}: is there\n" not in shown
        assert tree(tmp_path) == before
    path.rename(f"{path}.damaged")
    run(capsys, stem, "--data", str(tmp_path))
    assert path.read_bytes() == good
    path.write_bytes(content)  # once more: what was moved away stays
    shown = run(capsys, stem, "--data", str(tmp_path), code=1)
    assert f"mv {path} {path}.damaged1 && " in shown


def test_a_damaged_file_that_stands_for_another_is_told(server, capsys, tmp_path):
    (tmp_path / "imagenet").mkdir()
    names = tmp_path / "imagenet/classnames.txt"
    names.write_text("junk\n")
    shown = run(capsys, "imagenet_a", "--data", str(tmp_path), code=1)
    assert f": move it away: mv {names} {names}.damaged && python -m tools.prepare_data" in shown
    (tmp_path / "imagenet-adversarial/classnames.txt").write_bytes(CLASSNAMES)  # goes first
    run(capsys, "imagenet_a", "--data", str(tmp_path))
    split = tmp_path / "oxford_flowers/split_zhou_OxfordFlowers.json"
    split.parent.mkdir()
    split.write_bytes(SPLIT_JSON)
    (split.parent / "imagelabels.mat").write_bytes(b"nobody reads it beside a split file")
    run(capsys, "oxford_flowers", "--data", str(tmp_path))


def test_a_damaged_file_of_another_tool_is_not_linked(server, capsys, tmp_path):
    (tmp_path / "food101").mkdir()
    (tmp_path / "food101/split_zhou_Food101.json").write_text("{")
    run(capsys, "food101", "--data", str(tmp_path))
    path = tmp_path / "food-101/split_zhou_Food101.json"
    assert (path.is_symlink(), path.read_bytes()) == (False, SPLIT_JSON)


def test_images_are_counted_at_their_depth(tmp_path):
    for name in (
        "1.jpg",
        "a/2.JPEG",
        "a/b/3.png",
        "a/b/c/4.jpg",
        "a/.5.jpg",
        ".h/6.jpg",
        "a/7.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [count_images(tmp_path, depths) for depths in ((0,), (1,), (2, 3), (0, 2))] == [
        1,
        1,
        2,
        2,
    ]
    assert count_images(tmp_path / "nowhere", (0,)) == 0
    assert count_images(tmp_path / "1.jpg", (0,)) == 0
