"""The gate of a run of MoPD, from what tools.gate or the training has written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.learned.gate_figures import READ_IMAGES, class_figure, epochs_figure
from tools.learned.gate_numbers import images_title, told_epochs
from tools.learned.gate_report import OLDER, head, part_table, part_words
from tools.reporting.blocks import Block, Folded, Grid, Images, Lack, Thumbnail, Words, command
from tools.reporting.inline import picture, thumbnail
from tools.reporting.material import ShownRun

MOST_TEACHERS = 3  # whose images are shown
GATED = "MoPD"  # those of a user's methods tell it in metrics.jsonl


def gate_blocks(
    run: ShownRun, records: Sequence[Mapping[str, Any]], images: int, flags: Sequence[str]
) -> list[Block]:
    """What is known of the gate; nothing for methods without one.

    Args:
        records: of the run's metrics.jsonl.
        images: small images of each list, at most.
        flags: of tools.gate.
    """
    if run.row.method != GATED and not any("gate_load" in record for record in records):
        return []
    look = command("tools.gate", "--run", run.folder, *flags)
    if not run.gate.is_file():
        return [*_from_training(run, records), Lack("More of the gate is not told here.", look)]
    try:
        numbers = json.loads(run.gate.read_text(encoding="utf-8"))
        if numbers["checkpoint"] not in {test.found["checkpoint"] for test in run.tests}:
            return [Lack(f"{run.gate} is of another checkpoint.", look)]
        return _from_numbers(run, numbers, images)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return [Lack(f"{run.gate} is damaged.", look)]


def _from_training(run: ShownRun, records: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Curves of the training; it does not tell the teachers' templates."""
    epochs = [dict(record) for record in records if record["split"] == "train"]
    loads = [one["gate_load"] for one in epochs if isinstance(one.get("gate_load"), list)]
    H = len(loads[0]) if loads else 0
    told = told_epochs(epochs, H) if H else []
    if not told:
        return [Lack(f"No curves of the gate: {OLDER}.")]
    settings = {key.rpartition(".")[2]: value for key, value in run.settings.items()}
    K = round(sum(told[0]["gate_load"]))
    names = [f"teacher {h + 1}" for h in range(H)]
    return [_curves({"gate": settings.get("GATE", "learned"), "num_teachers": K,
                     "teachers": names, "epochs": told})]  # fmt: skip


def _curves(numbers: Mapping[str, Any]) -> Block:
    last = numbers["epochs"][-1]
    order = sorted(range(len(last["gate_load"])), key=lambda h: -last["gate_load"][h])
    shares = ", ".join(
        f"{numbers['teachers'][h]!r} {100 * last['gate_load'][h]:.0f}%" for h in order[:3]
    )
    return picture(
        epochs_figure(numbers),
        "Load and entropy of the gate by epoch. Picked most in the last epoch, as a share of the "
        f"images: {shares}.",
    )


def _from_numbers(run: ShownRun, numbers: Mapping[str, Any], images: int) -> list[Block]:
    """Curves, and for each list of images a table, a heat map and the images that are pulled."""
    blocks: list[Block] = [Words(line) for line in head(run.folder, numbers)]
    blocks += [_curves(numbers)] if numbers["epochs"] else []
    teachers = numbers["teachers"]
    for part in numbers["images"]:
        title = images_title(part["dataset"], part["split"], part["classes"])
        inner: list[Block] = [Grid(part_table(title, part, teachers))]
        inner += [Words(line) for line in part_words(part)]
        if numbers["gate"] in READ_IMAGES:
            figure = class_figure(teachers, title, part)
            inner.append(picture(figure, f"Mean weight of each teacher by class: {title}."))
            inner += _attracted(part, teachers, images)
        blocks.append(Folded(f"Gate: {title}", inner, level=5))
    return blocks


def _attracted(part: Mapping[str, Any], teachers: Sequence[str], images: int) -> list[Block]:
    """Images with the highest weights of the teachers that weigh most."""
    order = sorted(range(len(teachers)), key=lambda h: -part["weight"][h])[:MOST_TEACHERS]
    blocks: list[Block] = []
    for h in order:
        items = []
        for one in part["attracted"][h][: images // MOST_TEACHERS]:
            source = thumbnail(Path(one["image"]))
            alt = f"{Path(one['image']).parent.name}/{Path(one['image']).name}"
            items += [Thumbnail(source, alt, f"weight {one['weight']:.2f}")] * bool(source)
        if items:
            blocks.append(Images(f"Images that {teachers[h]!r} attracts most", items))
    return blocks
