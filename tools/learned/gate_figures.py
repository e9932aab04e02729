"""Pictures of a gate: teachers by class, the training, and the images that teachers attract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from dassl.utils import read_image
from tools.learned.gate_numbers import attracted, entropy
from tools.results.style import COLOURS, GREY, HEAT, LINES, drawing, save, short

if TYPE_CHECKING:  # matplotlib takes a second to import, torch longer
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tools.learned.gate_look import GateRun, Seen

READ_IMAGES = ("learned", "oracle")  # gates for which images and classes can differ
MOST_NAMES = 64  # beside a heat map; more cannot be read
MOST_ROWS = 16  # teachers on a sheet
MOST_CURVES = len(COLOURS)
COLUMNS = 8  # images of a teacher
SIDE, WIDE, HIGH = 112, 126, 152  # of an image on a sheet, and of its place, in pixels
LONGEST = 34  # characters of a template or class name


def write_figures(found: GateRun, numbers: Mapping[str, Any], out: Path) -> list[Path]:
    """Write all pictures of a gate that show something, and return their files.

    Args:
        numbers: of `tools.learned.gate_numbers.numbers`.
        out: the folder.

    Raises:
        UserError: no matplotlib, or no place to write.
    """
    paths = []
    with drawing():
        if numbers["epochs"]:
            paths += save(epochs_figure(numbers), out, "epochs")
        if found.gate.kind in READ_IMAGES:
            for seen, part in zip(found.seen, numbers["images"], strict=True):
                paths += save(
                    class_figure(found.pool, seen.title, part), out, f"{seen.name}_classes"
                )
                paths += save(sheet(found.pool, seen), out, f"{seen.name}_images")
    return paths


def class_figure(pool: Sequence[str], title: str, part: Mapping[str, Any]) -> Figure:
    """Mean weight of each teacher by class, as a heat map, and by group where there are groups.

    Teachers stand from the highest mean weight to the lowest; classes with the same first teacher
    stand together, from the highest weight to the lowest.

    Args:
        title: of the list of images.
        part: its numbers, see `tools.learned.gate_numbers.part_numbers`.
    """
    from matplotlib.figure import Figure

    teachers = np.argsort(-np.array(part["weight"]), kind="stable")
    maps = {kind: _rows(by, teachers) for kind, by in part["by"].items()}
    heights = [max(0.19 * min(len(names), MOST_NAMES), 0.6) for names, _ in maps.values()]
    width = 4.2 + 0.34 * min(len(pool), MOST_NAMES)
    figure = Figure(figsize=(width, sum(heights) + 3.4), layout="constrained")
    panels = figure.subplots(len(maps), squeeze=False, height_ratios=heights)[:, 0]
    highest = max(weights.max() for _, weights in maps.values())
    for panel, (kind, (names, weights)) in zip(panels, maps.items(), strict=True):
        image = panel.imshow(
            weights, aspect="auto", cmap=HEAT, vmin=0, vmax=highest, interpolation="nearest"
        )
        several = len(names) > MOST_NAMES
        panel.set_yticks([] if several else range(len(names)), [] if several else names)
        panel.set_ylabel(f"{len(names)} classes" if several else _short(kind))
        panel.set_xticks([])
        panel.spines[["left", "bottom"]].set_visible(False)
        panel.tick_params(length=0, labelsize=9)
    if len(pool) <= MOST_NAMES:
        names = [_short(pool[h]) for h in teachers]
        panels[-1].set_xticks(range(len(pool)), names, rotation=60, ha="right", fontsize=9)
        panels[-1].tick_params(axis="x", rotation_mode="anchor")
    else:
        panels[-1].set_xlabel(f"{len(pool)} teachers")
    figure.colorbar(image, ax=list(panels), label="mean weight", shrink=0.6)
    figure.suptitle(f"Weights of the gate: {_short(title, 70)}", fontsize=12)
    return figure


def _rows(by: Mapping[str, Any], teachers: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names and weights (names, H) of a heat map, sorted."""
    names = list(by)
    weights = np.array([by[name]["weight"] for name in names])[:, teachers]
    first = weights.argmax(axis=1)
    order = np.lexsort((-weights.max(axis=1), first))
    return [_short(names[i]) for i in order], weights[order]


