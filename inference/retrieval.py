"""Images and captions: how often a learned context finds the one that belongs to the other."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dassl.utils import UserError
from datasets.shapes import captioned
from inference.images import Problem, batches
from inference.prompt import Prompt
from trainers.backbones.tokens import CLIP, Tokenizer
from trainers.errors import MethodError, brief
from trainers.other_classes import for_classes

KS = (1, 5, 10)
ROWS = 512  # of a matrix of scores at a time
CAPTIONS = 1000  # prompts that are encoded together
NAMES = ("image", "filename", "file_name", "filepath")  # what files call an image
TEXTS = ("caption", "captions", "sentences", "raw")
PLAIN = {"the caption alone": "{}", "a photo of": "a photo of {}"}


@dataclass(frozen=True)
class Pairs:
    """N images and T captions.

    Attributes:
        images: N paths.
        captions: T texts.
        image: of each caption, the place of its image.
    """

    images: list[str]
    captions: list[str]
    image: list[int]

    @classmethod
    def of(cls, found: Iterable[tuple[str, Sequence[str]]]) -> "Pairs":
        """Paths with their captions; a path may come again."""
        places: dict[str, int] = {}
        captions: list[str] = []
        image: list[int] = []
        for path, texts in found:
            place = places.setdefault(path, len(places))
            captions += texts
            image += [place] * len(texts)
        return cls(list(places), captions, image)


# ---- files -----------------------------------------------------------------------------------


def read_pairs(path: Path, folder: Path | None = None, split: str = "test") -> Pairs:
    """Images and captions of a file.

    Args:
        path: a CSV file with columns image and caption; or JSON: a list of {"image", "caption" or
            "captions"}, Karpathy's layout, {"images": [{"filename", "sentences", "split"}]}, or
            COCO's, {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}.
        folder: of the images; None: that of the file.
        split: which images of a file that tells splits.

    Raises:
        UserError: no such file, a damaged one, or one without pairs.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            entries: Any = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            entries = json.loads(text)
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    entries = _of_coco(entries) if isinstance(entries, dict) else entries
    if not isinstance(entries, list) or not entries:
        raise UserError(f'{path}: expected a list of images with captions, or "images" with one')
    found, splits = [], set()
    for place, entry in enumerate(entries):
        if isinstance(entry, dict) and "split" in entry:
            splits.add(str(entry["split"]))
            if entry["split"] != split:
                continue
        found.append(_entry(entry, f"{path}, entry {place}", folder or path.parent))
    if not found:
        told = ", ".join(sorted(splits))
        raise UserError(f"{path} has no images of split {split!r}, only of: {told}")
    return Pairs.of(found)


def _of_coco(content: dict[str, Any]) -> Any:
    """The images of Karpathy's layout, or of COCO's own, which has captions beside its images."""
    images, notes = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(notes, list):
        return images
    captions: dict[Any, list[Any]] = {}
    for note in notes:
        if isinstance(note, dict) and "caption" in note:
            captions.setdefault(str(note.get("image_id")), []).append(note["caption"])
    return [
        image | {"captions": captions.get(str(image.get("id")), [])}
        if isinstance(image, dict)
        else image
        for image in images
    ]


def _entry(entry: Any, where: str, folder: Path) -> tuple[str, list[str]]:
    """Path and captions of one entry."""
    known = entry if isinstance(entry, dict) else {}
    name = next((known[key] for key in NAMES if isinstance(known.get(key), str)), "")
    texts: Any = next((known[key] for key in TEXTS if known.get(key)), [])
    texts = texts if isinstance(texts, list) else [texts]
    texts = [text.get("raw") if isinstance(text, dict) else text for text in texts]
    if not name or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        raise UserError(f"{where}: expected an image and its captions, found {brief(entry)}")
    inner = known.get("filepath") if "filename" in known else None  # COCO: the folder of the file
    return str(folder / (inner if isinstance(inner, str) else "") / name), texts


def drawn_pairs(data: Path) -> Pairs:
    """The test images of `shapes` with what the drawn world says of them; no caption twice.

    Args:
        data: folder of the datasets.
    """
    first: dict[str, str] = {}
    for path, caption in captioned(data):
        first.setdefault(caption, path)
    return Pairs.of((path, [caption]) for caption, path in first.items())


# ---- figures ---------------------------------------------------------------------------------


