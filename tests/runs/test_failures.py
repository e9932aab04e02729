"""What kind of failure a log tells."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dassl.utils import UserError
from dassl.utils.errors import ImageError
from datasets.errors import DatasetError
from runs import run, worker
from runs.failures import DATA, MARK, MEMORY, OTHER, REFUSED, kind_of, told
from runs.folder import lock_folder
from runs.results import writing
from tools import protocol
from trainers.errors import MethodError

JOB = ["fewshot", "--trainer", "CoOp", "--dataset", "shapes", "--seed", "1", "--shots", "1"]


def raised(call) -> BaseException:
    """What a call raises."""
    with pytest.raises(BaseException) as found:
        call()
    return found.value


def full_memory() -> None:
    np.empty(2**50)


def torch_memory() -> None:
    torch.empty(2**50, dtype=torch.uint8)


def fail_to_write() -> None:
    with writing(Path("/proc/none/x")):
        pass


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (full_memory, MEMORY),
        (torch_memory, MEMORY),
        (lambda: sys.exit(1), OTHER),
        (lambda: sys.exit(2), REFUSED),
        (lambda: [][0], OTHER),
        (lambda: Path("/proc/none").read_text(), DATA),
        (fail_to_write, OTHER),
    ],
)
def test_kinds_of_what_is_raised(call, kind):
    assert kind_of(raised(call)) == kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("X is 1"), REFUSED),
        (MethodError("X is 1"), REFUSED),
        (DatasetError("no folder"), DATA),
        (ImageError("is no image"), DATA),
        (OSError(28, "No space left on device"), OTHER),
        (FloatingPointError("the loss is nan"), OTHER),
        (RuntimeError("CUDA error: an illegal memory access"), OTHER),
        (None, OTHER),
    ],
)
def test_kinds_of_errors(error, kind):
    assert kind_of(error) == kind


def test_a_folder_in_use_may_be_free_later(tmp_path):
    with lock_folder(tmp_path, "another"):
        error = raised(lambda: lock_folder(tmp_path, "another").__enter__())
    assert kind_of(error) == OTHER


@pytest.mark.parametrize(
    ("more", "kind", "says"),
    [
        (["--", "OPTIM.LRR", "1"], REFUSED, 'unknown key "OPTIM.LRR"'),
        (["--dataset", "folder:/no/such"], DATA, "error: "),
        (["--seed", "none"], REFUSED, "--seed"),
        ([], MEMORY, "A smaller DATALOADER.TRAIN_X.BATCH_SIZE or DATALOADER.TEST.BATCH_SIZE"),
    ],
)
def test_the_log_of_a_job_ends_with_the_kind(
    more, kind, says, data_root, tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    if kind == MEMORY:
        monkeypatch.setattr(run, "build_trainer", full)
    place = ["--data", str(data_root), "--output", str(tmp_path)]
    assert worker.exit_code(lambda: protocol.main([*JOB, *place, *more])) in (1, 2)
    shown = capsys.readouterr().err
    assert says in shown and shown.endswith(f"{MARK}{kind}\n")
    assert told(shown) == (kind, shown.removesuffix(f"{MARK}{kind}\n").rstrip("\n"))


def test_a_log_without_a_mark_or_with_an_unknown_one_tells_no_kind():
    assert told("error: no\n") == (OTHER, "error: no")
    assert told(f"error: no\n{MARK}flood\n") == (OTHER, "error: no")
