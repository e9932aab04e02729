"""What a name of an open_clip model means: its files, settings and digest."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.backbones.parts import RESIZES, SHORTEST, Preprocessing
from trainers.backbones.paths import REPOSITORY
from trainers.backbones.weights import file_sha256
from trainers.errors import MethodError, meant

PREFIX = "open_clip:"
HUB, FOLDER = "hf-hub:", "local-dir:"
PACKAGE = "open_clip_torch>=3.3,<3.4"  # as in requirements.txt
CONFIG = "open_clip_config.json"
FORMS = f"{PREFIX}ARCHITECTURE/TAG-OR-FILE, {PREFIX}{HUB}ORG/REPO or {PREFIX}{FOLDER}PATH"
TEXTS = (".json", ".txt", ".model")  # of settings and tokenizers in a folder


@dataclass(frozen=True)
class Spec:
    """What a name means.

    Attributes:
        model: what open_clip's functions take: an architecture, hf-hub:... or local-dir:...
        pretrained: tag or file of an architecture, else empty.
    """

    model: str
    pretrained: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder of a model that is in one."""
        found = self.model.startswith(FOLDER)
        return Path(self.model.removeprefix(FOLDER)) if found else None

    @property
    def repository(self) -> str:
        """Name on Hugging Face's hub; empty where it is none."""
        return self.model.removeprefix(HUB) if self.model.startswith(HUB) else ""


def library(name: str) -> Any:
    """The package open_clip; it loads torchvision and timm, which is slow.

    Raises:
        MethodError: it is missing.
    """
    try:
        import open_clip
    except ImportError as error:
        raise MethodError(
            f"MODEL.BACKBONE.NAME is {name}, which needs the package open_clip_torch ({error}): "
            f'pip install "{PACKAGE}"'
        ) from error
    return open_clip


def spec(name: str) -> Spec:
    """What a name means.

    Raises:
        MethodError: no such architecture, tag, file or folder, with those that there are.
    """
    where = name.removeprefix(PREFIX)
    if where.startswith(HUB):
        return Spec(where)
    if where.startswith(FOLDER):
        path = Path(where.removeprefix(FOLDER)).expanduser()
        for base in (Path(), REPOSITORY):
            if (base / path / CONFIG).is_file():
                return Spec(f"{FOLDER}{(base / path).resolve()}")
        raise MethodError(f"{name}: {path} is no folder with {CONFIG} in it")
    model, _, source = where.partition("/")
    package = library(name)
    known = package.list_models()
    if model not in known:
        hint = meant(model, known, cutoff=0.5) or "."
        raise MethodError(
            f'open_clip has no architecture "{model}"{hint} MODEL.BACKBONE.NAME is one of the '
            f"forms {FORMS}; open_clip.list_models() tells all"
        )
    if package.get_pretrained_cfg(model, source):
        return Spec(model, source)
    for base in (Path(), REPOSITORY):
        path = base / Path(source).expanduser()
        if source and path.is_file():
            return Spec(model, str(path.resolve()))
    tags = package.list_pretrained_tags_by_model(model)
    problem = f'"{source}" is neither a file nor a tag of {model}' if source else "no tag is given"
    hint = (meant(source, tags, cutoff=0.5) if source else "") or "."
    raise MethodError(f"{name}: {problem}{hint} Tags: {', '.join(tags) or 'none, give a file'}")


def tag_settings(name: str) -> dict[str, Any]:
    """What open_clip knows of a tag; empty where the name has none."""
    found = spec(name)
    return library(name).get_pretrained_cfg(found.model, found.pretrained)


def check_quick_gelu(name: str) -> None:
    """Refuse a tag whose weights belong to another GELU than the architecture has.

    Raises:
        MethodError: naming the architecture that they belong to.
    """
    found, tag = spec(name), tag_settings(name)
    if not tag:
        return
    has = bool(library(name).get_model_config(found.model).get("quick_gelu", False))
    needs = bool(tag.get("quick_gelu", False))
    if has == needs:
        return
    other = f"{found.model}-quickgelu" if needs else found.model.removesuffix("-quickgelu")
    words = ("with", "without") if needs else ("without", "with")
    raise MethodError(
        f"{name}: the weights of {found.pretrained} were trained {words[0]} QuickGELU, and "
        f"{found.model} computes {words[1]} it, which costs points in silence: use "
        f"{PREFIX}{other}/{found.pretrained}"
    )


def weights_file(name: str) -> Path:
    """The file of a model's weights; what is on the internet is downloaded first."""
    found, package = spec(name), library(name)
    if found.folder:
        from open_clip.factory import _find_checkpoint_in_dir  # its choice among several

        with told(name):
            path = _find_checkpoint_in_dir(found.folder)
        if path is None:
            raise MethodError(f"{name}: there are no weights in {found.folder}")
        return Path(path)
    with told(name):
        if found.repository:
            return Path(package.pretrained.download_pretrained_from_hf(found.repository))
        tag = tag_settings(name)
        return Path(package.pretrained.download_pretrained(tag) if tag else found.pretrained)


def digest(name: str) -> str:
    """Tells models apart: a tag stands for itself, a repository for its commit, files for bytes."""
    found = spec(name)
    if found.repository:
        return f"{name}@{_config_file(name).parent.name[:12]}"  # the hub's folder of a commit
    if found.folder:
        paths = sorted(path for path in found.folder.iterdir() if path.suffix in TEXTS)
        files = [(path.name, file_sha256(path)) for path in paths]
        files.append(("weights", file_sha256(weights_file(name))))
    elif tag_settings(name):
        return name
    else:
        config = json.dumps(_settings(name)["model_cfg"], sort_keys=True)
        files = [(config, file_sha256(Path(found.pretrained)))]
    return hashlib.sha256(repr(files).encode()).hexdigest()[:12]


