"""Tables of results, from results.json only.

python -m tools.tables output/base2new/shapes
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dassl.utils import UserError
from tools.run_folder import read_results

MISSING = "-"


def harmonic_mean(base: float, new: float) -> float:
    """H of base and new accuracy, both in percent; 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def find_results(folder: Path) -> list[dict[str, Any]]:
    """All results below a folder, each with its run's folder as "run".

    Raises:
        UserError: there are none.
    """
    results = []
    for path in sorted(folder.rglob("results.json")):
        found = read_results(path)
        if found:
            results.append({**found, "run": path.parent.parent})
    if not results:
        raise UserError(f"no results.json below {folder}: has a run finished there?")
    return results


def base2new_table(results: Iterable[dict[str, Any]]) -> str:
    """Base, new, H and time of each run, a row for each folder.

    A test that is missing shows as "-"; it is never left out of a mean silently.
    """
    runs: dict[Path, dict[str, dict[str, Any]]] = defaultdict(dict)
    for found in results:
        runs[found["run"]][found["classes"]] = found
    rows = []
    for folder, tests in runs.items():
        one = next(iter(tests.values()))
        # <trainer>/<config>/shots_<n>/seed<s>
        config = folder.parents[1].name if folder.name.startswith("seed") else folder.name
        base, new = (tests.get(classes, {}).get("accuracy") for classes in ("base", "new"))
        h = None if base is None or new is None else harmonic_mean(base, new)
        numbers = [MISSING if value is None else f"{value:.2f}" for value in (base, new, h)]
        seconds = sum(test["seconds"]["total"] for test in tests.values())
        names = [one["dataset"], one["trainer"], config, one["shots"], one["seed"]]
        rows.append([*names, *numbers, f"{seconds:.0f} s"])
    headers = ["dataset", "method", "config", "shots", "seed", "base", "new", "H", "time"]
    return tabulate(rows, headers, disable_numparse=True, colalign=(*["left"] * 3, *["right"] * 6))


def run_table(results: Sequence[dict[str, Any]]) -> str:
    """The table after a run of any protocol: a row for each run, or for each test."""
    if all(found.get("protocol", "base2new") == "base2new" for found in results):
        return base2new_table(results)
    rows = [
        [
            *(found["dataset"], found["trainer"], found.get("config", ""), found["shots"]),
            *(found["seed"], f"{found['accuracy']:.2f}", f"{found['seconds']['total']:.0f} s"),
        ]
        for found in results
    ]
    headers = ["dataset", "method", "config", "shots", "seed", "accuracy", "time"]
    return tabulate(rows, headers, disable_numparse=True, colalign=(*["left"] * 3, *["right"] * 4))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of a folder of runs.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.tables", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="e.g. output/base2new/shapes")
    try:
        folders = parser.parse_args(argv).folders
        print(run_table([found for folder in folders for found in find_results(folder)]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
