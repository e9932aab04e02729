"""What a dataset is: lists of `Datum` for training, validation and test."""

import os
import os.path as osp
import random
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dassl.utils import ChoiceError, MissingFileError, UserError, mkdir_if_missing

__all__ = ["DatasetBase", "Datum"]


class Datum:
    """One image file with its label, domain and class name; read-only.

    Raises:
        TypeError: ``impath`` is not a string.
        MissingFileError: there is no such file.
    """

    def __init__(
        self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""
    ) -> None:
        if not isinstance(impath, str):
            raise TypeError(f"impath must be a string, but got {type(impath).__name__}")
        if not osp.isfile(impath):
            raise MissingFileError(
                f'No image file at "{impath}" (label {label}, class "{classname}"). '
                "Restore the file, or rebuild the split that lists it."
            )
        # Pickled few-shot lists of CoOp hold exactly these attributes.
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        """Path of the image."""
        return self._impath

    @property
    def label(self) -> int:
        """Class, from 0."""
        return self._label

    @property
    def domain(self) -> int:
        """Domain, from 0."""
        return self._domain

    @property
    def classname(self) -> str:
        """Name of the class."""
        return self._classname

    def __repr__(self) -> str:
        return f"Datum({self._impath!r}, {self._label}, {self._domain}, {self._classname!r})"


class DatasetBase:
    """Lists of `Datum`; classes come from ``train_x``, without it (test-only) from ``test``."""

    dataset_dir = ""  # folder below DATASET.ROOT
    domains: list[str] = []

    def __init__(
        self,
        train_x: list[Datum] | None = None,
        train_u: list[Datum] | None = None,
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
    ) -> None:
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        labelled = train_x or test or []
        self._num_classes = self.get_num_classes(labelled)
        self._lab2cname, self._classnames = self.get_lab2cname(labelled)

    @property
    def train_x(self) -> list[Datum] | None:
        """Labelled training images."""
        return self._train_x

    @property
    def train_u(self) -> list[Datum] | None:
        """Unlabelled training images."""
        return self._train_u

    @property
    def val(self) -> list[Datum] | None:
        """Validation images."""
        return self._val

    @property
    def test(self) -> list[Datum] | None:
        """Test images."""
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        """Class name by label."""
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        """Class names in the order of their labels."""
        return self._classnames

    @property
    def num_classes(self) -> int:
        """Highest label plus one."""
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        """Return the highest label plus one; 0 without items."""
        return max((item.label for item in data_source), default=-1) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        """Return class name by label, and the names in the order of labels."""
        names = {item.label: item.classname for item in data_source}
        mapping = dict(sorted(names.items()))
        return mapping, list(mapping.values())

    def check_input_domains(
        self, source_domains: Sequence[str], target_domains: Sequence[str]
    ) -> None:
        """Check that both lists are there and name domains of this dataset."""
        for name, domains in (("source", source_domains), ("target", target_domains)):
            if len(domains) == 0:
                raise ChoiceError(
                    f"{name}_domains (list) is empty; this dataset has {self.domains}"
                )
            for domain in domains:
                if domain not in self.domains:
                    raise UserError(
                        f"Input domain must belong to {self.domains}, but got [{domain}]"
                    )

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> None:
        """Download an archive from Google Drive to ``dst`` and unpack it beside itself.

        Raises:
            NotImplementedError: another source, or neither .zip nor .tar nor .tar.gz.
            UserError: gdown is missing, the download failed, or a member would leave the folder.
        """
        if not from_gdrive:
            raise NotImplementedError("download_data() supports Google Drive only")
        if not dst.endswith((".zip", ".tar", ".tar.gz")):
            raise NotImplementedError(f"cannot unpack {dst}: expected .zip, .tar or .tar.gz")
        try:
            import gdown
        except ImportError:
            raise UserError(f"Downloading {url} needs gdown: pip install gdown") from None
        folder = osp.dirname(dst) or "."
        mkdir_if_missing(folder)
        gdown.download(url, dst, quiet=False)
        if not osp.isfile(dst):
            raise UserError(
                f'Download of {url} failed. Fetch the file by hand and save it as "{dst}".'
            )
        print("Extracting file ...")
        _extract(dst, folder)
        print(f"File extracted to {folder}")

    def generate_fewshot_dataset(
        self, *data_sources: list[Any], num_shots: int = -1, repeat: bool = False
    ) -> Any:
        """Draw ``num_shots`` items of each class with Python's generator (Dassl API, section 3.1).

        Classes in the order of first appearance. A smaller class is taken whole, or drawn with
        replacement if ``repeat``. One source gives a list, several a list of lists.
        """
        if num_shots < 1:
            return data_sources[0] if len(data_sources) == 1 else data_sources
        print(f"Creating a {num_shots}-shot dataset")
        output = []
        for data_source in data_sources:
            drawn: list[Any] = []
            for items in self.split_dataset_by_label(data_source).values():
                if len(items) >= num_shots:
                    drawn.extend(random.sample(items, num_shots))
                elif repeat:
                    drawn.extend(random.choices(items, k=num_shots))
                else:
                    drawn.extend(items)
            output.append(drawn)
        return output[0] if len(output) == 1 else output

    def split_dataset_by_label(self, data_source: Iterable[Any]) -> defaultdict[int, list[Any]]:
        """Group items by label; labels in the order of first appearance."""
        output: defaultdict[int, list[Any]] = defaultdict(list)
        for item in data_source:
            output[item.label].append(item)
        return output

    def split_dataset_by_domain(
        self, data_source: Iterable[Datum]
    ) -> defaultdict[int, list[Datum]]:
        """Group items by domain; domains in the order of first appearance."""
        output: defaultdict[int, list[Any]] = defaultdict(list)
        for item in data_source:
            output[item.domain].append(item)
        return output


def _extract(archive: str, folder: str) -> None:
    """Unpack an archive into ``folder``; refuse one that would write elsewhere."""
    root = Path(folder).resolve()
    try:
        if archive.endswith(".zip"):
            with zipfile.ZipFile(archive) as zip_file:
                for name in zip_file.namelist():
                    if not (root / name).resolve().is_relative_to(root):
                        raise UserError(
                            f'"{archive}" is not unpacked: "{name}" lies outside "{folder}"'
                        )
                zip_file.extractall(root)
        else:
            with tarfile.open(archive) as tar_file:
                tar_file.extractall(root, filter="data")
    except tarfile.FilterError as error:
        raise UserError(f'"{archive}" is not unpacked: {error}') from error
    except (zipfile.BadZipFile, tarfile.ReadError, EOFError) as error:
        raise UserError(
            f'"{os.fspath(archive)}" is damaged ({error}). Delete it and download it again.'
        ) from error
