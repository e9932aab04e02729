"""Datum, DatasetBase, few-shot drawing and safe unpacking."""

import io
import pickle
import random
import sys
import tarfile
import types
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.datasets.base_dataset import Datum as DatumByPath
from dassl.utils import ChoiceError, MissingFileError, UserError


class Item:
    """What the drawing needs of a `Datum`, without a file."""

    def __init__(self, label: int, number: int, domain: int = 0) -> None:
        self.label, self.number, self.domain = label, number, domain
        self.classname = f"class{label}"


def grid(classes: int, per_class: int) -> list[Item]:
    return [Item(label, number) for label in range(classes) for number in range(per_class)]


# ---- Datum


def test_datum_is_read_only_and_has_the_attributes_of_old_pickles(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    datum = Datum(impath=str(path), label=3, domain=1, classname="owl")
    assert DatumByPath is Datum
    assert (datum.impath, datum.label, datum.domain, datum.classname) == (str(path), 3, 1, "owl")
    expected = {"_impath": str(path), "_label": 3, "_domain": 1, "_classname": "owl"}
    assert vars(datum) == expected
    assert vars(pickle.loads(pickle.dumps(datum))) == expected
    with pytest.raises(AttributeError):
        datum.label = 4  # type: ignore[misc]


def test_datum_names_the_missing_file_and_its_class(tmp_path):
    path = str(tmp_path / "gone.png")
    with pytest.raises(MissingFileError) as error:
        Datum(impath=path, label=3, classname="owl")
    assert f'No image file at "{path}" (label 3, class "owl")' in str(error.value)
    with pytest.raises(TypeError, match="impath must be a string"):
        Datum(impath=tmp_path / "gone.png")  # type: ignore[arg-type]


# ---- DatasetBase


def test_classes_come_from_the_training_items_in_the_order_of_labels():
    train = [Item(4, 0), Item(0, 0), Item(2, 0), Item(0, 1)]
    dataset = DatasetBase(train_x=train, test=[Item(9, 0)])  # type: ignore[arg-type, list-item]
    assert dataset.num_classes == 5
    assert dataset.lab2cname == {0: "class0", 2: "class2", 4: "class4"}
    assert dataset.classnames == ["class0", "class2", "class4"]
    assert dataset.train_x is train
    assert (dataset.val, dataset.train_u) == (None, None)


@pytest.mark.parametrize("train", [None, []])
def test_classes_of_a_test_only_dataset_come_from_its_test_items(train):
    dataset = DatasetBase(train_x=train, test=grid(3, 2))  # type: ignore[arg-type]
    assert dataset.num_classes == 3
    assert dataset.classnames == ["class0", "class1", "class2"]


def test_items_are_grouped_in_the_order_of_first_appearance():
    items = [Item(2, 0, 1), Item(0, 1, 1), Item(2, 2, 0)]
    by_label = DatasetBase().split_dataset_by_label(items)  # type: ignore[arg-type]
    by_domain = DatasetBase().split_dataset_by_domain(items)  # type: ignore[arg-type]
    assert [(k, [i.number for i in v]) for k, v in by_label.items()] == [(2, [0, 2]), (0, [1])]  # type: ignore[attr-defined]
    assert [(k, [i.number for i in v]) for k, v in by_domain.items()] == [(1, [0, 1]), (0, [2])]  # type: ignore[attr-defined]


def test_input_domains_must_be_given_and_known():
    class Domains(DatasetBase):
        domains = ["photo", "sketch"]

    Domains().check_input_domains(["photo"], ["sketch"])
    with pytest.raises(ChoiceError, match="source_domains"):
        Domains().check_input_domains([], ["sketch"])
    with pytest.raises(UserError) as error:
        Domains().check_input_domains(["photo"], ["paint"])
    assert str(error.value) == ("Input domain must belong to ['photo', 'sketch'], but got [paint]")


# ---- few shots


@pytest.mark.parametrize(
    ("seed", "per_class", "shots", "expected"),
    [
        (1, 20, 4, [[4, 18, 2, 8], [3, 15, 14, 18]]),
        (2, 20, 4, [[1, 2, 18, 11]]),
        (3, 20, 4, [[7, 18, 17, 4]]),
        (1, 100, 16, [[17, 72, 97, 8, 32, 15, 63, 57, 60, 83, 48, 26, 12, 62, 3, 49]]),
    ],
)
def test_few_shot_lists_are_those_of_published_runs(seed, per_class, shots, expected):
    random.seed(seed)
    drawn = DatasetBase().generate_fewshot_dataset(grid(2, per_class), num_shots=shots)
    for label, numbers in enumerate(expected):
        assert [i.number for i in drawn if i.label == label] == numbers


def test_second_source_goes_on_with_the_same_generator(capsys):
    first, second = grid(2, 20), grid(3, 9)
    random.seed(1)
    drawn = DatasetBase().generate_fewshot_dataset(first, second, num_shots=4)
    reference = random.Random(1)
    expected = [
        [item.number for label in range(n) for item in reference.sample(source[label * k :][:k], 4)]
        for source, n, k in ((first, 2, 20), (second, 3, 9))
    ]
    assert [[item.number for item in part] for part in drawn] == expected
    assert capsys.readouterr().out == "Creating a 4-shot dataset\n"


def test_without_shots_the_input_is_returned():
    first, second = grid(2, 3), grid(1, 3)
    dataset = DatasetBase()
    assert dataset.generate_fewshot_dataset(first) is first
    assert dataset.generate_fewshot_dataset(first, second, num_shots=0) == (first, second)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    shots=st.integers(1, 8),
    repeat=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_every_class_gives_the_right_number_of_its_own_items(counts, shots, repeat, seed):
    items = [Item(label, n) for label, count in enumerate(counts) for n in range(count)]
    random.seed(seed)
    drawn = DatasetBase().generate_fewshot_dataset(items, num_shots=shots, repeat=repeat)
    for label, count in enumerate(counts):
        own = [item for item in drawn if item.label == label]
        assert len(own) == (shots if repeat else min(shots, count))
        assert {id(item) for item in own} <= {id(item) for item in items}
        if not repeat or count >= shots:
            assert len({id(item) for item in own}) == len(own)
    assert [item.label for item in drawn] == sorted(item.label for item in drawn)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_later_classes_do_not_change_what_earlier_ones_drew(seed, shots):
    dataset = DatasetBase()
    random.seed(seed)
    few = dataset.generate_fewshot_dataset(grid(2, 6), num_shots=shots)
    random.seed(seed)
    many = dataset.generate_fewshot_dataset(grid(5, 6), num_shots=shots)
    assert [i.number for i in many[: len(few)]] == [i.number for i in few]


# ---- registry


def test_datasets_are_built_by_name_from_the_configuration(capsys):
    class NamedData:
        def __init__(self, cfg: CfgNode) -> None:
            self.root = cfg.DATASET.ROOT

    DATASET_REGISTRY.register(NamedData, force=True)
    cfg = get_cfg_default()
    cfg.DATASET.NAME, cfg.DATASET.ROOT = "NamedData", "/data"
    assert build_dataset(cfg).root == "/data"
    assert capsys.readouterr().out == "Loading dataset: NamedData\n"
    cfg.VERBOSE, cfg.DATASET.NAME = False, "NamedDat"
    with pytest.raises(UserError, match=r"got \[NamedDat\] \(do you mean \[NamedData\]\?\)"):
        build_dataset(cfg)


# ---- archives


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def make_tar(path, members):
    with tarfile.open(path, "w:gz" if str(path).endswith("gz") else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data.encode()))


