"""An exported prompt is what the run was, for plain CLIP, for NumPy, and for this project."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from dassl.utils import UserError
from inference import export, exporting, load_prompt, predict
from inference.card import card, preprocess_code
from tests.inference.conftest import ROOT, arguments, observed
from tests.trainers.test_every_method import METHODS
from tools import export as command
from trainers.errors import MethodError

BACKBONE = ROOT / "assets/shapes_clip.pt"
FIXED = [name for name in METHODS if name != "CoCoOp"]
FILES = {"README.md", "classifier.npz", "classifier.pt", "prompt.json", "prompt.safetensors"}
# counts with OpenAI's package alone: it knows neither this project nor its folder
PLAIN_CLIP = """
import json, sys
import clip, torch
from PIL import Image
backbone, folders, images = json.load(open(sys.argv[1]))
model, preprocess = clip.load(backbone, device="cpu")
with torch.no_grad():
    pixels = torch.stack([preprocess(Image.open(path)) for path, _ in images])
    features = torch.cat([model.encode_image(part) for part in pixels.split(100)])
    features /= features.norm(dim=-1, keepdim=True)
labels = torch.tensor([label for _, label in images])
right = [int(((features @ torch.load(f"{folder}/classifier.pt")).argmax(1) == labels).sum())
         for folder in folders]
strangers = {name.partition(".")[0] for name in sys.modules} & {"trainers", "dassl", "inference"}
print(json.dumps([right, sorted(strangers)]))
"""


def alone(code: str, folder: Path, *words: str) -> str:
    """What a program prints in a folder, with no way to this project."""
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code, *words],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def told(capsys, words: list[str]) -> str:
    """The message with which the command refuses words."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command.main(words)
    shown = capsys.readouterr()
    assert stop.value.code == 1 and "Traceback" not in shown.err and shown.out == ""
    return shown.err.removeprefix("error: ").strip()


@pytest.fixture(scope="module")
def exports(runs, tmp_path_factory):
    """`exports("CoOp")`: the run's export, made on the first call."""
    done: dict[str, Path] = {}

    def one(method: str) -> Path:
        if method not in done:
            folder = tmp_path_factory.mktemp("exports") / method
            done[method] = export(runs(method).folder, folder)
        return done[method]

    return one


def test_plain_clip_gets_the_accuracy_of_every_method_to_the_image(runs, exports, images, tmp_path):
    told_images = [(item.impath, item.label) for item in images]
    folders = [str(exports(method)) for method in FIXED]
    (tmp_path / "told.json").write_text(json.dumps([str(BACKBONE), folders, told_images]))
    right, strangers = json.loads(alone(PLAIN_CLIP, tmp_path, str(tmp_path / "told.json")))
    assert right == [runs(method).results["correct"] for method in FIXED]
    assert strangers == [] and len(set(right)) > 2


@pytest.mark.parametrize("method", METHODS)
def test_an_export_is_evaluated_and_predicted_with_as_the_run(
    method, runs, exports, images, data_root, tmp_path
):
    run, folder = runs(method), exports(method)
    paths = [item.impath for item in images[::40]]
    there, here = (predict(one, paths) for one in (run.folder, folder))
    assert here["predictions"] == there["predictions"] and here["classes"] == there["classes"]
    words = ["--eval-only", "--model-dir", str(folder)]
    results, predicted = observed([*words, *arguments(method, data_root, tmp_path / "test")])
    assert predicted == run.predicted
    for key in ("accuracy", "checkpoint", "epoch", "source", "correct"):
        assert results[key] == run.results[key], key


