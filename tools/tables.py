"""Print tables of results; the options, and what they do, are those of `tools.results.tables`."""

from collections.abc import Sequence

from runs import command
from tools.results.tables import build_parser, deliver


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables of folders of runs, or write them to a file.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    deliver(build_parser().parse_args(argv))


if __name__ == "__main__":
    command.run(main)
