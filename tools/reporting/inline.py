"""Figures and images as text that stands in the page itself."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from dassl.utils import read_image
from tools.reporting.blocks import Picture
from tools.results import style

if TYPE_CHECKING:  # matplotlib takes a second to import
    from matplotlib.figure import Figure

SIDE = 96  # of a small image, in pixels, at most
QUALITY = 82  # of JPEG
DRAWS = 2  # until the places of a constrained layout stay where they are
_POINT = 4 / 3  # CSS pixels
_LEFT_OUT = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", re.DOTALL)
_PLACES = re.compile(r' (?:d|x|y)="[^"]*"')
_TAG, _ID = re.compile(r"<[^>]*>"), re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'(?:url\(#|href="#)([^)"]+)')
_LEVEL = re.compile(r' transform="rotate\(-0 [^"]*"')
_FONT = re.compile(r"font-family: [^;\"]*(?:; )?")
_DIGITS = re.compile(r"\d+\.\d{3,}")


@contextmanager
def drawing() -> Iterator[None]:
    """As `tools.results.style.drawing`; texts stay texts, which the browser's fonts show.

    Raises:
        UserError: there is no matplotlib.
    """
    with style.drawing(), warnings.catch_warnings():
        import matplotlib

        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            yield


def picture(figure: Figure, caption: str, alt: str = "") -> Picture:
    """A figure as a block of the page.

    Args:
        alt: what it shows, for who cannot see it; "" is the caption.
    """
    for _ in range(DRAWS if figure.get_layout_engine() else 0):
        figure.draw_without_rendering()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", **style.FORMATS["svg"])
    width = round(figure.get_figwidth() * 72 * _POINT)
    return Picture(svg(buffer.getvalue(), alt or caption), caption, width)


def svg(text: str, alt: str) -> str:
    """An SVG file as an element of a page, short, and with ids that no other figure has."""
    text = _LEFT_OUT.sub("", text[text.index("<svg") :])
    used = set(_REFERENCE.findall(text))
    prefix = f"s{hashlib.sha256(text.encode()).hexdigest()[:8]}-"

    def tidy(tag: re.Match[str]) -> str:
        found = _ID.sub(lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", tag[0])
        found = _FONT.sub("", found)  # the page has its own
        found = _LEVEL.sub("", found)
        found = re.sub(r'(url\(#|href="#)', rf"\1{prefix}", found)
        found = _PLACES.sub(lambda m: _DIGITS.sub(lambda n: f"{float(n[0]):.2f}", m[0]), found)
        return re.sub(r"\s+", " ", found)

    text = _TAG.sub(tidy, text)  # never the texts of a figure, which are names of any kind
    text = re.sub(r">\s+<", "><", text).replace("<g/>", "").strip()
    size = re.search(r'viewBox="[^"]*"', text)
    start = f'<svg role="img" aria-label="{html.escape(alt)}" {size[0] if size else ""}>'
    return start + text[text.index(">") + 1 :]


def thumbnail(path: Path) -> str:
    """A small copy of an image as a data address, PNG or JPEG; "" if it cannot be read."""
    with suppress(OSError, ValueError):  # also what `read_image` raises
        image = read_image(str(path))
        image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
        found = {kind: _encoded(image, kind) for kind in ("png", "jpeg")}
        kind = min(found, key=lambda kind: len(found[kind]))
        return f"data:image/{kind};base64,{found[kind]}"
    return ""


def _encoded(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, quality=QUALITY)  # PNG has no quality
    return base64.b64encode(buffer.getvalue()).decode()