def recalls(images: Tensor, captions: Tensor, image: Tensor) -> dict[str, float]:
    """R@1, R@5 and R@10 in percent, both ways: one that belongs is among the first k.

    As CLIP_benchmark's `image_retrieval_recall` and `text_retrieval_recall`.

    Args:
        images: (N, D) unit features.
        captions: (T, D) unit features.
        image: (T,) place of the image of each caption.
    """
    own = torch.arange(len(images), device=image.device)
    ways = {
        "image": (captions, images, lambda rows: image[rows][:, None] == own),
        "text": (images, captions, lambda rows: own[rows][:, None] == image),
    }
    return {
        f"{way} R@{k}": value
        for way, (queries, keys, belongs) in ways.items()
        for k, value in zip(KS, _found(queries, keys, belongs), strict=True)
    }


def _found(queries: Tensor, keys: Tensor, belongs: Callable[[slice], Tensor]) -> list[float]:
    """Share of queries, in percent, for which one of the first k keys belongs to it."""
    hits = torch.zeros(len(KS), dtype=torch.float64)
    for start in range(0, len(queries), ROWS):
        rows = slice(start, start + ROWS)
        best = (queries[rows] @ keys.T).topk(min(max(KS), len(keys)), dim=-1).indices
        right = belongs(rows).gather(-1, best)
        hits += torch.stack([right[:, :k].any(dim=-1).sum() for k in KS]).cpu()
    return (100 * hits / len(queries)).tolist()


@torch.no_grad()
def retrieve(prompt: Prompt, pairs: Pairs, batch: int = 64) -> dict[str, Any]:
    """Recalls with the captions alone, after "a photo of", and after the learned context.

    Captions that are too long are cut at the end, in all three ways alike.

    Args:
        prompt: its classes do not matter.
        batch: images that are computed at once.

    Raises:
        UserError: an image cannot be read.
        MethodError: the method has no context that other texts could have.
    """
    if prompt.why_no_classifier:
        raise MethodError(prompt.why_no_classifier)
    trainer, problems = prompt.trainer, list[Problem]()
    named = [(path, path) for path in pairs.images]
    features = [
        trainer.image_features(pixels.to(trainer.device))
        for _, pixels in batches(named, prompt.transform, batch, problems)
    ]
    if problems:
        told = f"{problems[0]['image']}: {problems[0]['error']}"
        raise UserError(f"{len(problems)} images cannot be read, {told} first")
    images, place = torch.cat(features), torch.tensor(pairs.image).to(trainer.device)
    context = getattr(trainer.prompt_learner, "n_ctx", 0)
    words, length = trainer.clip.text.tokenizer, trainer.clip.text.context_length
    around = len(words.start) + len(words.end) + 1  # and the stop
    most = length - around - max(context, len(words.encode("a photo of")))
    captions = [cut(text, most, words) for text in pairs.captions]
    ways = {name: _plain(trainer, template, captions) for name, template in PLAIN.items()}
    if trainer.prompt_learner is not None:
        ways["the learned context"] = _learned(trainer, captions)
    return {
        "run": str(prompt.source.path),
        "method": prompt.source.method,
        "images": len(pairs.images),
        "captions": len(captions),
        "cut": sum(a != b for a, b in zip(captions, pairs.captions, strict=True)),
        "recalls": {name: recalls(images, texts, place) for name, texts in ways.items()},
    }


def cut(caption: str, most: int, tokenizer: Tokenizer = CLIP) -> str:
    """A caption without the words beyond so many tokens; of a single word, without its end."""
    for blank in (" ", ""):
        parts = caption.split(blank) if blank else list(caption)
        while len(parts) > 1 and len(tokenizer.encode(blank.join(parts), inside=True)) > most:
            parts.pop()
        caption = blank.join(parts)
    return caption


def _plain(trainer: Any, template: str, captions: list[str]) -> Tensor:
    return trainer.clip.encode_templates([template], captions)[0]


def _learned(trainer: Any, captions: list[str]) -> Tensor:
    """Features (T, D) of captions in the place of class names, after which comes a stop."""
    names = [caption.strip().rstrip(".") or caption for caption in captions]
    parts = range(0, len(names), CAPTIONS)
    learned = [for_classes(trainer, names[i : i + CAPTIONS]).class_features() for i in parts]
    return torch.cat(learned)
