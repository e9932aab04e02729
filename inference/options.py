"""Options that the commands on trained prompts share."""

import argparse
from pathlib import Path

from dassl.utils import UserError
from inference.classes import read_classes, split_classes
from runs import command
from runs.trained import add_flags


def add_source(parser: argparse.ArgumentParser) -> None:
    """Which prompt, and for which classes."""
    add = parser.add_argument
    add_flags(
        parser,
        "folder of a run, of one of its tests, or of an exported prompt",
        "folder of the datasets, read only where an old run does not tell its classes",
    )
    add("--classes", metavar="A,B,C", help="names between commas (default: those of the run)")
    add("--classes-file", type=command.path, metavar="FILE", help="the same, one name a line")
    add("--backbone", type=command.path_text, default="", metavar="FILE",
        help="CLIP's file, where it is not where it was at the training")  # fmt: skip


def classes_of(args: argparse.Namespace) -> list[str] | None:
    """The classes that the user gives; None for those of the run.

    Raises:
        UserError, DatasetError: both options are given, or see `check_classes`.
    """
    if args.classes is not None and args.classes_file:
        raise UserError("--classes and --classes-file are the same list: give one of them")
    if args.classes_file:
        return read_classes(Path(args.classes_file))
    return None if args.classes is None else split_classes(args.classes)
