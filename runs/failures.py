"""Why a job fails: whether it would fail again, and what a log and others are told of it."""

from dassl.utils import UserError
from dassl.utils.errors import ImageError
from datasets.errors import DatasetError
from runs.folder import FolderBusy
from runs.machine import MemoryShortage, memory_shortage
from trainers.errors import MethodError

MEMORY, DATA, REFUSED, OTHER = "out of memory", "missing data", "refused", ""
LASTING = (DATA, REFUSED)  # fails again, wherever it is tried
MARK = "Kind of failure: "  # the last line of a log


def kind_of(error: BaseException | None) -> str:
    """One of the kinds above.

    What the machine did to a run, such as a folder that cannot be written, is `OTHER`: it may go
    well elsewhere.

    Args:
        error: as it was raised; the end of a command counts as what it was ended by.
    """
    if isinstance(error, SystemExit):
        if error.code == 2:  # argparse's
            return REFUSED
        error = error.__context__
    if isinstance(error, MemoryShortage):
        return MEMORY
    if isinstance(error, RuntimeError | MemoryError) and memory_shortage(error):
        return MEMORY
    if isinstance(error, DatasetError | ImageError | FileNotFoundError):
        return DATA
    troubles = (OSError, FolderBusy)
    if isinstance(error, troubles) or (error and isinstance(error.__cause__, troubles)):
        return OTHER
    return REFUSED if isinstance(error, UserError | MethodError) else OTHER


def told(text: str) -> tuple[str, str]:
    """The kind that a log tells, and the log without its mark."""
    lines = text.splitlines()
    kinds = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    kind = kinds[-1] if kinds and kinds[-1] in (MEMORY, DATA, REFUSED) else OTHER
    return kind, "\n".join(line for line in lines if not line.startswith(MARK))
