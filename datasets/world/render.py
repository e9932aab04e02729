"""Draws scenes of the embedded world: one object, up to three colour cues, one of five styles.

A colour word can be told in three ways, and one image may carry several of them at once:
the *fill* of the object (photographs), its *hatching* (drawings: as in heraldry, where a
pattern of lines stands for a colour), or its *rim* (screen images). Which one a caption
means is told by the caption's medium only.
"""

import math
from dataclasses import dataclass

import numpy as np

from datasets.world.geometry import OUTLINES, STROKES, signed_distance

SIZE = 32
STYLES = ("photo", "sketch", "blueprint", "neon", "icon")
CUES = ("fill", "hatch", "rim")
STYLE_CUE = {"photo": "fill", "sketch": "hatch", "blueprint": "hatch", "neon": "rim", "icon": "rim"}
OBJECTS = (*OUTLINES, *STROKES)

# Neighbours four apart are the ones that are easily mistaken for each other.
COLOURS = {
    "crimson": (196, 24, 48),
    "gold": (222, 178, 32),
    "teal": (16, 136, 140),
    "violet": (132, 64, 204),
    "orange": (228, 96, 24),
    "olive": (140, 132, 36),
    "green": (36, 148, 64),
    "navy": (40, 56, 152),
}
HATCHES = ("vertical", "horizontal", "diagonal", "dots", "grid", "zigzag", "crosshatch", "checker")

_CHUNK = 512
_RGB = np.asarray(list(COLOURS.values()), dtype=np.float32)


@dataclass(frozen=True)
class Scenes:
    """N scenes to draw; `cues` holds one index into COLOURS per column of CUES, or -1 for none."""

    objects: np.ndarray  # (N,) index into OBJECTS
    styles: np.ndarray  # (N,) index into STYLES
    cues: np.ndarray  # (N, 3)

    def __len__(self) -> int:
        return len(self.objects)


def render(scenes: Scenes, seed: int) -> np.ndarray:
    """Draw all scenes as uint8 (N, 32, 32, 3); the same scenes and seed give the same bytes."""
    # RandomState, not Generator: its stream is frozen across numpy versions.
    rng = np.random.RandomState(seed)
    images = np.empty((len(scenes), SIZE, SIZE, 3), dtype=np.uint8)
    for start in range(0, len(scenes), _CHUNK):
        stop = min(start + _CHUNK, len(scenes))
        part = Scenes(*(a[start:stop] for a in (scenes.objects, scenes.styles, scenes.cues)))
        images[start:stop] = _draw(part, rng)
    return images


def _draw(scenes: Scenes, rng: np.random.RandomState) -> np.ndarray:
    n = len(scenes)
    knobs = _Knobs(rng, n)
    distance, u, v = _place(scenes.objects, knobs)
    noise = rng.randint(-128, 128, size=(n, SIZE, SIZE, 3)).astype(np.float32)
    canvas, ink, sheet, grain = _backdrop(scenes.styles, knobs, u, v)

    fill, fill_on = _fill(scenes, knobs, sheet)
    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    canvas = _blend(canvas, fill * knobs.shade(u, v), inside * fill_on)

    hatch = _hatch(scenes.cues[:, 1], knobs, u, v)[..., None]
    canvas = _blend(canvas, ink, inside * hatch * knobs.column(0.7, 1.0))

    canvas = _rim(canvas, scenes, knobs, distance, ink)
    canvas = canvas * knobs.light() + noise * grain
    return np.clip(np.floor(canvas + 0.5), 0, 255).astype(np.uint8)


