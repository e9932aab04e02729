"""Small models of open_clip's families: its own classes, random weights, saved as folders.

Tokenizers that would come from the internet are written here: the same kind of file, few words.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WIDTH, SIDE = 32, 32
BLACK = "▁"  # how Unigram tokenizers write a blank
WORDS = ("a", "photo", "of", "an", "the", "sketch", "x", "cat", "red", "fox", "green", "circle")
SIGLIP = {"norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"}}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
# name -> model, text tower, tokenizer and preprocessing, as far as they are not open_clip's usual
FAMILIES: dict[str, dict[str, Any]] = {
    # CLIP; LAION, DataComp, DFN
    "causal": {},
    # CLIP with QuickGELU; MetaCLIP, OpenAI
    "quick": {"model": {"quick_gelu": True}, "text": {"ls_init_value": 0.6}},
    # CustomTextCLIP, a short context; PE-Core
    "short": {
        **{"model": {"custom_text": True}, "text": {"context_length": 32, "ls_init_value": 0.7}},
        "images": HALF,
    },
    # the end token found by its id; MetaCLIP 2
    "eos": {"text": {"pool_type": "eos", "eos_id": 2}, "tokenizer": "xlm"},
    # the same without a start token; MetaCLIP 2's L/14
    "eos_only": {"text": {"pool_type": "eos", "eos_id": 1}, "tokenizer": "t5"},
    # positions see what comes later, the last one is read; SigLIP 2
    "siglip": {
        "model": {"custom_text": True, "init_logit_bias": -10.0},
        "text": {
            **{"context_length": 64, "no_causal_mask": True, "pool_type": "last"},
            **{"proj_bias": True, "tokenizer_kwargs": {"clean": "canonicalize"}, **SIGLIP},
        },
        **{"tokenizer": "gemma", "images": HALF},
    },
    # the same, the end token is read; MobileCLIP-S
    "mobile": {
        **{"model": {"custom_text": True}, "text": {"no_causal_mask": True}},
        "images": {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear"},
    },
    # the same, the last of 32; CLIPA
    "clipa": {
        "text": {
            **{"context_length": 32, "no_causal_mask": True, "pool_type": "last"},
            "tokenizer_kwargs": {"strip_sep_token": True},
        },
        "tokenizer": "bert",
    },
    # every norm that a block may have; no projection
    "norms": {
        "model": {"custom_text": True},
        "text": {
            **dict.fromkeys(("qk_norm", "scale_heads", "scale_attn_inner"), True),
            **{"scale_attn": True, "scale_fc": True, "proj_type": "none", "ls_init_value": 0.8},
        },
    },
}


def write_model(folder: Path, family: str) -> Path:
    """A model of a family as a folder for open_clip's local-dir."""
    folder.mkdir(parents=True, exist_ok=True)
    told = FAMILIES[family]
    kind = told.get("tokenizer", "")
    text: dict[str, Any] = {"width": WIDTH, "heads": 2, "layers": 2, **told.get("text", {})}
    if kind:
        text["hf_tokenizer_name"] = "written/here"
        text["vocab_size"] = write_tokenizer(folder, kind)
    vision = {"image_size": SIDE, "layers": 1, "width": WIDTH, "head_width": 16, "patch_size": 16}
    config = {"embed_dim": WIDTH, "vision_cfg": vision, "text_cfg": text, **told.get("model", {})}
    content = {"model_cfg": config, "preprocess_cfg": told.get("images", {})}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
        model = kind(**{key: value for key, value in config.items() if key != "custom_text"})
        fill(model.named_parameters())
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def built(folder: Path) -> torch.nn.Module:
    """A model as open_clip builds it, in evaluation mode."""
    return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()


def fill(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
    """Weights that are all of a size at which each counts."""
    for name, value in parameters:
        if name in ("logit_scale", "logit_bias"):
            continue
        noise = torch.randn(value.shape)
        around_one = value.dim() == 1 and name.endswith(("weight", "gamma")) or "scale" in name
        with torch.no_grad():
            if around_one:
                value.mul_(1 + 0.2 * noise)
            else:
                value.copy_(0.2 * noise)


def write_tokenizer(folder: Path, kind: str) -> int:
    """The files of a small tokenizer; the size of its vocabulary."""
    special, template = {
        # ids in the order of the names: pad, end, unknown, ...
        "xlm": (("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>"),
        "t5": (("<pad>", "</s>", "<unk>"), "$A </s>"),
        "gemma": (("<pad>", "<eos>", "<bos>", "<unk>"), "$A <eos>"),
        "bert": (("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "[CLS] $A [SEP]"),
    }[kind]
    characters = [*string.ascii_letters, *string.digits, *".,-'"]
    if kind == "bert":
        pieces = [*special, *characters, *(f"##{c}" for c in characters), *WORDS[1:6], *WORDS[7:]]
        ids = {piece: number for number, piece in enumerate(pieces)}
        made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
        roles["sep_token"] = "[SEP]"
    else:
        # a word that begins a text is another piece than one that follows
        words = [*(BLACK + w for w in WORDS), *(w for w in WORDS if len(w) > 1)]
        plain = [BLACK, *characters]
        pieces = [*((s, 0.0) for s in special), *((w, -2.0) for w in words)]
        pieces += [(c, -5.0) for c in plain]
        ids = {piece: number for number, (piece, _) in enumerate(pieces)}
        made = Tokenizer(models.Unigram(pieces, unk_id=ids["<unk>"]))
        scheme = "never" if kind == "gemma" else "always"
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        made.decoder = decoders.Metaspace(prepend_scheme=scheme)
        end = "<eos>" if kind == "gemma" else "</s>"
        roles = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": end}
    named = [(name, ids[name]) for name in special]
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=named)
    made.add_special_tokens(list(special))
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **roles, "padding_side": "right"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(ids)
