"""Which tests do not belong together, so that no mean is taken over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.results.summary import Test

PER_TEST = ("SEED", "DATASET.SUBSAMPLE_CLASSES")


def disagreements(tests: list[Test]) -> list[str]:
    """Why tests of one row on one dataset do not belong together; none if they do."""
    return [*_doubled(tests), *_other_settings(tests)]


def seed_list(seeds: Iterable[int]) -> str:
    """Seeds in words: "seed 3", "seeds 1, 2"."""
    found = sorted(seeds)
    return f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"


def _doubled(tests: list[Test]) -> list[str]:
    """Tests that were done by two runs."""
    folders: dict[tuple[str, int], list[Path]] = defaultdict(list)
    for test in tests:
        folders[test.classes, test.seed].append(test.folder)
    return [
        f"{classes} of seed {seed} twice ({' and '.join(map(str, found))})"
        for (classes, seed), found in folders.items()
        if len(found) > 1
    ]


def _other_settings(tests: list[Test]) -> list[str]:
    """Seeds, or base and new, that were not made with the same settings, weights or images."""
    problems = []
    by_hash = {test.found.get("config_hash"): test for test in tests}
    if len(by_hash) > 1:
        seeds = " / ".join(
            seed_list({t.seed for t in tests if t.found.get("config_hash") == key})
            for key in by_hash
        )
        problems.append(f"{seeds} with different settings{_difference(list(by_hash.values()))}")
    for seed in sorted({test.seed for test in tests}):
        if len({test.found.get("checkpoint") for test in tests if test.seed == seed}) > 1:
            problems.append(f"base and new of seed {seed} from different checkpoints")
    return problems + _other_data(tests)


def _other_data(tests: list[Test]) -> list[str]:
    """Seeds of one test that were not on the same images."""
    problems = []
    for classes in sorted({test.classes for test in tests}):
        groups = other_images([test for test in tests if test.classes == classes])
        if groups:
            named = " / ".join(seed_list({test.seed for test in group}) for group in groups)
            problems.append(f"{classes} of {named} tested on different images or labels (data)")
    return problems


def other_images(tests: Iterable[Test]) -> list[list[Test]]:
    """Groups of tests that were on different images; none if all were on the same.

    Validation images are other ones than test images, and each seed draws its own, so these are
    compared within a seed.
    """
    splits, by_seed = defaultdict(list), defaultdict(list)
    for test in tests:
        splits[test.split].append(test)
        by_seed[test.seed if test.split == "val" else None].append(test)
    if len(splits) > 1:
        return list(splits.values())
    return next(filter(None, map(_by_digest, by_seed.values())), [])


def _by_digest(tests: list[Test]) -> list[list[Test]]:
    """Groups of tests by paths, labels and class names, else by what is in the files.

    Older files do not tell theirs and are in no group.
    """
    told = (lambda found: found.get("data"), lambda found: (found.get("content") or {}).get("test"))
    for digest in told:
        groups: dict[str, list[Test]] = defaultdict(list)
        for test in tests:
            if key := digest(test.found):
                groups[key].append(test)
        if len(groups) > 1:
            return list(groups.values())
    return []


def _difference(tests: list[Test]) -> str:
    """Keys in which the settings of tests differ, with all values."""
    settings = [test.found.get("settings") or {} for test in tests]
    keys = sorted({key for found in settings for key in found} - set(PER_TEST))
    differ = [
        f"{key} {' / '.join(str(found.get(key)) for found in settings)}"
        for key in keys
        if any(found.get(key) != settings[0].get(key) for found in settings)
    ]
    return f" ({'; '.join(differ)})" if differ else ""
