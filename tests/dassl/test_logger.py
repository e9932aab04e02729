"""The log holds stdout, stderr and errors, and leaves the streams as they were."""

import io
import re
import sys

import pytest

from dassl.utils import FolderError, Logger, UserError, close_logger, log_only, setup_logger


def test_both_streams_reach_the_console_and_the_log(tmp_path, capsys):
    with setup_logger(tmp_path / "out"):
        print("to stdout")
        print("to stderr", file=sys.stderr)
    assert (tmp_path / "out" / "log.txt").read_text() == "to stdout\nto stderr\n"
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("to stdout\n", "to stderr\n")


def test_none_changes_nothing():
    before = sys.stdout
    setup_logger()
    assert sys.stdout is before


@pytest.mark.parametrize("name", ["run.txt", "run.log"])
def test_a_file_name_is_taken_as_it_is(tmp_path, name):
    with setup_logger(str(tmp_path / name)):
        print("x")
    assert (tmp_path / name).read_text() == "x\n"


def test_a_second_run_gets_its_own_file(tmp_path):
    for text in ("first", "second"):
        with setup_logger(tmp_path):
            print(text)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "log.txt"
    assert re.fullmatch(r"log\.txt-\d{4}(-\d\d){5}", names[1])
    assert [(tmp_path / name).read_text() for name in names] == ["first\n", "second\n"]


def test_streams_are_given_back_however_often_it_is_used(tmp_path):
    before = sys.stdout, sys.stderr
    for i in range(3):
        setup_logger(tmp_path / str(i))  # the earlier one is closed
        assert isinstance(sys.stdout, Logger)
        assert sys.stdout.console is before[0]
    close_logger()
    close_logger()
    assert (sys.stdout, sys.stderr) == before
    print("after")
    assert all((tmp_path / str(i) / "log.txt").read_text() == "" for i in range(3))


def test_a_stream_that_was_replaced_meanwhile_is_left_alone(tmp_path, monkeypatch):
    session = setup_logger(tmp_path)
    tee, other = sys.stdout, io.StringIO()
    monkeypatch.setattr(sys, "stdout", other)
    session.close()
    assert sys.stdout is other
    print("late", file=tee)  # somebody still holds the closed tee
    assert (tmp_path / "log.txt").read_text() == ""


def test_a_traceback_is_in_the_log(tmp_path):
    with pytest.raises(ZeroDivisionError), setup_logger(tmp_path):
        1 / 0  # noqa: B018
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("Traceback (most recent call last):")
    assert text.endswith("ZeroDivisionError: division by zero\n")


def test_a_users_mistake_is_in_the_log_without_traceback(tmp_path):
    with pytest.raises(UserError), setup_logger(tmp_path):
        raise UserError("no such thing")
    assert (tmp_path / "log.txt").read_text() == "Error: no such thing\n"


def test_progress_bars_stay_out_of_the_log(tmp_path):
    with setup_logger(tmp_path):
        sys.stderr.write("\r 50%|#####")
        print("line")
        log_only("log only")
    assert (tmp_path / "log.txt").read_text() == "line\nlog only\n"


def test_a_tee_is_a_full_stream(tmp_path):
    class Terminal(io.StringIO):
        encoding = "latin-1"

        def isatty(self):
            return True

        def fileno(self):
            return 7

    tee = Logger(str(tmp_path / "a" / "x.txt"), Terminal())
    assert (tee.isatty(), tee.fileno(), tee.encoding, tee.errors) == (True, 7, "latin-1", None)
    assert tee.write("abc") == 3
    tee.flush()
    assert (tmp_path / "a" / "x.txt").read_text() == "abc"
    tee.close()
    tee.close()
    tee.write("d")
    assert tee.getvalue() == "abcd"
    assert (tmp_path / "a" / "x.txt").read_text() == "abc"


def test_log_only_without_a_log_is_dropped(capsys):
    log_only("nothing")
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_named_and_streams_stay(tmp_path):
    (tmp_path / "file").write_text("")
    before = sys.stdout, sys.stderr
    with pytest.raises(FolderError, match=re.escape(str(tmp_path / "file" / "out"))):
        setup_logger(tmp_path / "file" / "out")
    (tmp_path / "dir.txt").mkdir()
    with pytest.raises(FolderError, match=re.escape(str(tmp_path / "dir.txt"))):
        Logger(str(tmp_path / "dir.txt"))
    assert (sys.stdout, sys.stderr) == before
