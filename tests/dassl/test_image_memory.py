"""Training images are decoded once, within a limit, and are the images that the files hold."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision import transforms as T

from dassl.data import DataManager, DatasetWrapper, dataset_wrapper, image_memory
from dassl.data.data_manager import build_data_loader
from dassl.data.image_memory import ImageMemory, decoded
from dassl.engine import build_trainer
from dassl.utils import ImageError, MissingFileError, read_image

TINY = 12 * 10 * 3  # bytes of an image of the tiny world


@pytest.fixture
def many_kinds(tmp_path) -> list[str]:
    """Files of several formats, modes and sizes, with metadata."""
    generator = np.random.default_rng(0)
    pixels = Image.fromarray(generator.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    pixels.save(tmp_path / "a.png")
    pixels.convert("L").resize((3, 11)).save(tmp_path / "b.png")
    pixels.convert("P").save(tmp_path / "c.gif", transparency=3)
    pixels.convert("CMYK").resize((31, 17)).save(tmp_path / "d.jpg")
    pixels.convert("RGB").resize((8, 8)).save(tmp_path / "e.jpg", exif=exif, icc_profile=b"x" * 50)
    pixels.convert("RGB").resize((1, 1)).save(tmp_path / "f.bmp")
    return [str(tmp_path / name) for name in sorted(os.listdir(tmp_path))]


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Paths of the images that this process decodes, in their order."""
    paths: list[str] = []

    def read(path):
        paths.append(path)
        return read_image(path)

    monkeypatch.setattr(image_memory, "read_image", read)
    monkeypatch.setattr(dataset_wrapper, "read_image", read)
    return paths


@pytest.mark.parametrize("chunk", [1, 300, 10**6])
@pytest.mark.parametrize("threads", [1, 3])
def test_kept_images_are_those_of_the_files(many_kinds, chunk, threads, monkeypatch):
    monkeypatch.setattr(image_memory, "CHUNK", chunk)
    expected = [read_image(path) for path in many_kinds]
    memory = ImageMemory([*many_kinds, many_kinds[0]], threads=threads)
    assert memory.nbytes == sum(ImageMemory([path]).nbytes for path in many_kinds)
    for path in many_kinds:
        os.remove(path)
    assert len(memory) == len(many_kinds) == 6
    for path, image in zip(many_kinds, expected, strict=True):
        found = memory.read(path)
        assert (found.mode, found.size, found.info) == ("RGB", image.size, image.info)
        assert found.tobytes() == image.tobytes()
        ImageDraw.Draw(found).rectangle((0, 0, 99, 99), fill="red")  # does not reach the memory
        found.info.clear()
        again = memory.read(path)
        assert (again.tobytes(), again.info) == (image.tobytes(), image.info)


def test_images_are_kept_as_long_as_they_fit(many_kinds):
    costs = [ImageMemory([path]).nbytes for path in many_kinds]
    assert costs[:2] == [9 * 7 * 3, 3 * 11 * 3]
    assert costs[4] > 8 * 8 * 3 + 50  # the metadata counts
    for kept in range(len(costs) + 1):
        limit = sum(costs[:kept])
        for extra in (0, costs[kept] - 1 if kept < len(costs) else 10**9):
            memory = ImageMemory(many_kinds, limit + extra)
            assert (len(memory), memory.nbytes) == (kept, limit)
            assert [memory.pixels(path) is not None for path in many_kinds] == [
                position < kept for position in range(6)
            ]
            for path in many_kinds:
                assert memory.read(path).tobytes() == read_image(path).tobytes()


@pytest.mark.parametrize(("fault", "kind"), [("gone", MissingFileError), ("cut", ImageError)])
def test_a_bad_file_is_told_as_when_it_is_read(many_kinds, fault, kind):
    if fault == "gone":
        os.remove(many_kinds[3])
    else:
        os.truncate(many_kinds[3], 30)
    with pytest.raises(kind) as expected:
        read_image(many_kinds[3])
    with pytest.raises(kind) as found:
        ImageMemory(many_kinds, threads=2)
    assert str(found.value) == str(expected.value)


def test_decoding_stops_where_the_memory_is_full(many_kinds, reads):
    ImageMemory(many_kinds * 2, limit=0, threads=2)
    assert sorted(reads) == sorted(many_kinds[:3])  # two threads are at most two images ahead


