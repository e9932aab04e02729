"""The benchmark of what is in files."""

from benchmarks import content
from trainers.features import files


def test_it_runs_and_finds_the_same_digests(monkeypatch, capsys):
    monkeypatch.setattr(files, "SETTLED_NS", 0)
    content.main(["--files", "8", "--kib", "1", "--runs", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 files of 1 KiB; ")
    assert [line.split()[0] for line in lines[1:]] == ["way", "-----", "read", "again"]
