"""The tokens of the vocabulary that are nearest to learned context vectors."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dassl.data.datasets import build_dataset
from dassl.utils import UserError, load_checkpoint
from runs.command import expected_errors
from runs.trained import TrainedRun, check_files
from tools.results.table_format import Table, wrap
from trainers.backbones.families import family_of, weights_digest
from trainers.backbones.tokens import CLIP, Tokenizer
from trainers.checkpoints import find_checkpoint

WEAK = (
    "Read this with care: the nearest token of a vector need not have its meaning. CoOp's authors, "
    "who made such a table, draw no firm conclusion from it (arXiv 2109.01134)."
)
PIECES = 'A token with "-" at its end begins a longer word.'
META_NET = "The meta-net moves all vectors for each image; these are the ones before it."


def words_of(run: TrainedRun, top: int, data: Path | None = None, epoch: int | None = None) -> str:
    """Tables of the tokens nearest to each context vector, with euclidean distances, as text.

    Args:
        top: tokens of each vector.
        data: folder of the datasets, for the names of classes that have contexts of their own.
        epoch: of the checkpoint; None: the one that the run has tested.

    Raises:
        UserError, MethodError: no context, no such checkpoint, or another backbone than then.
    """
    path = find_checkpoint(str(run.folder), run.wanted(epoch))
    checkpoint = load_checkpoint(str(path))
    content = checkpoint.get("state_dict")
    state: dict[str, Any] = content if isinstance(content, dict) else {}
    ctx, vocabulary = state.get("ctx"), _vocabulary(run)
    if not isinstance(ctx, Tensor) or ctx.dim() not in (2, 3):
        raise UserError(f"{path} has no context vectors (ctx): {run.trainer} learns none")
    if ctx.shape[-1] != vocabulary.shape[1]:
        raise UserError(
            f"{path} has context vectors of width {ctx.shape[-1]}, but the tokens of "
            f"{run.settings['MODEL.BACKBONE.NAME']} have {vocabulary.shape[1]}"
        )
    ctx = ctx.cpu()  # a checkpoint of a GPU is read to where it was
    names = [""] if ctx.dim() == 2 else _class_names(run, len(ctx), data)
    contexts = zip(names, ctx.reshape(len(names), -1, ctx.shape[-1]), strict=True)
    backbone = run.settings["MODEL.BACKBONE.NAME"]
    tokenizer = family_of(backbone).tokenizer(backbone)
    tables = [_table(name, *nearest(one, vocabulary, top), tokenizer) for name, one in contexts]
    head = (
        f"{run.folder}, {run.trainer}, epoch {checkpoint.get('epoch')}: tokens nearest to each "
        "context vector, with their euclidean distance"
    )
    notes = [
        WEAK,
        PIECES,
        *([META_NET] if any(key.startswith("meta_net.") for key in state) else []),
    ]
    return "\n\n".join([wrap(head), *tables, "\n".join(map(wrap, notes))])


def nearest(ctx: Tensor, vocabulary: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Distances (M, top) and ids (M, top) of the tokens nearest to vectors (M, W).

    Args:
        vocabulary: (V, W) token vectors; fewer than `top` are all taken.
    """
    distances = torch.cdist(ctx.double(), vocabulary.double())
    found = distances.topk(min(top, len(vocabulary)), dim=-1, largest=False)
    return found.values, found.indices


def token_text(token: int, tokenizer: Tokenizer = CLIP) -> str:
    """A token as it is shown: what cannot be printed as escapes, the beginning of a word with -."""
    characters, ends = tokenizer.piece(token)
    escaped = (one if one.isprintable() else ascii(one)[1:-1] for one in characters)
    shown = "".join(escaped).replace(" ", r"\x20")
    return shown if ends else f"{shown}-"


def _table(name: str, distances: Tensor, tokens: Tensor, tokenizer: Tokenizer) -> str:
    rows: list[Any] = [
        [str(m), *(f"{token_text(i, tokenizer)} {d:.4f}" for d, i in zip(*pair, strict=True))]
        for m, pair in enumerate(zip(distances.tolist(), tokens.tolist(), strict=True), start=1)
    ]
    headers = ["vector", "nearest", *map(str, range(2, distances.shape[1] + 1))]
    return Table(name, headers, rows, len(headers)).show("text")


def _vocabulary(run: TrainedRun) -> Tensor:
    """Token vectors (V, W) of the backbone; nothing else of it is built, and no data is read."""
    name = run.settings["MODEL.BACKBONE.NAME"]
    check_files(run.folder, run.settings, {"BACKBONE_DIGEST": weights_digest(name)})
    found = family_of(name).vocabulary(name)
    if found is None:
        raise UserError(f"{name} has no token vectors (token_embedding.weight)")
    return found


def _class_names(run: TrainedRun, C: int, data: Path | None) -> list[str]:
    """The names of classes that have a context each; numbers, with a note, without the dataset."""
    try:
        with redirect_stdout(io.StringIO()):
            names = list(build_dataset(run.cfg(data=data)).classnames)
    except expected_errors() as error:
        print(f"Note: classes have numbers, as their names cannot be read: {error}")
        return [f"class {c}" for c in range(C)]
    if len(names) != C:
        raise UserError(
            f"{run.folder} has contexts of {C} classes, but the dataset has {len(names)}"
        )
    return names
