"""Batches: their content, order, number and errors."""

import random
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from dassl.data import DataManager, DatasetWrapper
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.samplers import build_sampler
from dassl.utils import ImageError, MissingFileError, UserError, read_image


def test_batches_hold_images_labels_domains_paths_and_positions(make_cfg, world):
    dm = DataManager(make_cfg())
    batch = next(iter(dm.test_loader))
    assert set(batch) == {"img", "label", "domain", "impath", "index"}
    assert batch["img"].shape == (9, 3, 8, 8)
    assert batch["label"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert batch["label"].dtype == batch["index"].dtype == batch["domain"].dtype == torch.int64
    assert batch["index"].tolist() == list(range(9))
    assert batch["impath"][4] == f"{world}/test_dog_1.png"


def test_manager_attributes_and_table(make_cfg, capsys):
    dm = DataManager(make_cfg("DATASET.SOURCE_DOMAINS", ("photo",)))
    assert (dm.num_classes, dm.num_source_domains) == (3, 1)
    assert dm.lab2cname == {0: "cat", 1: "dog", 2: "owl"}
    assert dm.dataset.classnames == ["cat", "dog", "owl"]
    assert dm.train_loader_u is None
    assert [len(x or ()) for x in (dm.train_loader_x, dm.val_loader, dm.test_loader)] == [3, 1, 1]
    lines = capsys.readouterr().out.splitlines()[-8:]
    assert set(lines[0]) == set(lines[-1]) == {"-", " "}
    assert [re.split(r" {2,}", line) for line in lines[1:-1]] == [
        ["Dataset", "TinyPets"],
        ["Source", "('photo',)"],
        ["# classes", "3"],
        ["# train_x", "21"],
        ["# val", "6"],
        ["# test", "9"],
    ]


def test_a_quiet_configuration_prints_no_table(make_cfg, capsys):
    DataManager(make_cfg("VERBOSE", False))
    assert "TinyPets" not in capsys.readouterr().out


def test_custom_transforms_and_wrapper_are_used(make_cfg, capsys):
    class Wrapper(DatasetWrapper):
        def __getitem__(self, idx):
            return {"n": idx + 100}

    dm = DataManager(
        make_cfg(),
        custom_tfm_train=T.ToTensor(),
        custom_tfm_test=T.ToTensor(),
        dataset_wrapper=Wrapper,
    )
    assert next(iter(dm.test_loader)) == {"n": pytest.approx(torch.arange(100, 109))}
    out = capsys.readouterr().out
    assert "* Using custom transform for training\n* Using custom transform for testing\n" in out
    assert "Building" not in out


def test_a_test_only_dataset_has_no_training_loader(make_cfg):
    dm = DataManager(make_cfg("DATASET.NAME", "TinyTestOnly"))
    assert (dm.train_loader_x, dm.val_loader) == (None, None)
    assert dm.num_classes == 3
    assert len(dm.test_loader.dataset) == 9  # type: ignore[arg-type]


@pytest.mark.parametrize(("same", "batch_size"), [(True, 6), (False, 2)])
def test_unlabelled_images_get_the_labelled_settings_if_asked(make_cfg, same, batch_size):
    class Both(DATASET_REGISTRY.get("TinyPets")):  # type: ignore[misc]
        @property
        def train_u(self):
            return self.test

    DATASET_REGISTRY.register(Both, force=True)
    cfg = make_cfg(
        *("DATASET.NAME", "Both", "DATALOADER.TRAIN_U.SAME_AS_X", same),
        *("DATALOADER.TRAIN_U.BATCH_SIZE", 2),
    )
    loader = DataManager(cfg).train_loader_u
    assert loader is not None
    assert [len(batch["label"]) for batch in loader] == [batch_size] * (9 // batch_size)


# ---- wrapper


def items(world, count=4):
    names = [f"{world}/train_cat_{i}.png" for i in range(count)]
    return [SimpleNamespace(impath=n, label=0, domain=0, classname="cat") for n in names]


def test_several_transforms_give_several_images(make_cfg, world):
    wrapper = DatasetWrapper(make_cfg(), items(world), [T.ToTensor(), T.Grayscale(), T.ToTensor()])
    item = wrapper[2]
    assert set(item) == {"label", "domain", "impath", "index", "img", "img2", "img3"}
    assert torch.equal(item["img"], item["img3"])
    assert item["img2"].mode == "L"
    assert len(wrapper) == 4


def test_without_a_transform_the_picture_itself_is_returned(make_cfg, world):
    item = DatasetWrapper(make_cfg(), items(world))[0]
    assert np.array_equal(np.asarray(item["img"]), np.asarray(read_image(item["impath"])))


def test_k_views_only_in_training(make_cfg, world):
    cfg = make_cfg("DATALOADER.K_TRANSFORMS", 3)
    noisy = T.Compose([T.ToTensor(), lambda x: x + torch.rand(1)])
    loader = build_data_loader(cfg, data_source=items(world), batch_size=2, tfm=noisy)
    views = next(iter(loader))["img"]
    assert [tuple(view.shape) for view in views] == [(2, 3, 12, 10)] * 3
    assert not torch.equal(views[0], views[1])
    assert DatasetWrapper(cfg, items(world), noisy, is_train=False)[0]["img"].shape == (3, 12, 10)
    with pytest.raises(UserError, match="Cannot transform the image 3 times"):
        DatasetWrapper(cfg, items(world), is_train=True)


@pytest.mark.parametrize("choices", [(), ("normalize",)])
def test_img0_is_resized_and_normalised_only_if_the_images_are(make_cfg, world, choices):
    cfg = make_cfg("DATALOADER.RETURN_IMG0", True, "INPUT.TRANSFORMS", choices)
    item = DatasetWrapper(cfg, items(world), T.ToTensor())[0]
    expected = T.Compose([T.Resize((8, 8)), T.ToTensor()])(read_image(item["impath"]))
    if choices:
        expected = T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)(expected)
    assert torch.equal(item["img0"], expected)


# ---- loader


@pytest.mark.parametrize(
    ("count", "batch_size", "is_train", "sizes"),
    [
        (7, 3, True, [3, 3]),
        (7, 3, False, [3, 3, 1]),
        (2, 3, True, [2]),
        (3, 3, True, [3]),
    ],
)
def test_a_short_last_batch_is_dropped_in_training_unless_alone(
    make_cfg, world, count, batch_size, is_train, sizes
):
    loader = build_data_loader(
        make_cfg(),
        data_source=items(world, count),
        batch_size=batch_size,
        tfm=T.ToTensor(),
        is_train=is_train,
    )
    assert len(loader) == len(sizes)
    assert [len(batch["label"]) for batch in loader] == sizes


@pytest.mark.parametrize("source", [None, []])
def test_an_empty_split_is_named(make_cfg, source):
    with pytest.raises(UserError, match="The test data of TinyPets is empty"):
        build_data_loader(make_cfg(), data_source=source, is_train=False)
    with pytest.raises(UserError, match="batch size must be at least 1"):
        build_data_loader(make_cfg(), data_source=[1], batch_size=0)


def test_zero_workers_start_no_process_and_pin_nothing_on_the_cpu(make_cfg, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a process was started")

    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refuse)
    dm = DataManager(make_cfg())
    assert sum(len(batch["label"]) for batch in dm.test_loader) == 9
    assert not dm.test_loader.pin_memory


def test_memory_is_pinned_only_for_cuda(make_cfg, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert DataManager(make_cfg("USE_CUDA", True)).test_loader.pin_memory
    assert not DataManager(make_cfg("USE_CUDA", False)).test_loader.pin_memory


@pytest.mark.parametrize("memory", [0, 16])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["truncated", "gone"])
def test_a_bad_image_stops_the_run_with_its_name_from_workers_too(
    make_cfg, tmp_path, workers, fault, memory, monkeypatch, workers_end
):
    # After an error torch waits this long for a worker (5 s) before it ends it.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    path = tmp_path / "bad.png"
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(path)
    source = [SimpleNamespace(impath=str(path), label=0, domain=0, classname="")]
    cfg = make_cfg("DATALOADER.NUM_WORKERS", workers, "DATALOADER.MEMORY_MB", memory)
    loader = build_data_loader(cfg, data_source=source, tfm=T.ToTensor())
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(MissingFileError if fault == "gone" else ImageError) as error:
        next(iter(loader))
    start = f'No file exists at "{path}"' if fault == "gone" else f'"{path}" is not a readable'
    assert str(error.value).startswith(start)
    assert "Traceback" not in str(error.value)
    loader.close()  # type: ignore[attr-defined]
    assert workers_end()


# ---- samplers


def domain_items(sizes, labels=None):
    labels = labels or [0] * len(sizes)
    return [
        SimpleNamespace(domain=domain, label=label)
        for domain, (size, label) in enumerate(zip(sizes, labels, strict=True))
        for _ in range(size)
    ]


def test_random_order_is_that_of_torch_and_its_generator():
    sampler = build_sampler("RandomSampler", data_source=list(range(10)))
    torch.manual_seed(0)
    first = list(sampler)
    assert sorted(first) == list(range(10))
    assert list(sampler) != first
    torch.manual_seed(0)
    assert list(sampler) == first
    assert list(build_sampler("SequentialSampler", data_source=list(range(4)))) == [0, 1, 2, 3]


@pytest.mark.parametrize("n_domain", [0, 1, 2])
def test_random_domains_are_balanced_in_each_batch(n_domain):
    source = domain_items([8, 9, 13])
    random.seed(0)
    sampler = build_sampler(
        "RandomDomainSampler", data_source=source, batch_size=6, n_domain=n_domain
    )
    for _ in range(5):
        length = len(sampler)  # type: ignore[arg-type]
        order = list(sampler)
        assert len(order) == length
        assert len(set(order)) == length
        assert length % 6 == 0
        for i in range(0, length, 6):
            counts = Counter(source[j].domain for j in order[i : i + 6])
            picked = n_domain or 3
            assert sorted(counts.values()) == [6 // picked] * picked


def test_sequential_domains_follow_their_order():
    source = domain_items([4, 5])
    random.seed(0)
    order = list(build_sampler("SeqDomainSampler", data_source=source, batch_size=4))
    assert [source[j].domain for j in order] == [0, 0, 1, 1] * 2
    assert len(set(order)) == 8


def test_random_classes_have_n_items_each_and_small_ones_repeat():
    source = domain_items([2, 7, 4], labels=[0, 1, 2])
    random.seed(0)
    np.random.seed(0)
    sampler = build_sampler("RandomClassSampler", data_source=source, batch_size=8, n_ins=4)
    for _ in range(5):
        order = list(sampler)
        assert order
        for i in range(0, len(order), 8):
            counts = Counter(source[j].label for j in order[i : i + 8])
            assert sorted(counts.values()) == [4, 4]


def test_impossible_samplers_are_refused():
    source = domain_items([4, 5])
    with pytest.raises(UserError, match="Unknown sampler type: Magic"):
        build_sampler("Magic")
    with pytest.raises(UserError, match="a multiple of N_DOMAIN"):
        build_sampler("RandomDomainSampler", data_source=source, batch_size=3, n_domain=2)
    with pytest.raises(UserError, match="has 2 domains"):
        build_sampler("RandomDomainSampler", data_source=source, batch_size=3, n_domain=3)
    with pytest.raises(UserError, match="N_INS 16 holds 0 classes"):
        build_sampler("RandomClassSampler", data_source=source, batch_size=8, n_ins=16)
