"""Pre-training of the small CLIP: pairs of images and captions, losses, and its file.

The architecture is OpenAI's (`clip.model.CLIP`), the tokenizer too.
"""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clip
import numpy as np
import torch
import torch.nn.functional as F
from clip.model import CLIP, convert_weights
from torch import Tensor, nn

from datasets.world.render import COLOURS, OBJECTS, render
from datasets.world.scenes import captions, draw_scenes
from trainers.backbones import openai
from trainers.backbones.packing import Layout
from trainers.backbones.text_tower import TextTower

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
# a ResNet, because on so few images it learns shapes many times faster than a ViT
SIZES: dict[str, Any] = {
    "embed_dim": 256,
    "image_resolution": 32,
    "vision_layers": (1, 1, 1, 1),
    "vision_width": 16,
    "vision_patch_size": None,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 64,
    "transformer_heads": 1,
    "transformer_layers": 3,
}
WORLD_SEED = 1000  # the datasets use seeds below 100


def make_weights(out: Path, steps: int, batch: int, images: int, seed: int) -> None:
    """Draw the pairs, train, write the weights."""
    torch.set_num_threads(1)  # sums of more threads add up in another order
    torch.manual_seed(seed)
    model = CLIP(**SIZES)
    pairs = make_pairs(images, seed)
    print(f"{len(pairs.images)} images, {len(pairs.tokens)} different captions")
    pretrain(model, pairs, steps, batch, learning_rate=2e-3)
    save(model, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True)
class Pairs:
    """Images (N, 3, 32, 32) in uint8, and U distinct captions as token ids and as words."""

    images: Tensor
    tokens: list[list[int]]
    words: Tensor  # (U, V), 1 where a caption has the word
    caption: Tensor  # (N,) the caption of each image


def make_pairs(count: int, seed: int) -> Pairs:
    """Draw `count` scenes of all objects and colours, and say something about each.

    Args:
        count: N.
        seed: of the scenes, the captions and the images.
    """
    first = WORLD_SEED + 10 * seed
    rng = np.random.RandomState(first)
    objects = rng.randint(len(OBJECTS), size=count)
    colours = rng.randint(len(COLOURS), size=count)
    scenes = draw_scenes(objects, colours, first + 1)
    texts = captions(scenes, first + 2)
    images = torch.from_numpy(render(scenes, first + 3)).permute(0, 3, 1, 2)
    distinct = sorted(set(texts))
    number = {text: i for i, text in enumerate(distinct)}
    padded = clip.tokenize(distinct)  # (U, 77)
    tokens = [row[: int(row.argmax()) + 1].tolist() for row in padded]
    return Pairs(
        images, tokens, bags_of_words(distinct), torch.tensor([number[text] for text in texts])
    )


def bags_of_words(texts: list[str]) -> Tensor:
    """Which of the V words of all texts each text has: (U, V), 0 or 1."""
    words = [set(re.findall(r"\w+", text)) for text in texts]
    vocabulary = sorted(set().union(*words))
    return torch.tensor([[float(word in said) for word in vocabulary] for said in words])


def contrastive_loss(image: Tensor, text: Tensor, caption: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss where several images may have the same caption.

    Args:
        image: (B, D) unit features.
        text: (U, D) unit features of the distinct captions.
        caption: (B,) index of each image's caption.
        scale: factor of the cosines.
    """
    logits = scale * image @ text.T  # (B, U)
    ours = F.one_hot(caption, len(text)).float()  # (B, U)
    share = ours / ours.sum(dim=0)  # the images of a caption share its weight
    to_image = -(share * F.log_softmax(logits, dim=0)).sum(dim=0).mean()
    return (F.cross_entropy(logits, caption) + to_image) / 2


def pretrain(model: CLIP, pairs: Pairs, steps: int, batch: int, learning_rate: float) -> None:
    """Train CLIP from its start with AdamW and one cycle of the learning rate.

    Beside CLIP's loss, a linear head that is thrown away tells the words of the caption from the
    image feature: it makes the start of the training several times faster.
    """
    head = nn.Linear(model.text_projection.shape[1], pairs.words.shape[1])
    optimizer = _optimizer(model, head.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=min(0.3, 100 / steps)
    )
    for feature, chosen, loss in _losses(model, pairs, steps, batch):
        bags = pairs.words[pairs.caption[chosen]]  # (B, V)
        words = F.binary_cross_entropy_with_logits(head(feature), bags, reduction="sum") / batch
        _step(model, optimizer, loss + words)
        schedule.step()


def _losses(
    model: CLIP, pairs: Pairs, steps: int, batch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Image features (B, D), the images chosen (B,) and CLIP's loss, for each step."""
    tower = TextTower(openai.parts(model).text)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD))
    started = time.perf_counter()
    model.train()
    for step in range(1, steps + 1):
        chosen = torch.randint(len(pairs.images), (batch,))
        images = (pairs.images[chosen].float() / 255 - mean) / std
        distinct, caption = pairs.caption[chosen].unique(return_inverse=True)
        feature = model.encode_image(images)  # (B, D)
        text = encode(tower, [pairs.tokens[i] for i in distinct])  # (U, D)
        loss = contrastive_loss(
            F.normalize(feature, dim=-1), F.normalize(text, dim=-1), caption,
            model.logit_scale.exp(),
        )  # fmt: skip
        yield feature, chosen, loss
        if step % 100 == 0 or step == steps:
            minutes = (time.perf_counter() - started) / 60
            scale = model.logit_scale.exp().item()
            print(f"step {step}/{steps} loss {loss.item():.3f} scale {scale:.1f} {minutes:.1f} min")
    model.eval()


def _optimizer(
    model: CLIP, others: Iterable[nn.Parameter], learning_rate: float
) -> torch.optim.Optimizer:
    """AdamW; no decay for token vectors, so that those of unseen words keep their start."""
    rows = [model.token_embedding.weight]
    rest = [p for n, p in model.named_parameters() if n != "token_embedding.weight"]
    groups = [
        {"params": rows, "weight_decay": 0.0},
        {"params": [*rest, *others], "weight_decay": 0.05},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))


def _step(model: CLIP, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], 1.0)
    optimizer.step()
    model.logit_scale.data.clamp_(max=np.log(100))


def encode(tower: TextTower, tokens: list[list[int]]) -> Tensor:
    """Features (U, D) of captions, with gradients for the whole tower."""
    layout = Layout.of([len(ids) - 1 for ids in tokens])
    packed = [token for ids in tokens for token in ids[1:]]
    vectors = tower.token_embedding(torch.tensor([tokens[0][0], *packed]))
    return tower(vectors[:1], vectors[1:], layout)


def save(model: nn.Module, path: Path) -> None:
    """Write a state dict in OpenAI's layout and precision, complete or not at all."""
    convert_weights(model)
    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
    state["token_embedding.weight"] = state["token_embedding.weight"].half()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.draft")
    torch.save(state, draft)  # a file that is open would give the archive another name in it
    draft.replace(path)