@pytest.mark.parametrize("method", METHODS)
def test_the_folder_has_these_files_and_they_say_what_it_is(method, runs, exports):
    run, folder = runs(method), exports(method)
    learned = method not in ("ZeroshotCLIP", "ZeroshotCLIP2")
    missing = {"classifier.pt", "classifier.npz"} if method == "CoCoOp" else set()
    assert names(folder) == FILES - missing - (set() if learned else {"prompt.safetensors"})
    about = json.loads((folder / "prompt.json").read_text())
    assert about["format"] == "mopd-prompt" and about["format_version"] == 1
    assert about["method"] == method and about["classes"] == run.results["classnames"]
    assert about["backbone"] == {
        "name": "assets/shapes_clip.pt",
        "sha256": hashlib.sha256(BACKBONE.read_bytes()).hexdigest(),
    }
    assert about["config_hash"] == run.results["config_hash"]
    assert about["checkpoint"] == run.results["checkpoint"]
    assert about["results"]["base"]["accuracy"] == run.results["accuracy"]
    assert (about["dataset"], about["shots"], about["seed"]) == ("Shapes", 2, 1)
    assert about["preprocessing"]["size"] == [32, 32]
    for name, digest in about["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    if learned:
        path = run.folder / "prompt_learner/model.pth.tar-2"
        state = torch.load(path, weights_only=True)["state_dict"]
        tensors = load_file(folder / "prompt.safetensors")
        assert tensors.keys() == state.keys()
        assert all(torch.equal(tensors[name], state[name]) for name in state)
        assert about["prompt"]["n_ctx"] == tensors["ctx"].shape[0]
    if not missing:
        classifier = torch.load(folder / "classifier.pt", weights_only=True)
        arrays = np.load(folder / "classifier.npz")
        assert classifier.shape[1] == len(about["classes"]) and classifier.is_contiguous()
        assert classifier.norm(dim=0).numpy() == pytest.approx(1, abs=1e-6)
        assert np.array_equal(arrays["classifier"], classifier.numpy())
        assert arrays["classnames"].tolist() == about["classes"]
        assert arrays["logit_scale"] == np.float32(about["logit_scale"])


@pytest.mark.parametrize("method", ["MoPD", "ZeroshotCLIP"])
def test_the_example_of_the_card_runs_without_this_project(
    method, exports, images, tmp_path, monkeypatch
):
    folder = tmp_path / "taken along"
    shutil.copytree(exports(method), folder)
    shutil.copy(BACKBONE, folder / "shapes_clip.pt")
    shutil.copy(images[0].impath, folder / "photo.jpg")
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    kept = "first = logits\n"
    close = "assert torch.allclose(logits, first, rtol=0, atol=1e-3)\n"
    shown = alone(blocks[0] + kept + blocks[1] + close + blocks[2], folder)
    likeliest = predict(exports(method), images[0].impath)["predictions"][0]["top"]
    lines = [f"{hit['class']} {hit['probability']:.3f}" for hit in likeliest]
    assert shown.splitlines() == [*lines, f"['{likeliest[0]['class']}']"]
    monkeypatch.chdir(folder)
    exec(blocks[3].replace("this folder", str(folder)), {})


def test_the_card_has_metadata_that_hugging_face_reads(exports, runs):
    cards = pytest.importorskip("huggingface_hub").ModelCard
    found = cards((exports("MoPD") / "README.md").read_text()).data
    assert found.library_name == "mopd" and {"clip", "mopd"} <= set(found.tags)
    (result,) = found.eval_results
    assert result.dataset_name == "Shapes (base classes)" and result.metric_type == "accuracy"
    assert result.metric_value == round(runs("MoPD").results["accuracy"], 2)


def test_a_card_of_openais_weights_names_them_as_each_package_does(exports):
    about = json.loads((exports("CoOp") / "prompt.json").read_text())
    about["backbone"]["name"] = "ViT-B/16"
    text = card(about)
    assert "base_model: openai/clip-vit-base-patch16" in text
    assert 'clip.load("ViT-B/16", device' in text and 'load_openai_model("ViT-B-16",' in text
    assert "accuracy in percent | test images |" in text and "split: test" in text
    val = card({**about, "settings": {**about["settings"], "TEST.SPLIT": "val"}})
    assert "accuracy in percent | validation images |" in val and "split: val" in val
    about |= {"results": {}, "classes_given": True}
    assert "This checkpoint was not tested." in card(about) and "model-index" not in card(about)


@pytest.mark.parametrize("names", [("normalize",), (), ("normalize", "instance_norm")])
def test_the_transform_of_the_card_is_that_of_the_test(names, images):
    from torchvision import transforms as T

    from dassl.data.transforms import build_transform
    from dassl.utils import read_image
    from runs.config import default_cfg

    cfg = default_cfg()
    cfg.INPUT.SIZE, cfg.INPUT.INTERPOLATION, cfg.INPUT.TRANSFORMS = (24, 24), "bilinear", names
    told = {"size": [24, 24], "interpolation": "bilinear", "mean": None, "std": None}
    if "normalize" in names:
        told |= {"mean": list(cfg.INPUT.PIXEL_MEAN), "std": list(cfg.INPUT.PIXEL_STD)}
    space = {"T": T}
    exec(preprocess_code({**told, "instance_norm": "instance_norm" in names}), space)
    picture = read_image(images[0].impath)
    assert torch.equal(space["preprocess"](picture), build_transform(cfg, is_train=False)(picture))


def test_other_classes_make_another_classifier_of_the_same_prompt(exports, tmp_path, images):
    folder = tmp_path / "export"
    shutil.copytree(exports("CoOp"), folder)
    classes = ["cat", "hot air balloon", "größe"]
    assert export(folder, folder, classes) == folder
    again = load_prompt(folder)
    assert again.classes == classes and names(folder) == FILES
    assert torch.load(folder / "classifier.pt", weights_only=True).shape[1] == 3
    assert "given at the export" in (folder / "README.md").read_text()
    own = load_prompt(exports("CoOp"))
    assert torch.equal(again.learned["ctx"], own.learned["ctx"])
    assert torch.equal(again.for_classes(own.classes).class_features(), own.class_features())
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_templates_go_along_so_that_no_pool_is_needed(runs, data_root, tmp_path, images):
    pool = tmp_path / "pool.yaml"
    pool.write_text('["a drawing of a {}.", "the {}."]')
    run, _ = observed(
        arguments(
            "ZeroshotCLIP", data_root, tmp_path / "run", "TRAINER.ZEROSHOTCLIP.POOL", str(pool)
        )
    )
    folder = export(tmp_path / "run", tmp_path / "export")
    paths = [item.impath for item in images[:5]]
    before = predict(folder, paths)["predictions"]
    pool.unlink()
    assert predict(folder, paths)["predictions"] == before
    with pytest.raises(MethodError, match="pool.yaml"):
        predict(tmp_path / "run", paths)
    assert "- a drawing of a {}.\n- the {}." in (folder / "README.md").read_text()


def test_cocoop_is_exported_without_a_classifier_and_says_why(exports, runs, tmp_path, capsys):
    words = ["--run", str(runs("CoCoOp").folder), "--out", str(tmp_path / "out")]
    command.main(words)
    assert "Note: no classifier.pt, since what an image is compared with" in capsys.readouterr().out
    tensors = load_file(tmp_path / "out/prompt.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"ctx", "meta_net"}
    assert "no fixed classifier exists" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(
        MethodError, match=r"CoCoOp has no fixed classifier: .* \(the method has its own predict\)"
    ):
        load_prompt(exports("CoCoOp")).class_features()
    pytest.importorskip("onnxscript")
    message = told(capsys, [*words[:-1], str(tmp_path / "onnx"), "--onnx"])
    assert message.startswith("CoCoOp has no fixed classifier") and not (tmp_path / "onnx").exists()


def test_the_onnx_file_computes_what_torch_does(runs, tmp_path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = export(runs("CoOp").folder, tmp_path / "out", onnx=True)
    assert names(folder) == FILES | {"model.onnx"}
    prompt = load_prompt(folder)
    from dassl.utils import read_image

    pixels = torch.stack([prompt.transform(read_image(item.impath)) for item in images[:7]])
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (found,) = session.run(None, {"images": pixels.numpy()})
    assert found == pytest.approx(prompt.logits(pixels).numpy(), abs=1e-3)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["classnames"]) == prompt.classes


def test_an_onnx_file_that_computes_something_else_is_not_written(runs, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("inference.onnx_file.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="the ONNX file computes other logits than torch"):
        export(runs("CoOp").folder, tmp_path / "out", onnx=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "package"), [(["--onnx"], "onnxruntime"), (["--push", "me/x"], "huggingface_hub")]
)
def test_a_package_that_is_missing_is_named_before_anything_is_done(
    more, package, tmp_path, monkeypatch, capsys
):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    message = told(capsys, ["--run", "nowhere", "--out", str(tmp_path / "out"), *more])
    assert f"{package} is not installed: pip install" in message or (
        f"{package}, which is not installed: pip install {package}" in message
    )


class Hub:
    """What the hub is asked for; it refuses the repository me/closed."""

    calls: list = []

    def create_repo(self, repository: str, private: bool, exist_ok: bool) -> None:
        Hub.calls.append(("create", repository, private, exist_ok))
        if repository == "me/closed":
            raise ValueError("403 Forbidden")

    def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> str:
        Hub.calls.append(("upload", repo_id, {path.name for path in Path(folder_path).iterdir()}))
        return f"https://example.org/{repo_id}/commit/1"


def test_a_push_uploads_the_folder_privately_unless_told_otherwise(
    exports, tmp_path, monkeypatch, capsys
):
    fake = types.ModuleType("huggingface_hub")
    fake.HfApi = Hub
    fake.__spec__ = importlib.util.spec_from_loader("huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setattr(Hub, "calls", [])
    words = ["--run", str(exports("CoOp")), "--out", str(tmp_path / "out"), "--push"]
    command.main([*words, "me/shapes"])
    assert capsys.readouterr().out.endswith("Pushed: https://example.org/me/shapes/commit/1\n")
    command.main([*words, "me/shapes", "--public"])
    assert Hub.calls == [
        ("create", "me/shapes", True, True),
        ("upload", "me/shapes", FILES),
        ("create", "me/shapes", False, True),
        ("upload", "me/shapes", FILES),
    ]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command.main([*words, "me/closed"])
    shown = capsys.readouterr().err
    assert f"{tmp_path}/out is written, but could not be pushed to me/closed: 403" in shown
    assert names(tmp_path / "out") == FILES


def test_only_an_earlier_export_of_the_same_run_is_replaced(runs, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--run", str(runs("CoOp").folder), "--out", str(out)]
    out.mkdir()  # an empty folder is taken
    command.main(words)
    (out / "classifier.pt").write_bytes(b"damaged")
    command.main([*words, "--load-epoch", "1"])
    assert torch.load(out / "classifier.pt", weights_only=True).shape[1] == 20
    assert json.loads((out / "prompt.json").read_text())["results"] == {}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = told(capsys, ["--run", str(runs("MoPD").folder), "--out", str(out)])
    assert f"{out} holds the export of another run (" in other
    (out / "notes.txt").write_text("mine")
    assert "no export that could be replaced (notes.txt in it)" in told(capsys, words)
    (out / "notes.txt").unlink()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    file = tmp_path / "file"
    file.write_text("mine")
    assert "which is a file" in told(capsys, [*words[:-1], str(file)])
    assert "cannot write" in told(capsys, [*words[:-1], str(file / "inner")])
    assert file.read_text() == "mine"


@pytest.mark.parametrize("what", ["card", "_write_arrays"])
def test_an_export_that_fails_leaves_the_earlier_one(runs, tmp_path, monkeypatch, what):
    out = export(runs("CoOp").folder, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, what, fail)
    with pytest.raises(UserError, match="No space left on device; choose another --out"):
        export(runs("CoOp").folder, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda about: about.update(format="other"), "is not that of an exported prompt"),
        (lambda about: about.update(format_version=2), "has format version 2, but this version"),
        (lambda about: about.update(classes=[]), "is damaged (classes, templates)"),
        (lambda about: about.update(settings=[1]), "is damaged (settings is [1])"),
        (lambda about: about["settings"].pop("TRAINER.NAME"), "is damaged (settings, method)"),
        (lambda about: about.update(results={"base": {}}), "is damaged (results)"),
        (lambda about: about.pop("checkpoint"), "is damaged (checkpoint is None)"),
        (lambda about: about["files"].update({"prompt.safetensors": "0"}), "is damaged, or not"),
        (lambda about: about["backbone"].update(sha256="0"), "is another file now than"),
        (lambda about: about["settings"].update({"TRAINER.COOP.NCTX": 4}), "unknown key"),
    ],
)
def test_a_damaged_export_is_named(damage, message, exports, images, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(exports("CoOp"), folder)
    about = json.loads((folder / "prompt.json").read_text())
    damage(about)
    (folder / "prompt.json").write_text(json.dumps(about))
    with pytest.raises((UserError, MethodError), match=re.escape(message)):
        predict(folder, images[0].impath)


def test_an_export_of_another_epoch_or_without_its_tensors_is_refused(
    exports, data_root, tmp_path, refused, images
):
    folder = tmp_path / "export"
    shutil.copytree(exports("CoOp"), folder)
    words = ["--eval-only", "--model-dir", str(folder), "--load-epoch", "1"]
    message = refused([*words, *arguments("CoOp", data_root, tmp_path / "test")])
    assert f"{folder} holds the prompt of epoch 2, not of epoch 1: leave --load-epoch" in message
    message = refused(["--eval-only", "--model-dir", str(folder),
                       *arguments("MoPD", data_root, tmp_path / "test")])  # fmt: skip
    assert "was written by CoOp, but this run is MoPD" in message
    (folder / "prompt.safetensors").unlink()
    with pytest.raises(MethodError, match=r"prompt\.safetensors cannot be read"):
        predict(folder, images[0].impath)


def test_settings_of_config_yaml_have_the_hash_of_the_results(runs):
    from runs.folder import settings_hash

    settings = yaml.safe_load((runs("MoPD").folder / "config.yaml").read_text())
    assert settings_hash(settings) == runs("MoPD").results["config_hash"]


def test_a_pool_of_class_wise_texts_goes_along(runs, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    names = sorted({item.classname for item in images})
    texts = {name: [f"a sketch of a {name}.", f"a {{}} as a {name}"] for name in names}
    (folder / "d.json").write_text(json.dumps(texts))
    (folder / "pool.yaml").write_text("descriptions: d.json")
    run = runs("ZeroshotCLIP", "TRAINER.ZEROSHOTCLIP.POOL", str(folder / "pool.yaml"))
    about = json.loads((export(run.folder, folder / "out") / "prompt.json").read_text())
    assert [one["name"] for one in about["templates"]] == ["d, text 1", "d, text 2"]
    assert "- d, text 2\n" in (folder / "out/README.md").read_text()
    (folder / "d.json").unlink()
    prompt = load_prompt(folder / "out")
    found = load_file(folder / "out/prompt.safetensors") if prompt.learned else {}
    assert found == {} and torch.equal(
        prompt.class_features(), torch.load(folder / "out/classifier.pt").T
    )
    with pytest.raises(MethodError, match="no text for 1 of 1 classes: 'cat'"):
        prompt.for_classes(["cat"]).class_features()
