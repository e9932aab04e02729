"""ImageNet: archives of archives, and images without class folders."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
from torchvision import datasets as tv

from dassl.utils import UserError
from tests.tools.data.archives import make_tar, tar_of, too_long_chain
from tests.tools.data.published import CLASSNAMES, FILES, by_hand, run, tree
from tools.data import imagenet_archives
from tools.data.place import DEVKIT
from tools.data.sources import SOURCES
from tools.prepare_data import main


def devkit(labels: list[int], wnids: list[str]) -> bytes:
    """A development kit: synsets in another order than their wnids, and a class for each image."""
    synsets = np.array(
        [(i, wnid, f"name {i}", "", 0, 0, 0, 1) for i, wnid in enumerate(wnids, start=1)],
        dtype=[(name, object) for name in "ILSVRC2012_ID WNID words gloss num_children "
               "wordnet_height children num_train_images".replace("  ", " ").split()],
    )  # fmt: skip
    # a synset above the leaves is no class
    synsets = np.append(
        synsets, np.array([(99, "n99999999", "top", "", 3, 0, 0, 0)], synsets.dtype)
    )
    file = io.BytesIO()
    scipy.io.savemat(file, {"synsets": synsets})
    top = "ILSVRC2012_devkit_t12/data"
    truth = "".join(f"{label}\n" for label in labels).encode()
    return make_tar(
        {
            f"{top}/meta.mat": file.getvalue(),
            f"{top}/ILSVRC2012_validation_ground_truth.txt": truth,
        },
        compressed=True,
    )


@pytest.fixture
def imagenet(server, monkeypatch):
    """Archives of ImageNet with three classes: name -> bytes."""
    wnids = ["n00000007", "n00000003", "n00000005"]
    classes = {
        f"{wnid}.tar": make_tar({f"{wnid}_{i}.JPEG": f"{wnid} {i}".encode() for i in range(2)})
        for wnid in wnids
    }
    val = {f"ILSVRC2012_val_{i:08}.JPEG": f"val {i}".encode() for i in (1, 2, 3, 4)}
    files = {
        "ILSVRC2012_img_train.tar": make_tar(classes),
        "ILSVRC2012_img_val.tar": make_tar(val),
        DEVKIT: devkit([3, 1, 2, 1], wnids),
    }
    md5 = {name: hashlib.md5(body).hexdigest() for name, body in files.items()}
    monkeypatch.setitem(tv.imagenet.ARCHIVE_META, "devkit", (DEVKIT, md5[DEVKIT]))
    source = SOURCES["imagenet"]
    counts = {"ILSVRC2012_img_train.tar": 6, "ILSVRC2012_img_val.tar": 4}
    changed = tuple(
        replace(
            part,
            digest=f"md5:{md5[part.file]}",
            images=replace(part.images, count=counts[part.file]),
        )
        if part.file in counts
        else part
        for part in source.parts
    )
    monkeypatch.setitem(SOURCES, "imagenet", replace(source, parts=changed))
    for name, body in files.items():
        monkeypatch.setitem(FILES, name, body)
    return files


VAL = {
    "images/val/n00000005/ILSVRC2012_val_00000001.JPEG": b"val 1",
    "images/val/n00000007/ILSVRC2012_val_00000002.JPEG": b"val 2",
    "images/val/n00000003/ILSVRC2012_val_00000003.JPEG": b"val 3",
    "images/val/n00000007/ILSVRC2012_val_00000004.JPEG": b"val 4",
}
TRAIN = {
    f"images/train/{wnid}/{wnid}_{i}.JPEG": f"{wnid} {i}".encode()
    for wnid in ("n00000003", "n00000005", "n00000007")
    for i in range(2)
}


def test_imagenet_is_unpacked_from_the_archives_of_the_user(imagenet, capsys, tmp_path):
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    page = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (with a login)"
    assert f"get ILSVRC2012_img_train.tar from {page}, put it into" in shown
    assert f"get ILSVRC2012_img_val.tar and {DEVKIT} from {page}, put them into" in shown
    by_hand(tmp_path, "imagenet", *imagenet)
    run(capsys, "imagenet", "--data", str(tmp_path))
    assert tree(tmp_path / "imagenet") == TRAIN | VAL | {"classnames.txt": CLASSNAMES}
    assert set(imagenet) <= {path.name for path in (tmp_path / "downloads/imagenet").iterdir()}


def test_training_images_continue_after_a_kill_and_keep_what_the_user_has(
    imagenet, capsys, tmp_path, monkeypatch
):
    by_hand(tmp_path, "imagenet", *imagenet)
    half = tmp_path / "imagenet/images/train/n00000003"
    half.mkdir(parents=True)
    (half / "n00000003_0.JPEG").write_bytes(b"user's")
    merge = imagenet_archives.merge

    def dying(source, target):
        merge(source, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(imagenet_archives, "merge", dying)
        with pytest.raises(KeyboardInterrupt):
            main(["imagenet", "--data", str(tmp_path)])
    assert len(tree(tmp_path / "imagenet/images/train")) == 3
    run(capsys, "imagenet", "--data", str(tmp_path))
    kept = {"images/train/n00000003/n00000003_0.JPEG": b"user's"}
    assert tree(tmp_path / "imagenet") == TRAIN | VAL | kept | {"classnames.txt": CLASSNAMES}


def test_classes_that_are_complete_are_not_unpacked_again(imagenet, capsys, tmp_path, monkeypatch):
    by_hand(tmp_path, "imagenet", *imagenet)
    run(capsys, "imagenet", "--data", str(tmp_path))
    shutil.rmtree(tmp_path / "imagenet/images/train/n00000005")
    unpacked = []
    extract = tarfile.TarFile.extract

    def recording(self, member, *args, **kwargs):
        unpacked.append(member.name)
        return extract(self, member, *args, **kwargs)

    monkeypatch.setattr(tarfile.TarFile, "extract", recording)
    run(capsys, "imagenet", "--data", str(tmp_path))
    assert unpacked == ["n00000005_0.JPEG", "n00000005_1.JPEG"]
    assert tree(tmp_path / "imagenet") == TRAIN | VAL | {"classnames.txt": CLASSNAMES}


def test_validation_images_side_by_side_are_sorted_by_links(imagenet, capsys, tmp_path):
    folder = tmp_path / "imagenet/images/val"
    folder.mkdir(parents=True)
    flat = {f"ILSVRC2012_val_{i:08}.JPEG": f"val {i}".encode() for i in (1, 2, 3, 4)}
    for name, content in flat.items():
        (folder / name).write_bytes(content)
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    assert f"get {DEVKIT} from https://image-net.org" in shown
    assert "get ILSVRC2012_img_val.tar" not in shown
    by_hand(tmp_path, "imagenet", "ILSVRC2012_img_train.tar", DEVKIT)
    run(capsys, "imagenet", "--data", str(tmp_path))
    sorted_ones = {name.removeprefix("images/val/"): content for name, content in VAL.items()}
    assert tree(folder) == flat | sorted_ones
    first = folder / "ILSVRC2012_val_00000001.JPEG"
    assert first.samefile(folder / "n00000005" / first.name)


def test_a_damaged_development_kit_is_refused(imagenet, capsys, tmp_path):
    by_hand(tmp_path, "imagenet", *imagenet)
    (tmp_path / "downloads/imagenet" / DEVKIT).write_bytes(b"?")
    shown = run(capsys, "imagenet", "--data", str(tmp_path), code=1)
    assert f"{DEVKIT} is damaged, its md5 is not that of ILSVRC2012" in shown
    assert tree(tmp_path / "imagenet/images/train")
    assert not (tmp_path / "imagenet/images/val").exists()


@pytest.mark.parametrize("what", ["chain", "link", "hard link", "class"])
def test_links_in_the_archives_of_training_images_are_refused(tmp_path, what):
    wnid = "n00000003"
    inner = {
        "chain": too_long_chain("../../victim"),
        "link": tar_of((f"{wnid}_0.JPEG", tarfile.SYMTYPE, "../../victim")),
        "hard link": tar_of((f"{wnid}_0.JPEG", tarfile.LNKTYPE, "../../victim")),
    }
    archive = tmp_path / "train.tar"
    itself = tar_of((f"{wnid}.tar", tarfile.SYMTYPE, f"{wnid}.tar"))
    archive.write_bytes(itself if what == "class" else make_tar({f"{wnid}.tar": inner[what]}))
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    match = "expected only <wnid>.tar" if what == "class" else "is a link"
    with pytest.raises(UserError, match=match):
        imagenet_archives.unpack_train(archive, tmp_path / "train")
    assert tree(tmp_path) == {"train.tar": archive.read_bytes(), "victim": b"mine"}
    assert victim.stat().st_nlink == 1


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_the_archive_of_validation_images_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(imagenet_archives, "val_wnids", lambda devkit: ["n00000003"])
    archive = tmp_path / "val.tar"
    archive.write_bytes(tar_of(("ILSVRC2012_val_00000001.JPEG", kind, "../../../victim")))
    (tmp_path / "victim").write_bytes(b"mine")
    with pytest.raises(UserError, match='val.tar is damaged .*00000001.JPEG" is a link'):
        imagenet_archives.unpack_val(archive, tmp_path / "val", tmp_path / "devkit")
    assert tree(tmp_path) == {"val.tar": archive.read_bytes(), "victim": b"mine"}
