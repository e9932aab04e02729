"""What a gate does, in words and a table for each list of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.results.table_format import Table, wrap

MOST_TEACHERS = 20  # rows of a table; gate.json has all
OLDER = "metrics.jsonl has no gate_load: the run is older"


def report(run: Path, numbers: Mapping[str, Any], titles: list[str]) -> str:
    """All that is worth to be read, as text.

    Args:
        run: folder of the run.
        numbers: of `tools.learned.gate_numbers.numbers`.
        titles: of the lists of images.
    """
    parts = [wrap(line) for line in head(run, numbers)]
    for title, part in zip(titles, numbers["images"], strict=True):
        parts.append(_part(title, part, numbers["teachers"]))
    if between := numbers["datasets"].get("information"):
        parts.append(datasets_table(numbers).show("text"))
        parts.append(wrap(_told("dataset", between)))
    return "\n\n".join(parts)


def head(run: Path, numbers: Mapping[str, Any]) -> list[str]:
    """Which gate it is, and what to know before the numbers are read."""
    H = len(numbers["teachers"])
    lines = [
        f"{run}, epoch {numbers['epoch']}: gate {numbers['gate']}, "
        f"K {numbers['num_teachers']} of H {H} teachers"
    ]
    lines += [f"Note: {numbers['note']}."] if numbers["note"] else []
    lines += [] if numbers["epochs"] else [f"Note: {OLDER}, and no curves are drawn."]
    return lines


def datasets_table(numbers: Mapping[str, Any]) -> Table:
    """Mean weights of the teachers on each tested list, those first that differ most."""
    tested = [part for part in numbers["images"] if part["split"] != "train"]
    weights = [part["weight"] for part in tested]
    apart = [max(own) - min(own) for own in zip(*weights, strict=True)]
    order = sorted(range(len(apart)), key=lambda h: (-apart[h], h))[:MOST_TEACHERS]
    rows: list[Any] = [
        [numbers["teachers"][h], *(f"{own[h]:.3f}" for own in weights)] for h in order
    ]
    for kind, name in (("image", "an image's weights"), ("mean", "the mean weight")):
        rows.append([f"entropy of {name}, bits", *(f"{p['entropy'][kind]:.2f}" for p in tested)])
    headers = ["teacher", *(part["dataset"] for part in tested)]
    return Table("Mean weights by dataset", headers, rows, 1)


def _part(title: str, part: Mapping[str, Any], teachers: list[str]) -> str:
    table = part_table(title, part, teachers).show("text")
    return "\n\n".join([table, "\n".join(wrap(line) for line in part_words(part))])


def part_table(title: str, part: Mapping[str, Any], teachers: list[str]) -> Table:
    """The teachers on a list of images, from the highest mean weight to the lowest."""
    order = sorted(range(len(teachers)), key=lambda h: (-part["weight"][h], -part["load"][h], h))
    right, oracle = part["accuracy"], part["oracle"]
    rows: list[Any] = [
        [
            teachers[h], f"{part['weight'][h]:.3f}", f"{100 * part['load'][h]:.1f}",
            f"{100 * oracle['load'][h]:.1f}", f"{right['teachers'][h]:.1f}",
        ]
        for h in order[:MOST_TEACHERS]
    ]  # fmt: skip
    headers = ["teacher", "weight", "picked, %", "oracle picks, %", "accuracy, %"]
    hidden = len(teachers) - len(rows)
    notes = [f"{hidden} more teachers are in gate.json"] if hidden else []
    return Table(f"{title} ({part['images']})", headers, rows, 1, notes)


def part_words(part: Mapping[str, Any]) -> list[str]:
    """What the picked teacher tells, and how often it is the oracle's."""
    right, oracle = part["accuracy"], part["oracle"]
    said = [_told(kind, found) for kind, found in part["information"].items()]
    said.append(
        f"The first teacher is the oracle's for {100 * oracle['same_first']:.1f}% of the images "
        f"(by chance {100 * oracle['same_first_by_chance']:.1f}%), and so are "
        f"{100 * oracle['same_picked']:.1f}% of the picked ones (by chance "
        f"{100 * oracle['same_picked_by_chance']:.1f}%)."
    )
    said.append(
        f"The student is right for {_percent(right['student'])} of the images: "
        f"{_percent(oracle['student_where_same'])} where the first teacher is the oracle's, "
        f"{_percent(oracle['student_where_other'])} where not."
    )
    return said


def _told(kind: str, found: Mapping[str, float]) -> str:
    return (
        f"The picked teacher tells {found['bits']:.4f} of its {found['teacher_bits']:.2f} bits "
        f"about the {kind} (by chance {found['chance_mean']:.4f}, 95% below "
        f"{found['chance_95']:.4f}, p = {found['p']:.3f})."
    )


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}%"
