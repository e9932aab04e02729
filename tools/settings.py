"""Print the page of all settings: each key with its type, default, range and meaning.

python -m tools.settings                        look at it
python -m tools.settings > docs/settings.md     write it anew, after a change of a setting
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dassl.engine import TRAINER_REGISTRY
from runs import command
from runs.config import FLAGS, default_cfg
from runs.merging import flatten
from runs.settings import OTHERS, ROWS
from trainers.settings import Setting

HEAD = """# Settings

Written by `python -m tools.settings > docs/settings.md`; a test compares it with the code.

A setting stands in a YAML file, nested or with dots, or as `KEY VALUE` at the end of a command, or
under `opts` of a study. It is read in the same way everywhere: a value of another kind, or out of
range, ends the command with one message that names the file or flag, the key, the value, and what
was expected. Later wins: default, dataset's file, trainer's file, the dataset's row in the table
that the trainer's file names, its row in the table that a pair `PER_DATASET FILE` names, flags,
`KEY VALUE` pairs.

- Whole numbers serve as numbers, not the other way round. Numbers are finite.
- A list is `[a, b]` in a file, `"['a', 'b']"` or `"(1, 2)"` on a command line.
- A text that looks like a number or a bool needs quotes in a file, but not on a command line.
- A key without a value (`KEY:`) is refused, but for texts that may be empty: it is said what then.
"""
METHODS = """## Methods

The key of a knob is `TRAINER.<NODE>.<KNOB>`. What they do: [methods.md](methods.md). A knob of
[your own method](own_method.md) without a row takes any value of the kind of its default, and so do
the nodes of upstream Dassl's trainers.
"""
FLAGS_HEAD = """## Flags of train.py

These stand for a setting: {flags}.

Read in the same way, but no settings: other flags, and a key that names a file of settings.
"""


def page() -> str:
    """The whole page, in Markdown."""
    defaults = flatten(default_cfg())
    sections: dict[str, list[str]] = {}
    for key in ROWS:
        top = key.partition(".")[0] if "." in key and not key.startswith("TRAINER") else "The run"
        sections.setdefault(top, []).append(key)
    parts = [HEAD]
    for name, keys in sections.items():
        parts += [f"## {name}\n", _table((key, ROWS[key], defaults[key]) for key in keys)]
    parts.append(METHODS)
    for name in sorted(TRAINER_REGISTRY.registered_names()):
        method: Any = TRAINER_REGISTRY.get(name)
        if method.__module__.startswith("trainers.") and hasattr(method, "knob_rows"):
            rows: Mapping[str, Setting] = method.knob_rows()
            parts += [
                f"### {name}: `TRAINER.{method.node()}`\n",
                _table((key, rows[key], default) for key, default in method.defaults.items()),
            ]
    flags = ", ".join(f"`--{flag.replace('_', '-')}` ({key})" for flag, key in FLAGS.items())
    parts += [FLAGS_HEAD.format(flags=flags), _table((key, row, "") for key, row in OTHERS.items())]
    return "\n".join(parts)


def _table(rows: Iterable[tuple[str, Setting, Any]]) -> str:
    lines = ["| key | type and range | default | meaning |", "|---|---|---|---|"]
    for key, row, default in rows:
        shown = f"`{default}`" if default not in ("", (), []) else row.empty or "none"
        meaning = row.meaning
        if row.empty and default not in ("", (), []):
            meaning += f"; empty: {row.empty}"
        kind = row.range(default)
        if row.infinite:
            kind += ", also infinite"
        lines.append(f"| `{key}` | {kind} | {shown} | {meaning} |")
    return "\n".join([*lines, ""])


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the page.

    Raises:
        SystemExit: code 1 after a message on stderr; code 2 for unknown flags.
    """
    command.parser(__doc__, "tools.settings").parse_args(argv)
    print(page(), end="")


if __name__ == "__main__":
    command.run(main)
