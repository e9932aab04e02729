"""A disk that is full at any moment: one line that names the file, and the next run continues."""

from __future__ import annotations

import builtins
import io
import json
import os
import re

import pytest

import train

FULL = "/dev/full"  # opens, and cannot be written
pytestmark = pytest.mark.skipif(not os.path.exists(FULL), reason=f"there is no {FULL}")
# what of a run's files cannot be written, in the order in which they are, and what is told
NO_ROOM = "No space left on device"
FILES = {
    r"log\.txt": 'Cannot write "{run}/log.txt": ' + NO_ROOM + ". Make room, and run the same "
    "command again.",
    r"config\.yaml": "cannot write {run}/config.yaml: " + NO_ROOM + "; choose another --output-dir "
    "(OUTPUT)",
    r"events\.out": "[Errno 28] " + NO_ROOM + ": '{run}/tensorboard'",
    r"metrics\.jsonl": "[Errno 28] " + NO_ROOM + ": '{run}/metrics.jsonl'",
    r"model\.pth\.tar-1": "[Errno 28] " + NO_ROOM + ": '{run}/prompt_learner/model.pth.tar-1'",
    r"checkpoint": "[Errno 28] " + NO_ROOM + ": '{run}/prompt_learner/checkpoint'",
    r"model\.pth\.tar-2": "[Errno 28] " + NO_ROOM + ": '{run}/prompt_learner/model.pth.tar-2'",
    r"results\.json": "cannot write {run}/base/results.json: " + NO_ROOM + "; choose another "
    "--output-dir (OUTPUT)",
}


@pytest.fixture
def fill(monkeypatch):
    """`fill(pattern)`: files with such a name cannot be written from now on; "" ends it."""
    real, wanted = io.open, [""]

    def opened(file, mode="r", *args, **kwargs):
        name = "" if isinstance(file, int) else os.path.basename(os.fsdecode(file))
        if wanted[0] and mode[0] in "wax" and re.match(wanted[0], name):
            file, mode = FULL, mode.replace("x", "w")
        return real(file, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(io, "open", opened)
    return lambda pattern: wanted.__setitem__(0, pattern)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_each_file_is_named_and_the_next_run_continues(job, refused, fill, tmp_path):
    whole = train.main(job("CoOp", output=tmp_path / "whole"))
    run = tmp_path / "run"
    for pattern, told in FILES.items():
        fill(pattern)
        assert refused(job("CoOp")) == told.format(run=run)
        fill("")
    found = train.main(job("CoOp"))
    for key in ("accuracy", "macro_f1", "correct", "settings"):
        assert found[key] == whole[key], key
    assert [path.name for path in run.rglob("*tmp-*")] == []
    epochs = [
        [(one["epoch"], one["split"], one.get("loss")) for one in map(json.loads, lines)]
        for lines in (
            (folder / "metrics.jsonl").read_text().splitlines()
            for folder in (run, tmp_path / "whole")
        )
    ]
    assert epochs[0] == epochs[1]


def test_a_cache_that_cannot_be_written_is_a_note(job, fill, tmp_path, capsys):
    folder = tmp_path / "cache"
    fill(r".*\.part")
    train.main(job("CoOp", "CACHE.DIR", str(folder)))
    shown = capsys.readouterr()
    assert f"Note: {folder} cannot be written ({NO_ROOM}): nothing is kept there" in shown.out
    assert shown.err == "" and [path for path in folder.rglob("*") if path.is_file()] == []
