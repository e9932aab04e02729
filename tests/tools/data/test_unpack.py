"""Archives are unpacked inside their folder or not at all; what is there stays as it is."""

from __future__ import annotations

import io
import stat
import sys
import tarfile
import zipfile

import pytest

from dassl.utils import UserError
from tests.tools.data.archives import make, make_tar, make_zip, tar_of, too_long_chain
from tools.data import unpack as module
from tools.data.unpack import merge, move, scratch, unpack


def tree(folder):
    """Content of each file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def place(tmp_path):
    """Write an archive; its path, and an empty folder to unpack it in."""

    def write(name, content):
        (tmp_path / name).write_bytes(content)
        (tmp_path / "out").mkdir()
        return tmp_path / name, tmp_path / "out"

    return write


FILES = {"a/one.jpg": b"1", "a/b/two.jpg": b"22", "three.txt": b""}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tgz"])
def test_all_files_arrive(place, name):
    archive, out = place(name, make(name, FILES))
    unpack(archive, out)
    assert tree(out) == FILES


def test_what_macs_add_is_left_out(place):
    junk = {"__MACOSX/a/._one.jpg": b"?", "a/._one.jpg": b"?", "a/.DS_Store": b"?"}
    archive, out = place("x.zip", make_zip(FILES | junk))
    unpack(archive, out)
    assert tree(out) == FILES


@pytest.mark.parametrize("outer", [make_zip, make_tar])
def test_only_the_inner_archive_is_unpacked(place, outer):
    inner = make_tar(FILES, compressed=True)
    archive, out = place("x", outer({"c/inner.tar.gz": inner, "c/other.tar": b"?"}))
    unpack(archive, out, inner="c/inner.tar.gz")
    assert tree(out) == FILES


def test_an_archive_without_the_inner_one_is_another_archive(place):
    archive, out = place("x.zip", make_zip(FILES))
    with pytest.raises(UserError, match="has no c/inner.tar.gz: it is another archive"):
        unpack(archive, out, inner="c/inner.tar.gz")


EVIL = ["../evil", "a/../../evil", "/evil", "a/../../../../../../../../evil"]


@pytest.mark.parametrize("name", [*EVIL, "a\\..\\evil", "C:/evil"])
def test_a_zip_that_leaves_its_folder_is_refused_before_anything_is_written(place, name):
    archive, out = place("x.zip", make_zip({"good.jpg": b"1", name: b"evil"}))
    with pytest.raises(UserError, match="is not unpacked: .*would lie outside"):
        unpack(archive, out)
    assert tree(out.parent) == {"x.zip": archive.read_bytes()}


@pytest.mark.parametrize("name", EVIL)
def test_a_tar_that_leaves_its_folder_is_refused(place, name):
    archive, out = place("x.tar", make_tar({"good.jpg": b"1", name: b"evil"}))
    if name.startswith("/"):  # tarfile takes off the slash: inside again, and harmless
        unpack(archive, out)
        assert tree(out) == {"good.jpg": b"1", "evil": b"evil"}
        return
    with pytest.raises(UserError, match="x.tar is not unpacked: .*outside"):
        unpack(archive, out)
    assert tree(out.parent) == {"x.tar": archive.read_bytes(), "out/good.jpg": b"1"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "good.jpg", "a/link.jpg"])
def test_a_tar_with_a_link_is_refused_wherever_it_leads(place, kind, target):
    good = ("good.jpg", tarfile.REGTYPE, b"1")
    archive, out = place("x.tar", tar_of(good, ("a/link.jpg", kind, target)))
    with pytest.raises(UserError, match='x.tar is not unpacked: "a/link.jpg" is a link'):
        unpack(archive, out)
    assert tree(out) == {"good.jpg": b"1"}


# what Python's own filter refuses since then
FIXED = {(3, 11): 13, (3, 12): 11, (3, 13): 4}


@pytest.mark.parametrize("inner", ["", "hard"])
def test_a_chain_of_links_too_long_for_a_path_leads_nowhere(place, inner):
    archive, out = place("x.tar", too_long_chain("victim"))
    victim = out.parent / "victim"
    victim.write_bytes(b"mine")
    with pytest.raises(UserError, match='x.tar is not unpacked: "[ah].*" is a link'):
        unpack(archive, out, inner)
    assert list(out.rglob("*")) == ([] if inner else [out / ("d" * 240)])
    assert victim.read_bytes() == b"mine" and victim.stat().st_nlink == 1
    if sys.version_info[2] < FIXED.get(sys.version_info[:2], 0):  # the attack is a real one
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(out, filter="data")
        except OSError:  # mended by a distribution that kept the version
            return
        assert victim.read_bytes() == b"evil"


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
@pytest.mark.parametrize("elsewhere", ["out/elsewhere", "elsewhere"])
def test_a_link_that_is_there_already_is_not_followed(place, name, elsewhere):
    archive, out = place(name, make(name, {"way/file.jpg": b"evil"}))
    folder = out.parent / elsewhere
    folder.mkdir()
    (out / "way").symlink_to(folder)
    with pytest.raises(UserError, match="is not unpacked: .way/file.jpg. would .* outside"):
        unpack(archive, out)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["C:evil", "a\\evil", "..\\evil", "a\0evil"])
def test_names_that_mean_something_elsewhere_are_refused_in_both(place, name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive_file:
        member = zipfile.ZipInfo("x")
        member.filename = name  # zipfile would cut it at a NUL
        archive_file.writestr(member, b"evil")
    contents = {"x.zip": file.getvalue()}
    if "\0" not in name:  # a tar ends its names with it
        contents["x.tar"] = make_tar({name: b"evil"})
    for file_name, content in contents.items():
        archive, out = place(file_name, content)
        with pytest.raises(UserError, match="is not unpacked: .* would lie outside"):
            unpack(archive, out)
        assert list(out.iterdir()) == []
        out.rmdir()


def test_a_tar_with_a_device_is_refused(place):
    archive, out = place("x.tar", tar_of(("pipe", tarfile.FIFOTYPE, "")))
    with pytest.raises(UserError, match="'pipe' is a special file"):
        unpack(archive, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "what"),
    [(stat.S_IFLNK, "link"), (stat.S_IFIFO, "special file"), (stat.S_IFCHR, "special file")],
)
def test_a_zip_with_what_is_no_file_is_refused_before_anything_is_written(place, kind, what):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive_file:
        archive_file.writestr("good.jpg", b"1")
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (kind | 0o777) << 16
        archive_file.writestr(link, "/etc/passwd")
    archive, out = place("x.zip", file.getvalue())
    with pytest.raises(UserError, match=f'x.zip is not unpacked: "link.jpg" is a {what}'):
        unpack(archive, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("mode", [0, stat.S_IFREG | 0o644, 0o644])
def test_a_zip_is_unpacked_whatever_says_that_it_holds_files(place, mode):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive_file:
        archive_file.mkdir("a")
        member = zipfile.ZipInfo("a/one.jpg")
        member.external_attr = mode << 16
        archive_file.writestr(member, b"1")
    archive, out = place("x.zip", file.getvalue())
    unpack(archive, out)
    assert tree(out) == {"a/one.jpg": b"1"}


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_an_archive_that_grows_beyond_measure_is_refused(place, monkeypatch, name):
    monkeypatch.setattr(module, "SLACK", 10_000)
    content = {"bomb.jpg": bytes(2_000_000)}
    if name.endswith("zip"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive_file:
            archive_file.writestr("bomb.jpg", content["bomb.jpg"])
        archive, out = place(name, file.getvalue())
    else:
        archive, out = place(name, make(name, content))
    with pytest.raises(UserError, match="far more than pictures grow"):
        unpack(archive, out)
    assert tree(out) == {}


def test_a_member_with_an_impossible_time_or_name_is_damage(tmp_path):
    member = tarfile.TarInfo("a.jpg")
    member.mtime = 1e30  # no clock goes that far
    with tarfile.open(tmp_path / "time.tar", "w") as tar:
        tar.addfile(member, io.BytesIO())
    unnamed = zipfile.ZipInfo()
    unnamed.filename = ""
    with zipfile.ZipFile(tmp_path / "name.zip", "w") as file:
        file.writestr(unnamed, b"1")
    for name in ("time.tar", "name.zip"):
        with (
            pytest.raises(UserError, match=f"{name} is damaged .*: delete it"),
            scratch(tmp_path / "out", name) as draft,
        ):
            unpack(tmp_path / name, draft)
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_archive_is_told_as_such(place, name, damage):
    whole = make(name, {f"{i}.jpg": bytes([i]) * 5000 for i in range(50)})
    content = {"cut": whole[: len(whole) // 2], "text": b"<html>no</html>" * 99, "empty": b""}
    archive, out = place(name, content[damage])
    with pytest.raises(UserError, match=f"{name} is damaged .*: delete it and run the command"):
        unpack(archive, out)


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz"])
def test_a_flipped_bit_is_noticed(place, name):
    import random

    noise = random.Random(1).randbytes(100_000)
    whole = bytearray(make(name, {"a.jpg": noise}))
    whole[len(whole) // 2] ^= 1
    archive, out = place(name, bytes(whole))
    with pytest.raises(UserError, match="is damaged"):
        unpack(archive, out)


def test_scratch_is_removed_after_success_after_failure_and_after_a_kill(tmp_path):
    left = tmp_path / "data" / ".unpacking-x"
    left.mkdir(parents=True)
    (left / "old").write_text("of a killed process")
    with scratch(tmp_path / "data", "x") as draft:
        assert list(draft.iterdir()) == []
        (draft / "new").write_text("")
    assert not left.exists()
    with pytest.raises(ZeroDivisionError), scratch(tmp_path / "data", "x") as draft:
        raise ZeroDivisionError
    assert list((tmp_path / "data").iterdir()) == []


def test_merge_adds_what_is_missing_and_keeps_what_is_there(tmp_path):
    for name, content in {"a/1": "new", "a/2": "new", "b/3": "new", "c": "new"}.items():
        (tmp_path / "draft" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "draft" / name).write_text(content)
    for name in ("a/1", "a/own", "b"):
        (tmp_path / "to" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "to" / name).write_text("user's")
    merge(tmp_path / "draft", tmp_path / "to")
    mine = b"user's"
    assert tree(tmp_path / "to") == {
        "a/1": mine, "a/own": mine, "a/2": b"new", "b": mine, "c": b"new"
    }  # fmt: skip


def test_merge_does_not_write_through_a_dangling_link(tmp_path):
    (tmp_path / "draft").write_text("new")
    (tmp_path / "to").symlink_to(tmp_path / "elsewhere")
    merge(tmp_path / "draft", tmp_path / "to")
    assert (tmp_path / "to").is_symlink()
    assert not (tmp_path / "elsewhere").exists()


def test_move_takes_the_first_candidate_and_names_what_it_found_instead(tmp_path):
    draft = tmp_path / "draft"
    for name in ("x/y/1", "x/y/2", "z/3"):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).write_text(name)
    move(draft, ("nowhere", "z"), tmp_path / "to/images", "a.zip")
    move(draft, ("x/y/*",), tmp_path / "to", "a.zip")
    assert tree(tmp_path / "to") == {"images/3": b"z/3", "1": b"x/y/1", "2": b"x/y/2"}
    with pytest.raises(UserError, match="a.zip has no p or q, but: x. It is another archive"):
        move(draft, ("p", "q"), tmp_path / "to/images", "a.zip")
