"""A download is complete and right, or absent; whatever the server does."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import socket
from collections import namedtuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.utils import UserError
from tests.tools.data.local_server import File, serving
from tools.data import download
from tools.data.download import check_digest, fetch
from tools.data.sizes import RESERVE, check_space, in_bytes

BODY = random.Random(1).randbytes(300_000)
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


@pytest.fixture
def server():
    with serving() as server:
        server.files["/a.zip"] = File(BODY)
        yield server


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that were asked for; none takes time."""
    asked = []
    monkeypatch.setattr(download.time, "sleep", asked.append)
    return asked


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(server, tmp_path):
    fetch([server.url("/a.zip")], tmp_path / "deep" / "a.zip", MD5)
    assert (tmp_path / "deep" / "a.zip").read_bytes() == BODY
    assert names(tmp_path / "deep") == ["a.zip"]
    assert server.requests == [("/a.zip", "")]


@pytest.mark.parametrize("fault", ["cut", "truncate"])
def test_a_cut_transfer_continues_where_it_was(server, tmp_path, pauses, fault):
    server.files["/a.zip"].faults = [f"{fault} 100000", f"{fault} 150000"]
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    first, second, third = server.ranges
    assert first == ""
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in (second, third)]
    if fault == "truncate":  # a reset may throw away what the machine has not read yet
        assert starts == [100_000, 250_000]
    assert 0 < starts[0] < starts[1] < len(BODY)
    assert pauses == [1.0, 1.0]  # progress: the pauses do not grow


def test_a_later_call_continues_the_part_of_an_earlier_one(server, tmp_path, pauses):
    server.files["/a.zip"].faults = ["truncate 100000", *[503] * 5]
    with pytest.raises(UserError, match="answers 503 .* 5 times in a row"):
        fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert names(tmp_path) == ["a.zip.part", "a.zip.part.json"]
    assert (tmp_path / "a.zip.part").read_bytes() == BODY[:100_000]
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert server.ranges[-1] == "bytes=100000-"
    assert names(tmp_path) == ["a.zip"]


def test_a_server_that_ignores_ranges_gives_the_whole_file_again(server, tmp_path, pauses):
    server.files["/a.zip"].ranges = False
    server.files["/a.zip"].faults = ["truncate 100000"]
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert server.ranges == ["", "bytes=100000-"]


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server, tmp_path, pauses):
    server.files["/a.zip"].ranges = False
    server.files["/a.zip"].faults = ["truncate 100000"] * 9
    with pytest.raises(UserError, match="cut at 100 kB of 300 kB, 5 times in a row"):
        fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert len(server.requests) == 6  # the first one got somewhere
    assert pauses == [1.0, 1.0, 2.0, 4.0, 8.0]


