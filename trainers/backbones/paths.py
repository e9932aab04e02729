"""Where the files are that come with the project: weights, pools, the cache."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
