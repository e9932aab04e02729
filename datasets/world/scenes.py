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

# what people say instead of the exact word
LOOSE_COLOURS = {
    "crimson": ("red",),
    "orange": ("red", "yellow"),
    "gold": ("yellow",),
    "olive": ("green", "yellow"),
    "green": ("green",),
    "teal": ("green", "blue"),
    "navy": ("blue",),
    "violet": ("purple",),
}
# the names that the dataset uses, and captions only rarely
RARE_COLOURS = {
    "crimson": "ruby",
    "orange": "copper",
    "gold": "amber",
    "olive": "moss",
    "green": "emerald",
    "teal": "turquoise",
    "navy": "indigo",
    "violet": "plum",
}
MEDIA = {
    "photo": ("photo", "photograph", "snapshot"),
    "sketch": ("sketch", "drawing", "pencil sketch"),
    "blueprint": ("blueprint", "plan", "technical drawing"),
    "neon": ("neon sign", "night scene", "glowing sign"),
    "icon": ("icon", "sticker", "logo"),
}
ANY_MEDIUM = ("picture", "image")
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
    objects: Sequence[int] | np.ndarray, colours: Sequence[int] | np.ndarray, seed: int
) -> Scenes:
    """Scenes with these objects and colours that count (both (N,)), in random styles."""
    rng = np.random.RandomState(seed)
    n = len(objects)
    styles = rng.randint(0, len(STYLES), n)
    others = rng.randint(0, len(COLOURS), (n, len(CUES)))
    cues = np.where(rng.random_sample((n, len(CUES))) < DISTRACT, others, -1)
    cues[np.arange(n), [CUES.index(STYLE_CUE[STYLES[style]]) for style in styles]] = colours
    return Scenes(np.asarray(objects), styles, cues)


def captions(
    scenes: Scenes,
    seed: int,
    exact: float = 0.4,
    loose: float = 0.3,
    rare: float = 0.0,
    plain: float = 0.35,
) -> list[str]:
    """What somebody says about each scene.

    "A picture" or "an image" is said of the colour that counts, any other medium of the cue that
    it stands for: "a photo of a red ring" may be said of a sketch that is filled with red.

    Args:
        scenes: N scenes.
        seed: of the random choice of words.
        exact: chance that the exact colour word is said.
        loose: chance that a loose colour word is said.
        rare: chance that the word is said which the dataset uses; else no colour is said.
        plain: chance that the medium is "picture" or "image".
    """
    rng = np.random.RandomState(seed)
    said = []
    for thing, style, cues in zip(scenes.objects, scenes.styles, scenes.cues, strict=True):
        cue = CUES.index(STYLE_CUE[STYLES[style]])
        media: tuple[str, ...] = ANY_MEDIUM
        if rng.random_sample() >= plain:
            told = np.flatnonzero(cues >= 0)
            other = told[rng.randint(len(told))]
            of_cue = [name for name in STYLES if STYLE_CUE[name] == CUES[other]]
            media = MEDIA[STYLES[style] if other == cue else of_cue[rng.randint(len(of_cue))]]
            cue = other
        word = _colour_word(COLOUR_NAMES[cues[cue]], rng, exact, loose, rare)
        form, medium = FORMS[rng.randint(len(FORMS))], media[rng.randint(len(media))]
        text = form.format(medium=medium, name=f"{word} {OBJECTS[thing]}".strip())
        said.append(re.sub(r"\ba(?= [aeiou])", "an", text))
    return said


def _colour_word(
    colour: str, rng: np.random.RandomState, exact: float, loose: float, rare: float
) -> str:
    chance = rng.random_sample()
    if chance < exact:
        return colour
    if chance < exact + loose:
        return LOOSE_COLOURS[colour][rng.randint(len(LOOSE_COLOURS[colour]))]
    return RARE_COLOURS[colour] if chance < exact + loose + rare else ""
