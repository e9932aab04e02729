"""The page in a real browser: nothing is loaded, nothing is wrong, and it fits a phone."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# a page around the page, which may look into it: a window cannot be as narrow as a phone
HARNESS = """<!DOCTYPE html><title>wait</title>
<iframe id="f" width="{width}" height="900" srcdoc="{text}"></iframe>
<script>
addEventListener("load", () => {{
  const frame = document.getElementById("f"), page = frame.contentDocument;
  const found = {{}};
  for (const state of ["folded", "open"]) {{
    if (state === "open") page.querySelectorAll("details").forEach(one => one.open = true);
    found[state] = page.documentElement.scrollWidth;
  }}
  const style = element => frame.contentWindow.getComputedStyle(element);
  found.width = page.documentElement.clientWidth;
  found.loaded = frame.contentWindow.performance.getEntriesByType("resource")
    .map(one => one.name).filter(name => !name.startsWith("data:"));
  found.broken = [...page.images].filter(one => !one.naturalWidth).length;
  found.charts = page.querySelectorAll(".chart svg").length;
  found.paper = style(page.body).backgroundColor;
  found.card = style(page.querySelector(".chart")).backgroundColor;
  document.body.textContent = JSON.stringify(found);
}});
</script>"""


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> str:
    """Path of a browser."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    home = tmp_path_factory.mktemp("browser")
    done = run_browser(found, home, "about:blank")
    if done.returncode:
        pytest.skip(f"{found} does not start here: {done.stderr[-200:]}")
    return found


def run_browser(
    browser: str, home: Path, address: str, *flags: str
) -> subprocess.CompletedProcess[str]:
    """What a browser without a window says of a page."""
    return subprocess.run(
        [
            *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *(f"--user-data-dir={home / 'profile'}", "--enable-logging=stderr", *flags, address),
        ],
        capture_output=True, text=True, timeout=300, env={**os.environ, "HOME": str(home)},
    )  # fmt: skip


@pytest.fixture
def look(browser, real_text, tmp_path):
    """`look(width, scheme)`: what a browser says of the page of the real study."""

    def call(width: int, scheme: int) -> dict:
        path = tmp_path / "harness.html"
        path.write_text(HARNESS.format(width=width, text=html.escape(real_text)))
        done = run_browser(
            *(browser, tmp_path, path.as_uri()),
            *("--virtual-time-budget=20000", "--window-size=1400,1000"),
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        assert done.returncode == 0, done.stderr[-500:]
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
        body = re.search(r"<body>(\{.*?\})\s*</body>", done.stdout, re.DOTALL)
        assert body, (done.stdout[-500:], done.stderr[-500:])
        return json.loads(html.unescape(body[1]))

    return call


@pytest.mark.parametrize(("width", "scheme"), [(400, 1), (1280, 0)], ids=["phone", "dark"])
def test_a_browser_shows_the_page_without_any_trouble(look, width, scheme):
    found = look(width, scheme)
    # what is wide scrolls in a box of its own
    assert found["folded"] == found["open"] == found["width"] <= width
    assert found["loaded"] == [] and found["broken"] == 0
    assert found["charts"] >= 10
    light = scheme == 1
    assert found["paper"] == ("rgb(255, 255, 255)" if light else "rgb(22, 24, 27)")
    assert found["card"] == "rgb(255, 255, 255)"
