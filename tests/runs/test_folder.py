"""What stands in the folder of a run, and its lock."""

import errno
import fcntl
import os

import pytest

from dassl.utils import UserError
from runs.config import default_cfg
from runs.folder import RunFolder, lock_folder


@pytest.mark.parametrize("text", ["- 1", "2024-01-01: 1", "1: 2", "SEED: x", "SEED:", "SEED: [1]"])
def test_a_folder_whose_settings_no_run_writes_is_refused(tmp_path, text):
    cfg = default_cfg()
    cfg.OUTPUT_DIR, cfg.TRAINER.NAME, cfg.DATASET.NAME = str(tmp_path), "CoOp", "Shapes"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        RunFolder(cfg).check()
    assert str(error.value) == (
        f"{tmp_path / 'config.yaml'} cannot be read; use another --output-dir"
    )


def test_a_folder_is_locked_for_others_as_long_as_it_is_worked_in(tmp_path):
    with lock_folder(tmp_path, "another"):
        with pytest.raises(UserError) as error, lock_folder(tmp_path, "another"):
            pass
        assert str(error.value) == (
            f"another process works in {tmp_path}: wait for it, or choose another"
        )
    with lock_folder(tmp_path, "another"):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_does_not_stop_the_work(tmp_path, monkeypatch, capsys, code):
    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):  # it is said once
        with lock_folder(tmp_path, "another"):
            pass
    assert capsys.readouterr().err == (
        f"Note: files cannot be locked here ({os.strerror(code)}): start nothing twice\n"
    )
