"""What stands beside a progress bar."""

import io

from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from dassl.utils.progress import LEAST_BAR, show_figures

FIGURES = {"loss": "1.124", "acc": "42.708", "ce": "1.256", "mpd": "0.013", "lr": "2.0e-02"}


def line(ncols: int, total: int = 60, **figures: str) -> str:
    """A line of a bar that has not moved."""
    with tqdm(total=total, desc="train", unit="batch", file=io.StringIO(), ncols=ncols) as bar:
        show_figures(bar, figures)
        return str(bar)


@given(st.integers(60, 250), st.integers(10, 10**6))
def test_figures_leave_room_for_the_bar_and_the_first_ones_stay(ncols, total):
    found = line(ncols, total, **FIGURES)
    assert len(found) <= ncols
    shown = [name for name in FIGURES if f"{name}=" in found]
    assert shown == list(FIGURES)[: len(shown)]
    if shown:
        assert len(found.split("|")[1]) >= LEAST_BAR


def test_at_80_columns_there_are_a_bar_and_the_loss():
    found = line(80, **FIGURES)
    assert "loss=1.124" in found and "mpd" not in found


def test_all_figures_are_shown_where_there_is_room():
    assert all(f"{name}={text}" in line(160, **FIGURES) for name, text in FIGURES.items())


def test_a_terminal_without_a_width_shows_all():
    assert all(f"{name}=" in line(None, **FIGURES) for name in FIGURES)
