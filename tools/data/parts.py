"""What a dataset is made of: images and files, each with its download."""

import posixpath
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

from dassl.data.datasets import DATASET_REGISTRY


@dataclass(frozen=True)
class Images:
    """Images that a dataset needs.

    Attributes:
        folder: path in the dataset's folder.
        count: fewest images, those that the lists name.
        depths: folders between `folder` and an image.
    """

    folder: str
    count: int
    depths: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Part:
    """One thing that a dataset needs, and how it gets there.

    Attributes:
        file: name of the download; who fetches by hand puts it under this name.
        images: images that must be there, or None.
        files: files that must be there, paths in the dataset's folder.
        instead: files that make the part needless when all of them are there.
        urls: addresses, best first; none: somebody has to fetch it by hand.
        size: bytes of the download, about; 0: not known.
        digest: "md5:<hex>" or "sha256:<hex>"; "" where none is published.
        published: that of the first release; what a person puts there may be packed anew.
        how: what to do with the download. "file": it is `files[0]`; "archive": unpack and move.
        inner: an archive inside the archive that is the one to unpack.
        content: path in the archive (several: the first that exists) of what becomes `title`;
            "a/*": what is in a goes to the dataset's folder.
        by_hand: where a person gets it.
        note: what a person should know about it.
    """

    file: str
    images: Images | None = None
    files: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    size: int = 0
    digest: str = ""
    published: str = ""
    how: Literal["file", "archive", "imagenet_train", "imagenet_val", "flower_names"] = "archive"
    inner: str = ""
    content: tuple[str, ...] = ()
    by_hand: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """What the part is, for people: its folder of images, its file, or their folder."""
        return self.images.folder if self.images else posixpath.commonpath(self.files)

    @property
    def target(self) -> str:
        """Where the content of the archive goes, path in the dataset's folder."""
        return "" if any(path.endswith("/*") for path in self.content) else self.title

    @property
    def only_by_hand(self) -> bool:
        """Whether it has no address."""
        return not self.urls and self.how != "flower_names"

    @property
    def copies(self) -> int:
        """How many times its size the download takes on the disk, unpacking included."""
        return 1 if self.how == "file" else 3 if self.inner else 2


def is_split(name: str) -> bool:
    """Whether a file name is that of a split file of CoOp."""
    return name.startswith("split_zhou_")


@dataclass(frozen=True)
class Source:
    """A dataset: the registered name of its reader, and its parts."""

    reader: str
    parts: tuple[Part, ...]

    def mirrored(self, address: str) -> "Source":
        """With all downloads from one folder of the web first; "" leaves it as it is."""
        if not address:
            return self
        urls = lambda part: (f"{address.rstrip('/')}/{quote(part.file)}", *part.urls)  # noqa: E731
        parts = (
            part if part.how == "flower_names" else replace(part, urls=urls(part))
            for part in self.parts
        )
        return replace(self, parts=tuple(parts))

    @property
    def folder(self) -> str:
        """Folder below DATA."""
        return DATASET_REGISTRY.get(self.reader).dataset_dir

    @property
    def elsewhere(self) -> dict[str, tuple[str, ...]]:
        """For folders of the dataset ("" is itself), places below DATA where others put them."""
        return DATASET_REGISTRY.get(self.reader).elsewhere
