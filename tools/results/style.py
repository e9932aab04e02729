"""Looks that figures share."""

from typing import Any

# the colours of Okabe and Ito, which colour-blind people tell apart, from dark to light
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX"
LINES = ("-", "--", "-.", ":")
GREY = "#4D4D4D"
HOLLOW = " (hollow: seeds are missing)"
STYLE: Any = {  # keys of matplotlib.rcParams
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "svg.hashsalt": "mopd",  # ids in SVG files are random without it
}
