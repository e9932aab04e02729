"""Settings of YAML files and KEY VALUE pairs into a configuration, with errors that help."""

from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.utils import UserError
from runs.settings import PER_DATASET, read
from runs.upstream_keys import published
from trainers.errors import brief, meant, shorten
from trainers.yaml_files import load


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """All settings as {"A.B": value}."""
    flat: dict[str, Any] = {}
    for key, value in cfg.items():
        name = f"{prefix}{key}"
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def read_yaml(path: Path) -> Any:
    """Content of a YAML file.

    Raises:
        UserError: no such file, broken YAML, or a key that is there twice (with the line).
    """
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = meant(path.name, near) or ";"
        found = f"{hint} {path.parent} has: {', '.join(near)}" if near else ""
        raise UserError(f"no such configuration file: {path}{found}")
    return load(path, UserError)


class Merging:
    """Lays settings over a configuration; each is read by its row of the table.

    Attributes:
        given: key -> who has set it last.

    Args:
        cfg: the defaults; it is changed.
    """

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg
        self.defaults = flatten(cfg)
        self.given: dict[str, str] = {}

    def file(self, path: Path, *datasets: str) -> None:
        """Merge a file and, if it names a table of settings by dataset, those of the dataset.

        Raises:
            UserError: the file cannot be read, or see `set`.
        """
        content = self._mapping(read_yaml(path), str(path))
        table_name = content.pop(PER_DATASET, None)
        self._tree(content, str(path))
        if table_name is not None:
            self.table(path.parent / read(PER_DATASET, table_name, "", str(path)), *datasets)

    def table(self, path: Path, *datasets: str) -> bool:
        """Merge the settings for a dataset from a table of settings by dataset.

        Args:
            path: of the table.
            datasets: names of the dataset, of which the first that is there counts; without one,
                that of the configuration.

        Returns:
            Whether the table has any for it.

        Raises:
            UserError: the file cannot be read, or see `set`.
        """
        table = self._mapping(read_yaml(path), str(path))
        for name in datasets or (self.cfg.DATASET.NAME,):
            if name in table:
                settings = self._mapping(table[name], f"{path}, {name}")
                self._tree(settings, f"{path}, {name}")
                print(f"Settings for {name} from {path}: {settings}")
                return True
        return False

    def set(self, key: str, value: Any, source: str) -> None:
        """Set one key, and note who has given it.

        Args:
            key: with dots.
            value: as YAML gives it, or a text.
            source: a file, a flag, or the command line.

        Raises:
            UserError: an unknown key, with the closest right one, or a value that its row refuses.
        """
        if key not in self.defaults and not published(key):
            if any(known.startswith(f"{key}.") for known in self.defaults):
                what = f"is a section, expected KEY: VALUE in it, found {brief(value)}"
                raise UserError(f"{source}: {key} {what}")
            raise UserError(f'{source}: unknown key "{shorten(key)}"{_near(key, self.defaults)}')
        self.given[key] = source
        if key in self.defaults:  # a key that only published code has is told with all of its kind
            *sections, leaf = key.split(".")
            node = self.cfg
            for section in sections:
                node = node[section]
            node[leaf] = read(key, value, self.defaults[key], source)

    def _tree(self, tree: dict, source: str, prefix: str = "") -> None:
        """Merge nested settings of a file, key by key."""
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if not isinstance(value, dict) or name in self.defaults:
                self.set(name, value, source)
                continue
            section = f"{name}."
            known = any(one.startswith(section) for one in self.defaults)
            if not known and not any(published(f"{section}{leaf}") for leaf in value):
                near = _near(section, self.defaults)
                raise UserError(f'{source}: unknown section "{shorten(name)}"{near}')
            self._tree(value, source, section)

    @staticmethod
    def _mapping(content: Any, source: str) -> dict:
        if not isinstance(content, dict):
            raise UserError(f"{source}: expected settings as KEY: VALUE, found {brief(content)}")
        return content


def _near(key: str, known: dict[str, Any]) -> str:
    """A suggestion for a key that does not exist."""
    leaf = key.rpartition(".")[2]
    same = [k for k in known if k.rpartition(".")[2] == leaf]  # in another section
    return meant(key, known, cutoff=0.5) or meant(key, same, cutoff=0)
