"""The model card of an exported prompt: README.md, with the block that Hugging Face reads."""

import json
from pathlib import Path
from typing import Any

import yaml

from trainers.backbones.weights import NAMES

# of CLIP on Hugging Face, by OpenAI's name
BASE_MODELS = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
}
SHOWN = 20  # names of classes
FILES = {
    "prompt.safetensors": "what was learned, float32",
    "classifier.pt": "unit class features (D, C) as a tensor",
    "classifier.npz": "the same as `classifier`, with `classnames` and `logit_scale`",
    "model.onnx": "`images` (B, 3, R, R), normalised pixels, to `logits` (B, C)",
}
PLAIN = """
import json

import clip
import torch
from PIL import Image
from torchvision import transforms as T

{preprocess}
classes = json.load(open("prompt.json"))["classes"]
classifier = torch.load("classifier.pt")  # (D, C), unit columns
model, _ = clip.load({backbone}, device="cpu")
with torch.no_grad():
    images = preprocess(Image.open("photo.jpg").convert("RGB"))[None]
    features = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
    logits = model.logit_scale.exp() * features @ classifier
for probability, c in zip(*logits.softmax(dim=-1)[0].topk({top})):
    print(classes[c], f"{{probability:.3f}}")
"""
MODERN = """
import json

import open_clip
import torch
from PIL import Image
from torchvision import transforms as T

{preprocess}
classes = json.load(open("prompt.json"))["classes"]
classifier = torch.load("classifier.pt")  # (D, C), unit columns
model = open_clip.create_model({words}, require_pretrained=True).eval()
with torch.no_grad():
    images = preprocess(Image.open("photo.jpg").convert("RGB"))[None]
    features = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
    logits = model.logit_scale.exp() * features @ classifier
for probability, c in zip(*logits.softmax(dim=-1)[0].topk({top})):
    print(classes[c], f"{{probability:.3f}}")
"""
OPEN_CLIP = """
import open_clip

model = open_clip.load_openai_model({open_clip}, precision="fp32", device="cpu")
with torch.no_grad():
    features = torch.nn.functional.normalize(model.encode_image(images), dim=-1)
    logits = model.logit_scale.exp() * features @ classifier
"""
NUMPY = """
import numpy as np

found = np.load("classifier.npz")
features = np.asarray(features)  # (B, D), unit image features of this CLIP, from anywhere
logits = found["logit_scale"] * features @ found["classifier"]
print(found["classnames"][logits.argmax(axis=-1)])
"""
PROJECT = """
from inference import load_prompt, predict

prompt = load_prompt("this folder"{classes})
print(predict(prompt, ["photo.jpg"])["predictions"])
"""


def card(about: dict[str, Any]) -> str:
    """The text of README.md.

    Args:
        about: content of prompt.json.
    """
    blocks = [_head(about), _what(about), _results(about)]
    if about["prompt"]["fixed_classifier"]:
        blocks += [_plain_ways(about)]
    else:
        blocks += [
            f"What {about['method']} compares an image with depends on the image, so that no fixed "
            "classifier exists: this folder has what was learned, and the project that made it "
            "uses it."
        ]
    blocks += [_project_way(about), _files(about)]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def _head(about: dict[str, Any]) -> str:
    """The block of metadata, in YAML."""
    name = about["backbone"]["name"]
    meta: dict[str, Any] = {
        "library_name": "mopd",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "prompt-learning", about["method"].lower()],
    }
    if name in BASE_MODELS:
        meta["base_model"] = BASE_MODELS[name]
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {
                "name": f"{one['dataset']} ({subset} classes)",
                "type": one["dataset"],
                "split": _split(about),
            },
            "metrics": [{"type": "accuracy", "value": round(one["accuracy"], 2)}],
        }
        for subset, one in about["results"].items()
    ]
    if results:
        meta["model-index"] = [{"name": _title(about), "results": results}]
    return f"---\n{yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)}---"


def _title(about: dict[str, Any]) -> str:
    return f"{about['method']} on {about['dataset']}"