@pytest.fixture
def fake_gdown(monkeypatch):
    """Let gdown.download write whatever the test puts into the returned dict."""
    plan: dict = {}

    def download(url, dst, quiet):
        plan["make"](dst, plan["members"])

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=download))
    return plan


@pytest.mark.parametrize(
    ("suffix", "make"), [(".zip", make_zip), (".tar", make_tar), (".tar.gz", make_tar)]
)
def test_archives_are_unpacked_beside_themselves(tmp_path, fake_gdown, capsys, suffix, make):
    fake_gdown.update(make=make, members={"pets/a.txt": "A"})
    target = tmp_path / "data" / f"pets{suffix}"
    DatasetBase().download_data("url", str(target))
    assert (tmp_path / "data" / "pets" / "a.txt").read_text() == "A"
    assert capsys.readouterr().out == (
        f"Extracting file ...\nFile extracted to {tmp_path / 'data'}\n"
    )


@pytest.mark.parametrize(
    ("suffix", "make"), [(".zip", make_zip), (".tar", make_tar), (".tar.gz", make_tar)]
)
def test_archives_that_would_write_elsewhere_are_refused(tmp_path, fake_gdown, suffix, make):
    fake_gdown.update(make=make, members={"../evil.txt": "E"})
    with pytest.raises(UserError, match=r"is not unpacked.*\.\./evil\.txt"):
        DatasetBase().download_data("url", str(tmp_path / "data" / f"x{suffix}"))
    assert not (tmp_path / "evil.txt").exists()


def test_damaged_archives_and_other_sources_are_refused(tmp_path, fake_gdown):
    fake_gdown.update(make=lambda dst, _: open(dst, "w").close(), members={})
    for suffix in (".zip", ".tar"):
        with pytest.raises(UserError, match="is damaged"):
            DatasetBase().download_data("url", str(tmp_path / f"x{suffix}"))
    with pytest.raises(NotImplementedError):
        DatasetBase().download_data("url", str(tmp_path / "x.rar"))
    with pytest.raises(NotImplementedError):
        DatasetBase().download_data("url", str(tmp_path / "x.zip"), from_gdrive=False)


def test_download_without_gdown_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(UserError, match="pip install gdown"):
        DatasetBase().download_data("url", str(tmp_path / "x.zip"))
