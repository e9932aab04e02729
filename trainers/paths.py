"""Where the files are that come with the project."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
