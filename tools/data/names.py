"""Datasets by name: which there are, and which a command line means."""

from collections.abc import Sequence

from runs.config import CONFIGS, check_name
from runs.merging import read_yaml


def known_datasets() -> dict[str, str]:
    """Name of the reader for each file under configs/datasets."""
    files = sorted((CONFIGS / "datasets").glob("*.yaml"))
    return {path.stem: read_yaml(path)["DATASET"]["NAME"] for path in files}


def resolve_names(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Names of datasets without repetition, "all" replaced by all.

    Raises:
        UserError: a name that is not known, with the closest one.
    """
    wanted: list[str] = []
    for name in names:
        if name != "all":
            check_name(name, known, "dataset")
        wanted += known if name == "all" else [name]
    return list(dict.fromkeys(wanted))
