"""What a run reads: digests of its lists and of the bytes in its images, which bind its results.

Two digests for each list, twelve hex digits. That of its names is of paths below the data, labels
and class names; that of its content is of bytes, labels and the names of all classes, and None
where images are no files.
"""

import hashlib
import io
from contextlib import redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from datasets.common import data_root
from datasets.files import some
from trainers.features.cache import FeatureCache
from trainers.features.files import FileDigests, content_digest

# in config.yaml: digests of what the run was trained on
TRAINED_KEY, TRAINED_CONTENT_KEY = "TRAINED_ON", "TRAINED_CONTENT"


class Listing:
    """The images of a list as they are now; files are read when it is asked for their content.

    Attributes:
        names: see above.

    Args:
        cfg: configuration of the run.
        classnames: of all classes.
        items: the list of `Datum`.
        more: images that are not named, only bound by their content.
    """

    def __init__(self, cfg: CfgNode, classnames: list[str], items: Any, more: Any = ()):
        self.names = _names_digest(cfg, items)
        self._cfg, self._classnames, self._items = cfg, classnames, [*items, *more]
        self._files: FileDigests | None = None
        self._problem = ""

    @cached_property
    def content(self) -> str | None:
        """See above."""
        paths = [item.impath for item in self._items]
        try:
            self._files = FileDigests(paths, FeatureCache.of(self._cfg))
        except (OSError, ValueError) as error:  # the latter is no path at all
            self._problem = str(error)
            return None
        told = f"{content_digest(self._files, self._items)}{self._classnames}"
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def differs(self, names: str | None, content: str | None) -> bool:
        """Whether this is not what these digests are of; None is not known, and fits all."""
        return names not in (None, self.names) or bool(content) and content != self.content

    def what(self) -> str:
        """Which files differ, in brackets, as far as it is known."""
        if self._problem:
            return f" ({self._problem})"
        changed = self._files.changed if self._files else []
        return f" ({len(changed)} changed: {some(changed)})" if changed else ""

    def keep(self) -> None:
        """Know these files again, without reading them."""
        if self._files:
            self._files.keep()


class Inputs:
    """The lists of a run as they are now.

    Attributes:
        train: what is trained on, validation images included where they choose the model; None
            where nothing is trained.
        test: what is tested.

    Args:
        cfg: configuration of the run.
        dataset: as Dassl builds it.
        trains: whether the run trains.
    """

    def __init__(self, cfg: CfgNode, dataset: Any, trains: bool):
        names, val = list(dataset.classnames), dataset.val or []
        chosen = val if cfg.TEST.FINAL_MODEL == "best_val" else []
        tested = val if cfg.TEST.SPLIT == "val" else []
        self.train = Listing(cfg, names, dataset.train_x, chosen) if trains else None
        self.test = Listing(cfg, names, dataset.test or [], tested)

    @property
    def trained(self) -> dict[str, str | None]:
        """The digests of the training, for config.yaml."""
        train = self.train
        return {TRAINED_KEY: train.names, TRAINED_CONTENT_KEY: train.content} if train else {}

    @property
    def tested(self) -> dict[str, Any]:
        """The digests for results.json."""
        train = self.train and self.train.content
        return {"data": self.test.names, "content": {"train": train, "test": self.test.content}}

    def keep(self) -> None:
        """Know these files again, without reading them; only where they are what they should be."""
        for listing in filter(None, (self.train, self.test)):
            listing.keep()


def look(cfg: CfgNode, trains: bool) -> Inputs | None:
    """The inputs of a run as they are now; None, after a note, where its data is not.

    Raises:
        ValueError, OSError: the data is there, but cannot be used as it is now.
    """
    try:
        with redirect_stdout(io.StringIO()):
            dataset = build_dataset(cfg)
    except (ValueError, OSError) as error:
        if _is_there(cfg):
            raise
        why = str(error).partition("\n")[0]  # results may be looked at where the data is not
        print(f"Note: not compared with the images, which cannot be read: {why}")
        return None
    return Inputs(cfg, dataset, trains)


def _is_there(cfg: CfgNode) -> bool:
    """Whether there is a file or folder where the dataset should be."""
    if cfg.DATASET.PATH:
        return Path(cfg.DATASET.PATH).exists()
    name = getattr(DATASET_REGISTRY.get(cfg.DATASET.NAME), "dataset_dir", "")
    return bool(name) and (data_root(cfg) / name).exists()


def data_place(cfg: CfgNode) -> str:
    """The folder (or table) of own data, else the folder of all datasets."""
    return cfg.DATASET.PATH or str(data_root(cfg))


def _names_digest(cfg: CfgNode, items: Any) -> str:
    root = data_place(cfg)
    lines = (f"{i.impath.removeprefix(root)}\t{i.label}\t{i.classname}\n" for i in items)
    content = "".join(lines).encode(errors="surrogateescape")  # names may hold any bytes
    return hashlib.sha256(content).hexdigest()[:12]
