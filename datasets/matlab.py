"""Annotations in MATLAB files, of which nothing is taken on trust."""

from pathlib import Path
from typing import Any

from datasets.errors import DatasetError


def read_mat(path: Path, name: str) -> Any:
    """A variable of a MATLAB file, squeezed; an array of structures gives objects with attributes.

    Raises:
        DatasetError: no such file, it cannot be read, or it lacks the variable.
    """
    from scipy.io import loadmat  # slow to import, rarely needed

    if not path.is_file():
        raise DatasetError(f"there is no {path}")
    try:
        content = loadmat(path, squeeze_me=True, struct_as_record=False, variable_names=[name])
    except Exception as error:  # scipy lets many kinds through for a damaged file
        raise DatasetError(f"{path} cannot be read as a MATLAB file: {error}") from error
    if name not in content:
        raise DatasetError(f'{path} has no variable "{name}"')
    return content[name]