class _Knobs:
    """Random numbers of a chunk, drawn once in a fixed order: one value an image and use."""

    def __init__(self, rng: np.random.RandomState, n: int):
        self._table = rng.random_sample((n, 48)).astype(np.float32)
        self._next = 0

    def flat(self, low: float, high: float) -> np.ndarray:
        """Uniform numbers (N,)."""
        column = self._table[:, self._next]
        self._next += 1
        return np.float32(low) + column * np.float32(high - low)

    def plane(self, low: float, high: float) -> np.ndarray:
        """Uniform numbers (N, 1, 1)."""
        return self.flat(low, high)[:, None, None]

    def column(self, low: float, high: float) -> np.ndarray:
        """Uniform numbers (N, 1, 1, 1)."""
        return self.flat(low, high)[:, None, None, None]

    def rgb(self, low: float, high: float) -> np.ndarray:
        """Uniform colours (N, 1, 1, 3)."""
        return np.stack([self.flat(low, high) for _ in range(3)], axis=-1)[:, None, None, :]

    def shade(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """A linear shade over the object (N, 32, 32, 1)."""
        slope_u, slope_v = self.plane(-0.015, 0.015), self.plane(-0.015, 0.015)
        return (1 + slope_u * (u - SIZE / 2) + slope_v * (v - SIZE / 2))[..., None]

    def light(self) -> np.ndarray:
        """The colour of the light (N, 1, 1, 3)."""
        return self.column(0.75, 1.12) * self.rgb(0.88, 1.12)


def _place(objects: np.ndarray, knobs: _Knobs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance in pixels, and pixel coordinates, all (N, 32, 32)."""
    n = len(objects)
    radius, stretch = knobs.plane(8.5, 12.5), knobs.plane(0.88, 1.14)
    cx, cy = knobs.plane(13.5, 18.5), knobs.plane(13.5, 18.5)
    turn = knobs.flat(-18, 18)
    cos = np.asarray([math.cos(math.radians(t)) for t in turn], dtype=np.float32)[:, None, None]
    sin = np.asarray([math.sin(math.radians(t)) for t in turn], dtype=np.float32)[:, None, None]
    mirror = np.where(knobs.plane(0, 1) < 0.5, np.float32(-1), np.float32(1))
    mirror = np.where((objects >= len(OUTLINES))[:, None, None], np.float32(1), mirror)

    axis = np.arange(SIZE, dtype=np.float32) + np.float32(0.5)
    u = np.broadcast_to(axis[None, None, :], (n, SIZE, SIZE))
    v = np.broadcast_to(axis[None, :, None], (n, SIZE, SIZE))
    x = mirror * ((u - cx) * cos + (v - cy) * sin) / (radius * stretch)
    y = ((v - cy) * cos - (u - cx) * sin) * stretch / radius
    distance = np.empty((n, SIZE, SIZE), dtype=np.float32)
    for index in np.unique(objects):
        rows = np.flatnonzero(objects == index)
        distance[rows] = signed_distance(OBJECTS[index], x[rows], y[rows]) * radius[rows]
    return distance, u, v


def _backdrop(styles, knobs, u, v):
    """Canvas (N, 32, 32, 3), ink and plain object colour (N, 1, 1, 3), and grain (N, 1, 1, 1)."""
    photo = knobs.rgb(60, 190)
    slope = knobs.rgb(-2.2, 2.2) * (u[..., None] - SIZE / 2) + knobs.rgb(-2.2, 2.2) * (
        v[..., None] - SIZE / 2
    )
    paper = knobs.column(205, 250) * np.asarray([1.0, 0.98, 0.93], dtype=np.float32)
    blue = knobs.column(0.8, 1.15) * np.asarray([28, 64, 140], dtype=np.float32)
    night = knobs.column(8, 40) * np.asarray([0.9, 0.9, 1.15], dtype=np.float32)
    pastel = knobs.rgb(150, 235)
    sheets = [photo, paper, blue, night, pastel]
    inks = [photo * 0 + 30, paper * 0 + 35, blue * 0 + 225, night * 0 + 190, pastel * 0 + 40]
    plain = [knobs.column(90, 210) + photo * 0, paper, blue, night * 1.5, pastel * 0 + 240]
    grains = np.asarray([0.16, 0.05, 0.06, 0.07, 0.03], dtype=np.float32)

    sheet, ink, body = (_by_style(styles, options) for options in (sheets, inks, plain))
    canvas = np.broadcast_to(sheet, (len(styles), SIZE, SIZE, 3)).copy()
    canvas += np.where((styles == 0)[:, None, None, None], slope, 0)
    grid = np.maximum(
        _lines(u, knobs.plane(5, 9), knobs.plane(0, 9), 0.7),
        _lines(v, knobs.plane(5, 9), knobs.plane(0, 9), 0.7),
    )[..., None]
    canvas += np.where((styles == 2)[:, None, None, None], grid * 28, 0)
    return canvas, ink, body, grains[styles][:, None, None, None]


def _by_style(styles: np.ndarray, options: list[np.ndarray]) -> np.ndarray:
    return np.stack(options)[styles, np.arange(len(styles))]


def _fill(scenes: Scenes, knobs: _Knobs, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cue = scenes.cues[:, 0]
    colour = _RGB[np.maximum(cue, 0)][:, None, None, :] + knobs.rgb(-18, 18)
    has_cue = (cue >= 0)[:, None, None, None]
    return np.where(has_cue, colour, plain), np.where(has_cue, knobs.column(0.85, 1), 1)


def _rim(canvas, scenes, knobs, distance, ink):
    cue = scenes.cues[:, 2]
    has_cue = (cue >= 0)[:, None, None, None]
    colour = _RGB[np.maximum(cue, 0)][:, None, None, :] + knobs.rgb(-18, 18)
    width = np.where(has_cue[..., 0], knobs.plane(1.9, 2.9), knobs.plane(1.0, 1.6))
    line = np.clip(0.5 + width / 2 - np.abs(distance), 0, 1)[..., None]
    neon = (scenes.styles == STYLES.index("neon"))[:, None, None, None]
    glow = np.clip(1 - np.abs(distance) / 6, 0, 1)[..., None]
    canvas = canvas + np.where(neon & has_cue, glow * glow * colour * np.float32(0.45), 0)
    # A photograph shows no drawn line unless the rim is the cue.
    drawn = has_cue | (scenes.styles != STYLES.index("photo"))[:, None, None, None]
    bright = np.where(neon, np.float32(1.3), np.float32(1))
    return _blend(canvas, np.where(has_cue, colour * bright, ink), line * drawn)


def _hatch(cue: np.ndarray, knobs: _Knobs, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How much ink the hatching puts on each pixel (N, 32, 32), 0 where the cue is absent."""
    period, phase, other = knobs.plane(3.8, 5.0), knobs.plane(0, 5), knobs.plane(0, 5)
    lean = np.where(knobs.plane(0, 1) < 0.5, np.float32(-1), np.float32(1))
    root = np.float32(math.sqrt(0.5))
    across, along = _lines(u, period, phase, 1.4), _lines(v, period, other, 1.4)
    rising = _lines((u + lean * v) * root, period, phase, 1.4)
    falling = _lines((u - lean * v) * root, period, other, 1.4)
    wave = np.abs(_offset(u, period * 2, phase)) * np.float32(0.9)
    half_u = np.floor((u + phase) / (period * np.float32(0.75)))
    half_v = np.floor((v + other) / (period * np.float32(0.75)))
    spot_u, spot_v = _offset(u, period, phase), _offset(v, period, other)
    spot = np.sqrt(spot_u * spot_u + spot_v * spot_v)
    inks = {
        "vertical": across,
        "horizontal": along,
        "diagonal": rising,
        "dots": np.clip(1.8 - spot, 0, 1),
        "grid": np.maximum(across, along),
        "zigzag": _lines(v + wave, period, other, 1.4),
        "crosshatch": np.maximum(rising, falling),
        "checker": half_u + half_v - 2 * np.floor((half_u + half_v) / 2),
    }
    stack = np.stack([inks[name] for name in HATCHES])
    drawn = stack[np.maximum(cue, 0), np.arange(len(cue))]
    return np.where((cue >= 0)[:, None, None], drawn, 0).astype(np.float32)


def _offset(value: np.ndarray, period: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Signed distance to the nearest multiple of the period."""
    shifted = (value + phase) / period
    return (shifted - np.floor(shifted + np.float32(0.5))) * period


def _lines(value: np.ndarray, period: np.ndarray, phase: np.ndarray, width: float) -> np.ndarray:
    """Coverage of parallel lines of a width."""
    return np.clip(0.5 + width / 2 - np.abs(_offset(value, period, phase)), 0, 1)


def _blend(canvas: np.ndarray, colour: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return canvas + (colour - canvas) * amount
