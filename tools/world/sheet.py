"""A picture of the embedded world: test images of both halves, a row for each style."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dassl.utils import atomic_open
from datasets.shapes import CLASSES, SPLITS, split_scenes
from datasets.world.render import SIZE, STYLES, render
from runs.results import writing

SHOWN = ((0, 6, 9, 15, 16, 3, 13), (20, 26, 29, 35, 36, 23, 33))  # classes of each half
CELL, LEFT, HEAD, GAP = 68, 84, 56, 12


def write_sheet(path: Path) -> None:
    """Write a PNG: base classes on the left, new ones on the right, in the styles that they have.

    Raises:
        UserError: the file cannot be written.
    """
    labels, scenes = split_scenes("test")
    images = render(scenes, SPLITS["test"][1])  # (N, 32, 32, 3)
    half = len(SHOWN[0]) * CELL
    sheet = Image.new("RGB", (LEFT + 2 * half + GAP, HEAD + len(STYLES) * CELL), "white")
    draw = ImageDraw.Draw(sheet)
    for side, (title, classes) in enumerate(zip(("base", "new"), SHOWN, strict=True)):
        left = LEFT + side * (half + GAP)
        draw.text((left + 2, 4), f"{title} classes", "black", font_size=13)
        for column, label in enumerate(classes):
            x = left + column * CELL
            draw.text((x + 2, 22), "\n".join(CLASSES[label]), "black", font_size=12)
            for row in range(len(STYLES)):
                found = np.flatnonzero((np.array(labels) == label) & (scenes.styles == row))
                if len(found):
                    image = Image.fromarray(images[found[0]]).resize(
                        (2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST
                    )
                    sheet.paste(image, (x, HEAD + row * CELL))
    for row, style in enumerate(STYLES):
        draw.text((6, HEAD + row * CELL + 24), style, "black", font_size=13)
    with writing(path, other="another file for --picture"), atomic_open(path, "wb") as file:
        sheet.save(file, format="png")