def preprocessing(name: str) -> Preprocessing:
    """How images were made ready for a model; its weights are not needed.

    A file tells nothing: it is taken to be of the kind of its architecture's tags, where these
    agree, else of OpenAI's.

    Raises:
        MethodError: a way to resize that is not supported.
    """
    settings = _settings(name)
    side, kept = settings["model_cfg"]["vision_cfg"]["image_size"], settings["preprocess_cfg"]
    found: dict[str, Any] = {"size": (side, side) if isinstance(side, int) else tuple(side)}
    for key in ("mean", "std"):
        value = kept.get(key)
        if value is not None:
            three = [value] * 3 if isinstance(value, int | float) else value
            found[key] = tuple(float(one) for one in three)
    bilinear = kept.get("interpolation") == "bilinear"  # else bicubic, as open_clip does
    found["interpolation"] = "bilinear" if bilinear else "bicubic"
    found["resize"] = kept.get("resize_mode") or SHORTEST
    height, width = found["size"]
    if found["resize"] not in RESIZES or (found["resize"] == SHORTEST and height != width):
        raise MethodError(
            f"{name}: images of {height}x{width} pixels are made by resize mode "
            f"{found['resize']!r}, which is not supported: expected squash, or shortest with "
            "square images"
        )
    return Preprocessing(**found)


def clean(name: str) -> Callable[[str], str]:
    """A text as the model's tokenizer reads it; the tokenizer itself is not needed."""
    told_of = _settings(name)["model_cfg"]["text_cfg"]
    usual = "whitespace" if told_of.get("hf_tokenizer_name") else "lower"
    kind = (told_of.get("tokenizer_kwargs") or {}).get("clean", usual)
    return library(name).tokenizer.get_clean_fn(kind)


def recipe(name: str) -> dict[str, Any]:
    """How others load the model: the words of open_clip's functions."""
    found = spec(name)
    if found.folder:
        return {"open_clip": [f"{FOLDER}{found.folder.name}"]}
    source = found.pretrained if tag_settings(name) else Path(found.pretrained).name
    return {"open_clip": [found.model, *([source] if found.pretrained else [])]}


def versions(name: str) -> dict[str, str]:
    """Versions of the packages that build a model and read its words."""
    found = {}
    for package in ("open_clip_torch", "timm", "transformers", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def vocabulary(name: str) -> Tensor | None:
    """Token vectors (V, W) of a model; nothing else of it is kept."""
    library(name)
    from open_clip.factory import load_state_dict

    path = weights_file(name)
    with told(name):
        state = load_state_dict(str(path))
    keys = [key for key in state if key.endswith("token_embedding.weight")]
    return state[keys[0]] if len(keys) == 1 else None


@contextmanager
def told(name: str) -> Iterator[None]:
    """What open_clip raises, as one message; what it says of its own is not shown.

    Raises:
        MethodError: naming the model and the cause.
    """
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MethodError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        raise MethodError(
            f"{name} needs a package that is missing ({_first_line(error)}): "
            "pip install transformers sentencepiece"
        ) from error
    except Exception as error:  # whatever its readers and the hub's raise
        raise MethodError(
            f"{name} cannot be loaded by open_clip ({_first_line(error)}). {_advice(name)}"
        ) from error
    finally:
        logging.disable(before)


def _advice(name: str) -> str:
    """What to do where a model cannot be loaded."""
    found = spec(name)
    if found.folder or found.pretrained and not tag_settings(name):
        return "Are the weights complete, and those of this architecture?"
    return (
        "Weights and tokenizers come from Hugging Face's hub: without a connection, fill its cache "
        f"(HF_HOME) on another machine, or copy the model into a folder ({PREFIX}{FOLDER}PATH)"
    )


def _first_line(error: BaseException) -> str:
    line = str(error).strip().partition("\n")[0]
    if "weights_only" in line:  # advice of torch's that nobody should follow
        line = "no file of weights"
    return f"{type(error).__name__}: {line}"[:300]


def _config_file(name: str) -> Path:
    """The file that tells the settings of a model in a folder or on the hub."""
    found = spec(name)
    if found.folder:
        return found.folder / CONFIG
    with told(name):
        package = library(name)
        return Path(
            package.pretrained.download_pretrained_from_hf(found.repository, filename=CONFIG)
        )


def _settings(name: str) -> dict[str, Any]:
    """Content of the model's file: model_cfg and preprocess_cfg; of an architecture the same."""
    found, package = spec(name), library(name)
    if found.folder or found.repository:
        path = _config_file(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["model_cfg"]["vision_cfg"]["image_size"], content["model_cfg"]["text_cfg"]
        except (ValueError, KeyError, TypeError) as error:
            raise MethodError(f"{path} is no file of open_clip's settings: {error!r}") from error
        return {**content, "preprocess_cfg": content.get("preprocess_cfg") or {}}
    images = tag_settings(name) or _of_all_tags(package, found.model)
    return {"model_cfg": package.get_model_config(found.model), "preprocess_cfg": images}


def _of_all_tags(package: Any, model: str) -> dict[str, Any]:
    """How images are made ready for all tags of an architecture; empty where they differ."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    tags = package.list_pretrained_tags_by_model(model)
    known = [package.get_pretrained_cfg(model, tag) for tag in tags]
    kinds = [{key: tag.get(key) for key in keys} for tag in known]
    return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else {}