def test_parts_of_two_versions_of_a_file_are_never_joined(server, tmp_path, pauses):
    server.files["/a.zip"].faults = ["truncate 100000", *[503] * 5]
    with pytest.raises(UserError):
        fetch([server.url("/a.zip")], tmp_path / "a.zip")
    changed = BODY[::-1]
    server.files["/a.zip"] = File(changed, etag='"2"')
    fetch([server.url("/a.zip")], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == changed


@pytest.mark.parametrize("etag", ["", 'W/"1"'])
def test_a_version_of_another_length_is_noticed_without_a_validator(server, tmp_path, pauses, etag):
    server.files["/a.zip"].etag = etag
    server.files["/a.zip"].faults = ["truncate 100000", 503]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "ATTEMPTS", 1)
        with pytest.raises(UserError):
            fetch([server.url("/a.zip")], tmp_path / "a.zip")
    server.files["/a.zip"] = File(BODY[::-1] + b"more", etag=etag)
    fetch([server.url("/a.zip")], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY[::-1] + b"more"


def test_a_weak_validator_is_not_used(server, tmp_path, pauses):
    date = "Sun, 22 Nov 2026 08:00:00 GMT"
    server.files["/a.zip"] = File(BODY, ["truncate 100000"], etag='W/"1"', modified=date)
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert server.validators == ["", date]
    assert server.ranges == ["", "bytes=100000-"]


def test_an_answer_that_begins_at_another_byte_is_not_appended(server, tmp_path, pauses):
    server.files["/a.zip"].faults = ["truncate 100000"]
    server.files["/a.zip"].shift = 7
    fetch([server.url("/a.zip")], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert server.ranges == ["", "bytes=100000-", ""]


def test_a_shorter_version_is_noticed(server, tmp_path, pauses):
    server.files["/a.zip"].faults = ["truncate 100000", *[503] * 5]
    with pytest.raises(UserError):
        fetch([server.url("/a.zip")], tmp_path / "a.zip")
    server.files["/a.zip"] = File(b"short")  # 416: it does not reach byte 100,000
    fetch([server.url("/a.zip")], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == b"short"


@pytest.mark.parametrize("note", ["", "{", "[1]", '{"url": "x", "validator": "", "total": "?"}'])
def test_a_part_of_nobody_knows_what_is_not_continued(server, tmp_path, note):
    (tmp_path / "a.zip.part").write_bytes(b"?" * 1000)
    if note:
        (tmp_path / "a.zip.part.json").write_text(note)
    fetch([server.url("/a.zip")], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert server.ranges == [""]


def test_a_part_from_another_address_is_not_continued(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"?" * 1000)
    note = {"url": server.url("/b.zip"), "validator": '"1"', "total": len(BODY)}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(note))
    fetch([server.url("/a.zip")], tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert server.ranges == [""]


def test_a_corrupt_transfer_is_fetched_once_more(server, tmp_path, pauses, capsys):
    server.files["/a.zip"].faults = ["corrupt"]
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert server.ranges == ["", ""]
    assert "is damaged, or another file: its md5 is" in capsys.readouterr().out


def test_a_file_that_stays_corrupt_never_gets_its_name(server, tmp_path):
    wrong = f"sha256:{hashlib.sha256(b'other').hexdigest()}"
    found = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(UserError) as error:
        fetch([server.url("/a.zip")], tmp_path / "a.zip", wrong)
    assert str(error.value) == (
        f"{server.url('/a.zip')}: a.zip is damaged, or another file: its sha256 is {found}, "
        f"expected {wrong.removeprefix('sha256:')} (fetched twice)"
    )
    assert names(tmp_path) == []
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_the_next_address_is_asked(server, tmp_path, pauses, status):
    server.files["/gone.zip"] = File(BODY, faults=[status] * 9)
    fetch([server.url("/gone.zip"), server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert [path for path, _ in server.requests] == ["/gone.zip", "/a.zip"]
    assert pauses == []


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_server_in_trouble_is_asked_again_with_growing_pauses(server, tmp_path, pauses, status):
    server.files["/a.zip"].faults = [status] * 4
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_every_address_is_named_when_none_gives_the_file(server, tmp_path, pauses):
    server.files["/b.zip"] = File(BODY, faults=["page"])
    with pytest.raises(UserError) as error:
        fetch([server.url("/nowhere.zip"), server.url("/b.zip")], tmp_path / "a.zip")
    assert str(error.value) == (
        f"{server.url('/nowhere.zip')}: the server answers 404 (Not Found); "
        f"{server.url('/b.zip')}: "
        'the server sends a web page ("Google Drive - Quota exceeded") instead of the file: a '
        "login, a limit or a notice"
    )
    assert names(tmp_path) == []


def test_a_page_in_the_middle_does_not_spoil_the_part(server, tmp_path, pauses):
    server.files["/a.zip"].faults = ["truncate 100000", "page"]
    with pytest.raises(UserError, match="Quota exceeded"):
        fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip.part").read_bytes() == BODY[:100_000]
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_redirect_to_a_page_is_told_from_a_file(server, tmp_path):
    server.files["/drive"] = File(redirect="/quota")
    server.files["/quota"] = File(faults=["page"])
    with pytest.raises(UserError, match="Quota exceeded"):
        fetch([server.url("/drive")], tmp_path / "a.json")
    server.files["/drive"] = File(redirect="/a.zip")
    fetch([server.url("/drive")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_page_that_says_it_is_a_file_is_told_from_a_file(server, tmp_path):
    server.files["/page"] = File(b"\n <!-- x --><HTML><body>sorry</body>")
    with pytest.raises(UserError, match="a web page instead of the file"):
        fetch([server.url("/page")], tmp_path / "a.json")
    assert names(tmp_path) == []


def test_text_for_a_browser_is_told_from_a_file(server, tmp_path):
    server.files["/page"] = File(b"<p>sorry</p>", kind="text/html; charset=utf-8")
    with pytest.raises(UserError, match="a web page instead of the file"):
        fetch([server.url("/page")], tmp_path / "a.json")


def test_a_server_that_states_no_length_is_believed(server, tmp_path):
    server.files["/a.zip"].length = False
    fetch([server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_silent_server_is_not_waited_for_endlessly(server, tmp_path, pauses, monkeypatch):

    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
        with pytest.raises(UserError, match="no answer for 0 s, 2 times in a row"):
            fetch([url], tmp_path / "a.zip")


def test_nobody_at_the_address(server, tmp_path, pauses):
    with pytest.raises(UserError, match=r"127.0.0.1:9/a.zip: Connection refused, 5 times in a row"):
        fetch(["http://127.0.0.1:9/a.zip"], tmp_path / "a.zip")


def test_a_host_that_is_not_found_is_looked_up_once(server, tmp_path, pauses, monkeypatch):
    asked = []
    look_up = socket.getaddrinfo

    def offline(host, *args, **kwargs):
        if not host.endswith(".example"):
            return look_up(host, *args, **kwargs)
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr(download, "_unknown_hosts", {})
    reason = (
        r"its host is not found \(Temporary failure in name resolution\); this machine may be off"
    )
    for name in ("a.zip", "b.zip"):
        with pytest.raises(UserError, match=f"^http://one.example/{name}: {reason}"):
            fetch([f"http://one.example/{name}"], tmp_path / name)
    with pytest.raises(UserError, match=f"^http://two.example/a.zip: {reason}"):
        fetch(["http://two.example/a.zip"], tmp_path / "a.zip")
    assert asked == ["one.example", "two.example"]
    assert pauses == []
    fetch(["http://one.example/a.zip", server.url("/a.zip")], tmp_path / "a.zip", MD5)
    assert (tmp_path / "a.zip").read_bytes() == BODY


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(
    server, tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    free = RESERVE + 2 * len(BODY)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free - 1))
    with pytest.raises(UserError) as error:
        fetch([server.url("/a.zip")], tmp_path / "a.zip", copies=2)
    assert str(error.value) == (
        f"a.zip needs 600 kB of disk, and 105 MB stay free, but {tmp_path} has only 105 MB: free "
        "some, or choose another folder with --data"
    )
    assert names(tmp_path) == ["a.zip.part.json"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, free))
    fetch([server.url("/a.zip")], tmp_path / "a.zip", copies=2)


def test_space_is_asked_where_the_folder_will_be(tmp_path):
    check_space(tmp_path / "not" / "there", 1, "nothing")
    with pytest.raises(UserError, match=r"needs 1000.0 TB|needs 1000 TB"):
        check_space(tmp_path / "not" / "there", 10**15, "everything")


def test_a_digest_is_compared(tmp_path):
    (tmp_path / "a").write_bytes(BODY)
    check_digest(tmp_path / "a", MD5)
    check_digest(tmp_path / "a", "")
    with pytest.raises(UserError, match=f"its md5 is {MD5[4:]}, expected 00"):
        check_digest(tmp_path / "a", "md5:00")


def test_sizes_for_people():
    sizes = [0, 999, 1000, 22_000, 791_918_971, 9_960_000_000, 147_897_477_120, 2 * 10**12]
    shown = ["0 bytes", "999 bytes", "1.0 kB", "22 kB", "792 MB", "10.0 GB", "148 GB", "2.0 TB"]
    assert [in_bytes(size) for size in sizes] == shown


FAULTS = st.lists(
    st.one_of(
        st.sampled_from([500, 503, 429, "corrupt"]),
        st.integers(0, 5000).map("truncate {}".format),
    ),
    max_size=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=FAULTS,
    ranges=st.booleans(),
    etag=st.sampled_from(["", '"1"']),
    size=st.integers(1, 5000),
)
def test_any_mixture_of_faults_gives_the_right_file_or_none(
    server, pauses, tmp_path_factory, faults, ranges, etag, size
):
    folder = tmp_path_factory.mktemp("any")
    body = BODY[:size]
    digest = f"md5:{hashlib.md5(body).hexdigest()}"
    server.files["/any"] = File(body, faults=list(faults), ranges=ranges, etag=etag)
    for _ in range(4):  # a user who tries again
        try:
            fetch([server.url("/any")], folder / "any", digest)
            break
        except UserError:
            assert not (folder / "any").exists()
    assert (folder / "any").read_bytes() == body
    assert names(folder) == ["any"]
