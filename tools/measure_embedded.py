"""Measure the embedded world and judge it: zero-shot CLIP, linear probes, prompts, and CoOp.

    python -m tools.measure_embedded
    python -m tools.measure_embedded --no-coop    # in seconds, without the verdicts
    python -m tools.measure_embedded --picture docs/images/shapes.png

Runs configs/studies/embedded_world.yaml first, as far as it is not done. Exit code 1 if the world
lacks a property that docs/embedded_world.md asks for.
"""

from collections.abc import Sequence

from runs import command
from runs.config import CONFIGS, REPOSITORY

STUDY = CONFIGS / "studies/embedded_world.yaml"


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures and the verdicts.

    Raises:
        SystemExit: code 1 if a property fails, or after a message on stderr.
    """
    parser = command.parser(__doc__, "tools.measure_embedded")
    add = parser.add_argument
    add("--data", type=command.path, default=REPOSITORY / "data", help="folder of the datasets")
    add("--output", type=command.path, default=REPOSITORY / "output", help="folder of all runs")
    add("--no-coop", action="store_true", help="only what needs no training, no verdicts")
    add("--picture", type=command.path, metavar="FILE", help="write a PNG of test images, only")
    args = parser.parse_args(argv)
    if args.picture:
        from tools.world.sheet import write_sheet

        write_sheet(args.picture)
        return
    from tools.studies.file import read_study  # torch and what needs it are slow to import
    from tools.studies.runner import run
    from tools.world.measuring import measure, report
    from tools.world.properties import properties, tuned, verdicts

    study = read_study(STUDY, args.data, args.output)
    if not args.no_coop:
        run(study)
        print()
    found = measure(args.data)
    print(report(found))
    if not args.no_coop:
        rows = properties(found, tuned(study))
        print(f"\n{verdicts(rows)}")
        if not all(row.holds for row in rows):
            raise SystemExit(1)


if __name__ == "__main__":
    command.run(main)
