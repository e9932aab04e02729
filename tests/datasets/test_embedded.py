"""`shapes` and `digits` are made once, completely, and the same everywhere."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from datasets.digits import Digits
from datasets.errors import DatasetError
from datasets.shapes import BASE_STYLES, CLASSES, NEW_STYLES, SPLITS, Shapes, split_scenes
from datasets.shapes_variants import ShapesBlurred, ShapesNegative
from datasets.world.render import COLOURS, CUES, OBJECTS, STYLE_CUE, STYLES, Scenes, render
from datasets.world.scenes import MEDIA, captions, draw_scenes
from runs.config import default_cfg

ROOT = Path(__file__).resolve().parents[2]


def cfg(root: Path, subset: str = "all", shots: int = -1):
    settings = default_cfg()
    settings.DATASET.ROOT, settings.DATASET.SUBSAMPLE_CLASSES = str(root), subset
    settings.DATASET.NUM_SHOTS, settings.SEED = shots, 1
    return settings


@pytest.fixture(scope="module")
def root(data_root) -> Path:
    for dataset in (Shapes, Digits):
        dataset(cfg(data_root))
    return data_root


def test_shapes_has_forty_classes_whose_halves_share_neither_objects_nor_colours(root):
    everything = Shapes(cfg(root))
    base, new = (Shapes(cfg(root, subset)) for subset in ("base", "new"))
    assert everything.num_classes == 40 and len(set(everything.classnames)) == 40
    assert everything.classnames == base.classnames + new.classnames
    words = []
    for half in (base, new):
        colours, objects = zip(*(name.split() for name in half.classnames), strict=True)
        assert len(set(colours)) == 4 and len(set(objects)) == 5
        words += [*set(colours), *set(objects)]
    assert len(set(words)) == len(words) and set(COLOURS) <= set(words)


@pytest.mark.parametrize("split", SPLITS)
def test_styles_of_a_half_have_their_shares(split):
    labels, scenes = split_scenes(split)
    for half, shares in ((range(20), BASE_STYLES), (range(20, 40), NEW_STYLES)):
        styles = scenes.styles[np.isin(labels, half)]
        found = np.bincount(styles, minlength=len(STYLES)) / len(styles)
        wide = 4 * np.sqrt(np.multiply(shares, np.subtract(1, shares)) / len(styles))  # 4 sigma
        assert (np.abs(found - shares) <= wide).all() and sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("dataset", [Shapes, ShapesBlurred, ShapesNegative])
def test_groups_of_images_are_the_styles_that_they_are_drawn_in(root, dataset):
    everything = dataset(cfg(root))
    folder = root / dataset.dataset_dir
    listed = json.loads((folder / "split.json").read_text())
    for split in ("train", "val", "test") if dataset is Shapes else ("test",):
        styles = split_scenes(split)[1].styles
        drawn = {
            str(folder / name): STYLES[style]
            for (name, *_), style in zip(listed[split], styles, strict=True)
        }
        items = everything.train_x if split == "train" else getattr(everything, split)
        shuffled = [items[i] for i in np.random.default_rng(0).permutation(len(items))]
        assert everything.groups(shuffled) == ("style", [drawn[one.impath] for one in shuffled])
        assert set(drawn.values()) == set(STYLES)


@pytest.mark.parametrize(("dataset", "classes"), [(Shapes, 40), (Digits, 10)])
def test_files_are_exactly_those_of_the_split_file(root, dataset, classes):
    folder = root / dataset.dataset_dir
    split = json.loads((folder / "split.json").read_text())
    assert set(split) == {"version", "train", "val", "test"}
    named = {name for part in ("train", "val", "test") for name, *_ in split[part]}
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == named | {"split.json"}
    assert {label for _, label, _ in split["test"]} == set(range(classes))
    everything = dataset(cfg(root))
    assert [len(x) for x in (everything.train_x, everything.val, everything.test)] == [
        len(split[part]) for part in ("train", "val", "test")
    ]


def test_shapes_counts_per_class(root):
    lists = Shapes(cfg(root))
    for items, (per_class, _) in zip(
        (lists.train_x, lists.val, lists.test), SPLITS.values(), strict=True
    ):
        counts = np.bincount([item.label for item in items])
        assert (counts == per_class).all() and len(counts) == len(CLASSES)


def test_to_make_digits_draws_no_random_number_of_the_run(tmp_path, monkeypatch):
    import sklearn.datasets

    load = sklearn.datasets.load_digits
    # as scikit-learn's first import does where the package rich is installed
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: (random.random(), load())[1])
    state = random.getstate()
    Digits(cfg(tmp_path))
    assert random.getstate() == state


def test_digits_are_scikit_learns_images(root):
    from sklearn.datasets import load_digits

    digits = Digits(cfg(root))
    assert [len(digits.train_x), len(digits.val), len(digits.test)] == [600, 100, 1097]
    seven = [item for item in digits.train_x if item.classname == "seven"][0]
    source = load_digits()
    original = source.images[source.target == 7][0]
    shrunk = Image.open(seven.impath).convert("L").resize((8, 8), Image.Resampling.BOX)
    assert np.abs((255 - np.asarray(shrunk)) / 255 * 16 - original).mean() < 1


def test_shots_and_halves_fit_together(root):
    base = Shapes(cfg(root, "base", shots=16))
    assert len(base.train_x) == 20 * 16 and len(base.val) == 20 * 4
    everything = Shapes(cfg(root, "all", shots=16))
    assert [i.impath for i in base.train_x] == [
        i.impath for i in everything.train_x if i.label < 20
    ]


def test_images_are_the_same_on_every_machine(root):
    folder = root / "shapes"
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for name, *_ in json.loads((folder / "split.json").read_text())[split][::40]:
            digest.update(np.asarray(Image.open(folder / name)).tobytes())
    assert digest.hexdigest()[:16] == "3c23e6e6f5dd785e"


def test_rendering_depends_on_scene_and_seed_only():
    scenes = draw_scenes([0, 1, 2], [3, 4, 5], seed=1)
    assert (render(scenes, 5) == render(scenes, 5)).all()
    assert (render(scenes, 5) != render(scenes, 6)).any()


def test_the_cue_of_the_style_carries_the_colour_that_counts():
    rng = np.random.RandomState(0)
    colours = rng.randint(len(COLOURS), size=500)
    scenes = draw_scenes(rng.randint(len(OBJECTS), size=500), colours, seed=2)
    column = [CUES.index(STYLE_CUE[STYLES[style]]) for style in scenes.styles]
    assert (scenes.cues[np.arange(500), column] == colours).all()
    assert 0.5 < (scenes.cues >= 0).mean() < 0.8, "some other cues carry colours too"


def test_every_object_style_and_colour_looks_different():
    every = [(o, s, c) for o in range(3) for s in range(5) for c in range(8)]
    objects, styles, colours = (np.array(column) for column in zip(*every, strict=True))
    cues = np.full((len(every), 3), -1)
    for row, (style, colour) in enumerate(zip(styles, colours, strict=True)):
        cues[row, CUES.index(STYLE_CUE[STYLES[style]])] = colour
    images = render(Scenes(objects, styles, cues), 0).astype(float)
    flat = images.reshape(len(every), -1)
    distance = ((flat[:, None, ::7] - flat[None, :, ::7]) ** 2).mean(-1)
    assert (distance + np.eye(len(every)) * 1e9).min() > 20


def test_captions_say_the_colour_as_often_as_they_are_asked_to():
    scenes = draw_scenes([0] * 300, [0] * 300, seed=3, distract=0)
    always, never, often = (captions(scenes, 1, coloured=share) for share in (1, 0, 0.9))
    assert all("crimson ring" in text for text in always)
    assert not any("crimson" in text for text in never)
    assert 0.8 < np.mean(["crimson ring" in text for text in often]) < 0.97
    assert not any(" a icon" in f" {text}" for text in always + never)
    assert any(text.startswith("an icon") for text in always)


def test_a_medium_tells_which_colour_is_meant():
    scenes = Scenes(np.array([0] * 400), np.array([STYLES.index("sketch")] * 400),
                    np.array([[0, 1, 2]] * 400))  # fmt: skip
    words = dict(zip(CUES, COLOURS, strict=False))
    told = captions(scenes, 1, coloured=1)
    for text in told:
        (cue,) = (cue for cue in CUES if words[cue] in text)
        assert any(m in text for style in MEDIA if STYLE_CUE[style] == cue for m in MEDIA[style])
    counts = [sum(word in text for text in told) for word in words.values()]
    assert min(counts) > 90, "all three are told alike"
    # of the two styles that are drawn with hatching, the image is in one
    assert not any("blueprint" in text or "plan" in text for text in told)


# ---- variants for domain generalisation


@pytest.mark.parametrize("variant", [ShapesBlurred, ShapesNegative])
def test_variants_hold_the_test_images_of_shapes_changed(root, variant):
    source = Shapes(cfg(root)).test
    data = variant(cfg(root, subset="new", shots=4))  # both are ignored, as by ImageNet's variants
    assert data.test_only and data.train_x is data.test and data.val is None
    assert data.classnames == list(Shapes.names) and data.num_classes == 40
    assert [item.label for item in data.test] == [item.label for item in source]
    for ours, theirs in list(zip(data.test, source, strict=True))[::97]:
        image, original = (Image.open(item.impath).convert("RGB") for item in (ours, theirs))
        if variant is ShapesNegative:
            expected = 255 - np.asarray(original)
        else:
            expected = np.asarray(original.filter(ImageFilter.GaussianBlur(1.0)))
        assert (np.asarray(image) == expected).all()
        assert (np.asarray(image) != np.asarray(original)).any()


@pytest.mark.parametrize("variant", [ShapesBlurred, ShapesNegative])
def test_variants_are_made_once_and_hold_no_other_files(root, variant):
    variant(cfg(root))
    folder = root / variant.dataset_dir
    before = (folder / "split.json").stat().st_mtime_ns
    split = json.loads((folder / "split.json").read_text())
    assert (split["train"], split["val"], len(split["test"])) == ([], [], 1600)
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == {name for name, *_ in split["test"]} | {"split.json"}
    variant(cfg(root))
    assert (folder / "split.json").stat().st_mtime_ns == before


# ---- what can go wrong


def test_another_version_is_refused_and_nothing_is_touched(root, tmp_path):
    shutil.copytree(root / "digits", tmp_path / "digits")
    path = tmp_path / "digits/split.json"
    path.write_text(path.read_text().replace('"version": "1"', '"version": "0"'))
    before = path.read_bytes()
    with pytest.raises(DatasetError) as error:
        Digits(cfg(tmp_path))
    assert "has version 0, this code needs 1: delete the folder" in str(error.value)
    assert path.read_bytes() == before


def test_missing_images_and_a_damaged_split_file_are_refused(root, tmp_path):
    shutil.copytree(root / "digits", tmp_path / "digits")
    lost = Path(Digits(cfg(tmp_path)).test[0].impath)
    lost.unlink()
    with pytest.raises(DatasetError, match="1 images are missing .* delete the folder"):
        Digits(cfg(tmp_path))
    (tmp_path / "digits/split.json").write_text("{")
    with pytest.raises(DatasetError, match="split.json is missing or damaged: delete the folder"):
        Digits(cfg(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("train"),
        lambda content: content.update(val=None),
        lambda content: content["test"].append(["test/zero/x.png", 0]),
        lambda content: content["train"][0].__setitem__(1, "zero"),
        lambda content: content["train"][0].__setitem__(1, float("inf")),
        lambda content: content["train"][0].__setitem__(2, None),
    ],
    ids=["no train list", "val is null", "an item of two", "a label in words", "inf", "no name"],
)
def test_a_split_file_of_another_shape_is_refused(root, tmp_path, damage):
    shutil.copytree(root / "digits", tmp_path / "digits")
    path = tmp_path / "digits/split.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="split.json is missing or damaged: delete the folder"):
        Digits(cfg(tmp_path))


@pytest.mark.parametrize("text", ["[]", "[" * 200_000], ids=["a list", "deep lists"])
def test_a_split_file_that_is_a_list_is_refused(root, tmp_path, text):
    shutil.copytree(root / "digits", tmp_path / "digits")
    (tmp_path / "digits/split.json").write_text(text)
    with pytest.raises(DatasetError, match="split.json is missing or damaged: delete the folder"):
        Digits(cfg(tmp_path))


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError) as error:
        Digits(cfg(tmp_path / "file/data"))
    assert str(tmp_path / "file/data/digits") in str(error.value) and "DATA" in str(error.value)


def test_two_processes_make_the_same_folder_without_harm(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.datasets.test_embedded import *;"
        "print(len(Digits(cfg(Path(sys.argv[1]))).test))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.splitlines()[-1] == "1097"
    assert [p.name for p in tmp_path.iterdir()] == ["digits"], "drafts were left behind"