# ---- in loaders


def pictures(world, count=7):
    names = [f"{world}/train_{kind}_{i}.png" for kind in ("cat", "dog") for i in range(count)]
    return [SimpleNamespace(impath=n, label=i % 2, domain=0) for i, n in enumerate(names)]


def two_epochs(loader):
    torch.manual_seed(3)
    found = [batch for _ in range(2) for batch in loader]
    loader.close()
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_what_is_kept(make_cfg, world, workers, capsys, monkeypatch):
    monkeypatch.setattr(dataset_wrapper, "MEBIBYTE", 2 * TINY)  # so that 3 MB hold 6 images
    crop = T.Compose([T.RandomResizedCrop(8), T.RandomHorizontalFlip(), T.ToTensor()])
    found, lines = [], []
    for limit in (0, 3, 7):
        cfg = make_cfg(
            *("DATALOADER.MEMORY_MB", limit, "DATALOADER.NUM_WORKERS", workers),
            *("DATALOADER.K_TRANSFORMS", 2, "DATALOADER.RETURN_IMG0", True),
        )
        loader = build_data_loader(cfg, "RandomSampler", pictures(world), 4, tfm=crop)
        capsys.readouterr()
        found.append(two_epochs(loader))
        lines.append(capsys.readouterr().out)
    assert lines == [
        "",
        "Keeping 6 of 14 decoded training images in memory (3.0 MiB); the others are decoded each "
        "time (DATALOADER.MEMORY_MB)\n",
        "Keeping 14 decoded training images in memory (7.0 MiB)\n",
    ]
    plain, *others = found
    assert len(plain) == 6 and set(plain[0]) == {
        *("img", "img0", "label", "domain", "impath", "index")
    }
    for batches in others:
        for a, b in zip(plain, batches, strict=True):
            assert a["impath"] == b["impath"]
            assert all(torch.equal(x, y) for x, y in zip(a["img"], b["img"], strict=True))
            assert torch.equal(a["img0"], b["img0"])


def test_an_image_is_decoded_once_and_only_for_training(make_cfg, reads):
    manager = DataManager(make_cfg())
    assert reads == []
    for _ in range(3):
        list(manager.train_loader_x)
    assert len(reads) == len(set(reads)) == 21
    list(manager.test_loader)
    list(manager.test_loader)
    assert len(reads) == 21 + 2 * 9
    del reads[:]
    for batches in (DataManager(make_cfg("DATALOADER.MEMORY_MB", 0)).train_loader_x,) * 3:
        list(batches)
    assert len(reads) == 3 * 18  # a short last batch is not read


def test_a_run_that_is_done_decodes_no_training_image(make_cfg, reads):
    build_trainer(make_cfg()).train()
    assert len(reads) == 21 + 9
    del reads[:]
    build_trainer(make_cfg()).train()
    assert [os.path.basename(path).split("_")[0] for path in reads] == ["test"] * 9


def test_wrappers_with_items_of_their_own_are_left_alone(make_cfg, reads, capsys):
    class Numbers(DatasetWrapper):
        def __getitem__(self, idx):
            return {"n": idx}

    loader = DataManager(make_cfg(), dataset_wrapper=Numbers).train_loader_x
    assert len({n for batch in loader for n in batch["n"].tolist()}) == 18
    assert reads == [] and "Keeping" not in capsys.readouterr().out


def test_images_are_decoded_once_until_a_file_changes(many_kinds, monkeypatch):
    monkeypatch.setattr(image_memory, "_last", None)
    assert decoded(many_kinds) is not decoded(many_kinds)  # nothing is kept unless asked for
    image_memory.keep_last()
    first = decoded(many_kinds)
    assert decoded(many_kinds) is first and len(first) == len(many_kinds)
    assert decoded(many_kinds, 10**9) is not first
    first = decoded(many_kinds)
    status = os.stat(many_kinds[0])
    os.utime(many_kinds[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert decoded(many_kinds) is not first
    assert decoded(many_kinds[1:]) is not decoded(many_kinds)
    os.remove(many_kinds[1])
    with pytest.raises(MissingFileError):
        decoded(many_kinds)
