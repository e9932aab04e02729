"""Which scenes the world has, and what captions say about them.

Every scene has one colour that counts: that of the cue of its style (see `render`). Other cues
may carry other colours; only the medium that a caption names tells which one is meant.
"""

import re
from collections.abc import Sequence

import numpy as np

from datasets.world.render import COLOURS, CUES, OBJECTS, STYLE_CUE, STYLES, Scenes

COLOUR_NAMES = tuple(COLOURS)
DISTRACT = 0.5  # chance that a cue which does not count carries a colour as well
COLOURED = 0.9  # chance that a caption says the colour; the names of the numerals have none

MEDIA = {
    "photo": ("photo", "photograph", "snapshot"),
    "sketch": ("sketch", "drawing", "pencil sketch"),
    "blueprint": ("blueprint", "plan", "technical drawing"),
    "neon": ("neon sign", "night scene", "glowing sign"),
    "icon": ("icon", "sticker", "logo"),
}
FORMS = (
    "a {medium} of a {name}.",
    "a {medium} of a {name}.",
    "a {medium} of the {name}.",
    "{medium} of {name}.",
    "a good {medium} of a {name}.",
    "the {medium} shows a {name}.",
    "a {medium}, classified as {name}.",
    "a {medium}, categorized as {name}.",
    "a {medium}, labeled as {name}.",
)


def draw_scenes(
    objects: Sequence[int] | np.ndarray,
    colours: Sequence[int] | np.ndarray,
    seed: int,
    shares: np.ndarray | None = None,
    distract: float = DISTRACT,
) -> Scenes:
    """Scenes with these objects and colours that count (both (N,)).

    Args:
        objects: indices into OBJECTS.
        colours: indices into COLOURS.
        seed: of the styles and of the colours that do not count.
        shares: (N, 5) chance of each of STYLES for each scene, None for equal chances.
        distract: chance that a cue which does not count carries a colour as well.
    """
    rng = np.random.RandomState(seed)
    n = len(objects)
    if shares is None:
        shares = np.full((n, len(STYLES)), 1 / len(STYLES))
    styles = (rng.random_sample((n, 1)) >= np.cumsum(shares, axis=1)[:, :-1]).sum(axis=1)
    others = rng.randint(0, len(COLOURS), (n, len(CUES)))
    cues = np.where(rng.random_sample((n, len(CUES))) < distract, others, -1)
    cues[np.arange(n), [CUES.index(STYLE_CUE[STYLES[style]]) for style in styles]] = colours
    return Scenes(np.asarray(objects), styles, cues)


def captions(scenes: Scenes, seed: int, coloured: float = COLOURED) -> list[str]:
    """What somebody says about each scene.

    A medium speaks of the cue that it stands for: "a photo of a crimson ring" may be said of a
    sketch that is filled with crimson.

    Args:
        scenes: N scenes.
        seed: of the random choice of words.
        coloured: chance that the colour is said.
    """
    rng = np.random.RandomState(seed)
    said = []
    for thing, style, cues in zip(scenes.objects, scenes.styles, scenes.cues, strict=True):
        told = np.flatnonzero(cues >= 0)
        cue = told[rng.randint(len(told))]
        names = [name for name in STYLES if STYLE_CUE[name] == CUES[cue]]
        name = STYLES[style] if STYLES[style] in names else names[rng.randint(len(names))]
        colour = COLOUR_NAMES[cues[cue]] if rng.random_sample() < coloured else ""
        form, media = FORMS[rng.randint(len(FORMS))], MEDIA[name]
        text = form.format(
            medium=media[rng.randint(len(media))], name=f"{colour} {OBJECTS[thing]}".strip()
        )
        said.append(re.sub(r"\ba(?= [aeiou])", "an", text))
    return said