def epochs_figure(numbers: Mapping[str, Any]) -> Figure:
    """Pick rate of each teacher, and entropy of the weights, over the epochs of the training."""
    from matplotlib.figure import Figure

    records = numbers["epochs"]
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(10.4, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    loads = np.array([record["gate_load"] for record in records])  # (epochs, H)
    order = np.argsort(-loads.mean(axis=0), kind="stable")
    for place, h in enumerate(order):
        named = place < MOST_CURVES
        left.plot(
            epochs, loads[:, h],
            color=COLOURS[place % len(COLOURS)] if named else "#C8C8C8",
            linestyle=LINES[place % len(LINES)] if named else "-",
            linewidth=1.8 if named else 1,
            label=_short(numbers["teachers"][h]) if named else None,
            zorder=3 if named else 1,
        )  # fmt: skip
    rest = len(order) - MOST_CURVES
    left.set_title(
        "share of images for which a teacher is picked" + f" (grey: {rest} others)" * (rest > 0)
    )
    left.set_ylim(-0.03, 1.03)
    _draw_entropies(right, epochs, records, numbers["num_teachers"], len(order))
    for panel in (left, right):
        panel.set_xlabel("epoch")
        panel.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False,
        fontsize=9,
    )  # fmt: skip
    figure.suptitle(
        f"Gate ({numbers['gate']}) in training: K {numbers['num_teachers']} of H {len(order)}",
        fontsize=12,
    )
    return figure


def _draw_entropies(
    panel: Axes, epochs: Sequence[int], records: Sequence[Mapping[str, Any]], K: int, H: int
) -> None:
    """Entropy of an image's weights, and of the mean weight, each with the most that it can be."""
    mean = [np.array(record["gate_weight"]) for record in records]
    curves = {
        "of an image's weights": ([record["gate_entropy"] for record in records], "log2 K", K),
        "of the mean weight": ([entropy(weights) for weights in mean], "log2 H", H),
    }
    for at, (name, (values, most, count)) in enumerate(curves.items()):
        panel.plot(
            epochs, values, color=COLOURS[at], linestyle=LINES[at], linewidth=1.8, label=name
        )
        panel.axhline(np.log2(count), color=GREY, linewidth=0.8, linestyle=":")
        panel.annotate(
            most, (0, np.log2(count)), (2, 2), xycoords=("axes fraction", "data"),
            textcoords="offset points", color=GREY, fontsize=9,
        )  # fmt: skip
    panel.set_title("entropy, bits")
    panel.set_ylim(bottom=0)
    panel.legend(frameon=False, fontsize=9, loc="lower right")


def sheet(pool: Sequence[str], seen: Seen) -> Figure:
    """For each teacher the images with its highest weights; teachers that pull most first."""
    from matplotlib.figure import Figure

    best = attracted(seen, COLUMNS)
    order = [h for h in np.argsort(-seen.weights.mean(axis=0), kind="stable") if best[h]]
    rows = order[:MOST_ROWS]
    # one picture of all: a panel for each image takes many times longer
    canvas = np.full((len(rows) * HIGH, COLUMNS * WIDE, 3), 255, np.uint8)
    width, height = canvas.shape[1] / WIDE, len(canvas) / WIDE  # inches
    figure = Figure(figsize=(width + 2.8, height + 0.5))
    wide, high = figure.get_size_inches()
    panel = figure.add_axes((2.7 / wide, 0.1 / high, width / wide, height / high))
    for y, h in zip(range(0, len(canvas), HIGH), rows, strict=True):
        told = f"{_short(pool[h])}\npicked: {seen.picked[:, h].mean():.0%}"
        panel.text(-14, y + HIGH - SIDE / 2, told, ha="right", va="center", fontsize=9)
        for x, i in zip(range(0, canvas.shape[1], WIDE), best[h], strict=False):
            canvas[y + HIGH - SIDE : y + HIGH, x : x + SIDE] = _thumbnail(seen.paths[i])
            name = _short(seen.classnames[seen.label[i]], 17)
            told = f"{name}\n{seen.weights[i, h]:.3f}"
            panel.text(x + SIDE / 2, y + HIGH - SIDE - 3, told, ha="center", fontsize=7)
    panel.imshow(canvas, interpolation="nearest")
    panel.axis("off")
    never = len(pool) - len(order)
    left_out = [f"{len(rows)} of {len(order)} teachers"] if len(rows) < len(order) else []
    left_out += [f"{never} never picked"] if never else []
    told = f" ({'; '.join(left_out)})" if left_out else ""
    title = f"Images with the highest weights: {_short(seen.title, 70)}{told}"
    figure.suptitle(title, fontsize=12, y=1 - 0.08 / high, va="top")
    return figure


def _thumbnail(path: str) -> np.ndarray:
    """A square from the middle of an image; small ones are enlarged without smoothing."""
    image = read_image(path)
    method = Image.Resampling.NEAREST if min(image.size) < SIDE else Image.Resampling.BICUBIC
    return np.asarray(ImageOps.fit(image, (SIDE, SIDE), method))


def _short(text: str, longest: int = LONGEST) -> str:
    return short(text, longest)