def _what(about: dict[str, Any]) -> str:
    prompt, classes = about["prompt"], about["classes"]
    shown = ", ".join(classes[:SHOWN]) + (", ..." if len(classes) > SHOWN else "")
    backbone = _file_name(about)
    if prompt["learned"]:
        learned = ", ".join(f"`{name}` {tuple(shape)}" for name, shape in prompt["learned"].items())
        what = (
            f"A prompt for CLIP ({backbone}), learned by {about['method']} on {about['dataset']} "
            f"({about['shots']} images a class, seed {about['seed']}, epoch {about['epoch']}): "
            f"{learned}. CLIP itself is as it was."
        )
    else:
        words = "\n".join(f"- {template}" for template in about["templates"] or ())
        what = (
            f"Zero-shot CLIP ({backbone}) with hand-made prompts; nothing was learned:\n\n{words}"
        )
    return f"# {_title(about)}\n\n{what}\n\n{len(classes)} classes: {shown}."


def _split(about: dict[str, Any]) -> str:
    """The images that it was tested on, test or val."""
    return about["settings"].get("TEST.SPLIT", "test")


def _results(about: dict[str, Any]) -> str:
    """What the run has measured; nothing where it was not tested."""
    rows = [
        f"| {one['dataset']} | {subset} | {one['accuracy']:.2f} | {one.get('total', '')} |"
        for subset, one in about["results"].items()
    ]
    if not rows:
        return "This checkpoint was not tested."
    images = "validation images" if _split(about) == "val" else "test images"
    head = f"| dataset | classes | accuracy in percent | {images} |\n|---|---|---|---|\n"
    own = "\n\nThe classes above were given at the export; these figures are those of the run's."
    return head + "\n".join(rows) + (own if about["classes_given"] else "")


def _plain_ways(about: dict[str, Any]) -> str:
    """How to use it with plain CLIP, open_clip and NumPy; a test runs these lines."""
    name = _file_name(about)
    words = {
        "preprocess": preprocess_code(about["preprocessing"]),
        "backbone": json.dumps(name),
        "open_clip": json.dumps(name.replace("/", "-") if name in NAMES else name),
        "top": min(5, len(about["classes"])),
    }
    whose = ""
    if name not in NAMES:
        is_what = "has weights" if "open_clip" in about["backbone"] else "is the file of CLIP"
        whose = f"`{name}` {is_what} with SHA-256 `{about['backbone']['sha256']}`.\n\n"
    ways = [("With OpenAI's `clip`", PLAIN), ("The same features from `open_clip`", OPEN_CLIP)]
    if "open_clip" in about["backbone"]:
        words["words"] = ", ".join(map(json.dumps, about["backbone"]["open_clip"]))
        ways = [("With `open_clip`", MODERN)]
    ways.append(("With NumPy alone", NUMPY))
    code = [f"{head}:\n\n```python{body.format(**words)}```" for head, body in ways]
    return "## Use it\n\n" + whose + "\n\n".join(code)


def preprocess_code(told: dict[str, Any]) -> str:
    """The transform of test images as Python code."""
    height, width = told["size"]
    mode = f"T.InterpolationMode.{told['interpolation'].upper()}"
    steps = [f"T.Resize({max(height, width)}, {mode})", f"T.CenterCrop(({height}, {width}))"]
    if told.get("crop", "center") is None:
        steps = [f"T.Resize(({height}, {width}), {mode})"]
    steps.append("T.ToTensor()")
    if told["mean"] is not None:
        steps.append(f"T.Normalize({tuple(told['mean'])}, {tuple(told['std'])})")
    if told["instance_norm"]:
        mean, std = (f"x.{name}(dim=(1, 2), keepdim=True)" for name in ("mean", "std"))
        steps.append(f"T.Lambda(lambda x: (x - {mean}) / ({std} + 1e-8))")
    lines = "".join(f"    {step},\n" for step in steps)
    return f"preprocess = T.Compose([\n{lines}])"


def _project_way(about: dict[str, Any]) -> str:
    classes = "" if about["prompt"]["class_specific"] else ', classes=["cat", "dog"]'
    body = PROJECT.format(classes=classes)
    which = "" if about["prompt"]["class_specific"] else ", for any other classes"
    return f"With the project that made it{which}:\n\n```python{body}```"


def _files(about: dict[str, Any]) -> str:
    rows = ["| `prompt.json` | all that belongs to it: CLIP, classes, images, settings, results |"]
    rows += [f"| `{name}` | {what} |" for name, what in FILES.items() if name in about["files"]]
    return "## Files\n\n| file | what |\n|---|---|\n" + "\n".join(rows)


def _file_name(about: dict[str, Any]) -> str:
    """CLIP's name, or that of its file without the folder."""
    name = about["backbone"]["name"]
    if "open_clip" in about["backbone"]:
        return "/".join(about["backbone"]["open_clip"])
    return name if name in NAMES else Path(name).name
