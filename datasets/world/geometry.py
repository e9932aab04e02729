"""Outlines of the world's shapes, and the signed distance to them.

Only `+ - * / sqrt floor` touch arrays, and `math` makes the outlines, so that every machine
renders the same bytes (vectorised `numpy.sin` differs between processors in the last bit).
"""

import math

import numpy as np

Point = tuple[float, float]

# Strokes of the numerals in a box of (-0.6 .. 0.6) x (-1 .. 1), y down.
_STROKES: dict[str, list[list[Point]]] = {
    "one": [[(-0.25, -0.65), (0.1, -1.0), (0.1, 1.0)]],
    "four": [[(0.25, 1.0), (0.25, -1.0), (-0.6, 0.35), (0.6, 0.35)]],
    "seven": [[(-0.6, -1.0), (0.6, -1.0), (-0.1, 1.0)]],
}


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float) -> list[Point]:
    """Points of an elliptic arc; angles in degrees, clockwise on the screen from the right."""
    steps = max(3, round(abs(stop - start) / 30))
    angles = [math.radians(start + (stop - start) * i / steps) for i in range(steps + 1)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


_STROKES |= {
    "zero": [_arc(0, 0, 0.55, 1, 0, 360)],
    "two": [_arc(0, -0.5, 0.55, 0.5, -170, 40) + [(-0.6, 1.0), (0.6, 1.0)]],
    "three": [_arc(0, -0.5, 0.5, 0.5, -150, 90) + _arc(0, 0.5, 0.58, 0.5, -90, 150)],
    "five": [[(0.55, -1.0), (-0.45, -1.0), (-0.5, -0.15)] + _arc(0, 0.4, 0.58, 0.6, -140, 150)],
    "six": [_arc(0.25, 0.0, 0.8, 1.0, -80, -180) + _arc(0, 0.45, 0.55, 0.55, -180, 180)],
    "eight": [_arc(0, -0.5, 0.45, 0.5, 90, 450), _arc(0, 0.5, 0.55, 0.5, -90, 270)],
    "nine": [_arc(0, -0.45, 0.55, 0.55, 0, 360) + [(0.5, 0.2), (0.25, 1.0)]],
}


def _regular(
    corners: int, turn: float, radius: float = 1.0, inner: float | None = None
) -> list[Point]:
    """Corners of a regular polygon, or of a star when an inner radius is given."""
    count = corners if inner is None else 2 * corners
    points = []
    for i in range(count):
        r = radius if inner is None or i % 2 == 0 else inner
        angle = math.radians(turn + 360 * i / count)
        points.append((r * math.cos(angle), r * math.sin(angle)))
    return points


def _heart() -> list[Point]:
    points = []
    for i in range(24):
        t = 2 * math.pi * i / 24
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3, -(y + 2.5) / 15))
    return points


def _crescent() -> list[Point]:
    outer = _arc(0.15, 0, 1, 1, 55, 305)
    inner = _arc(0.55, 0, 0.83, 0.83, 282, 78)
    return outer + inner


# Closed outlines; inside is decided by the even-odd rule, so a second outline is a hole.
OUTLINES: dict[str, list[list[Point]]] = {
    "ring": [_regular(20, 0), _regular(20, 0, 0.5)],
    "star": [_regular(5, -90, 1.08, 0.45)],
    "cross": [
        [
            (-0.33, -1),
            (0.33, -1),
            (0.33, -0.33),
            (1, -0.33),
            (1, 0.33),
            (0.33, 0.33),
            (0.33, 1),
            (-0.33, 1),
            (-0.33, 0.33),
            (-1, 0.33),
            (-1, -0.33),
            (-0.33, -0.33),
        ]
    ],
    "triangle": [[(0, -0.95), (1.05, 0.85), (-1.05, 0.85)]],
    "heart": [_heart()],
    "moon": [_crescent()],
    "arrow": [
        [(-1, -0.3), (0.1, -0.3), (0.1, -0.85), (1.05, 0), (0.1, 0.85), (0.1, 0.3), (-1, 0.3)]
    ],
    "square": [[(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]],
    "circle": [_regular(20, 0, 0.95)],
    "diamond": [[(0, -1.1), (0.75, 0), (0, 1.1), (-0.75, 0)]],
}
STROKES = _STROKES


def _segments(lines: list[list[Point]], closed: bool) -> np.ndarray:
    """All segments of some lines as (S, 4) float32 rows of x0, y0, x1, y1."""
    rows = []
    for line in lines:
        ends = line[1:] + line[:1] if closed else line[1:]
        rows += [(*a, *b) for a, b in zip(line, ends, strict=False)]
    return np.asarray(rows, dtype=np.float32)


_OUTLINE_SEGMENTS = {name: _segments(lines, True) for name, lines in OUTLINES.items()}
_STROKE_SEGMENTS = {name: _segments(lines, False) for name, lines in STROKES.items()}


def signed_distance(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance to a shape's outline, negative inside; a numeral is a stroke 0.36 wide.

    `x` and `y` are float32 arrays of one shape in the units of the outline; so is the result.
    """
    segments = _OUTLINE_SEGMENTS[name] if name in OUTLINES else _STROKE_SEGMENTS[name]
    nearest = np.full(x.shape, np.float32(1e9))
    inside = np.zeros(x.shape, dtype=bool)
    for x0, y0, x1, y1 in segments:
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        across_x, across_y = x - x0 - along * dx, y - y0 - along * dy
        np.minimum(nearest, across_x * across_x + across_y * across_y, out=nearest)
        if name in OUTLINES and y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (dx / dy))
    distance = np.sqrt(nearest)
    if name in STROKES:
        return distance - np.float32(0.18)
    return np.where(inside, -distance, distance)
