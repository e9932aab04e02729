"""CoCoOp works off a batch in parts, so that memory stays bounded, with the same result."""

from __future__ import annotations

import torch

from trainers import cocoop
from trainers.backbones.text_tower import TextTower
from trainers.backbones.tokens import encode

NAMES = ["cat", "dog", "red_fox", "great_pyrenees"]


def batch(images: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "img": torch.randn(images, 3, 32, 32, generator=generator),
        "label": torch.arange(images) % len(NAMES),
    }


def tokens_of_an_image(trainer) -> int:
    prefix, suffix, _ = trainer.prompt_learner()
    return len(prefix) + len(suffix)


def test_a_part_has_as_many_images_as_the_tokens_allow(make_trainer, monkeypatch):
    trainer = make_trainer("CoCoOp", NAMES, CTX_INIT="a photo of a")
    # start and 4 context tokens; of each name its words (2, 2, 1, 1), "." and the end token
    names = [len(encode(name.replace("_", " "))) for name in NAMES]
    assert tokens_of_an_image(trainer) == 1 + 4 + sum(names) + 2 * len(names)
    assert trainer.images_per_pass(8) == 2**13 // tokens_of_an_image(trainer)
    monkeypatch.setattr(cocoop, "TOKENS_PER_PASS", 1)
    assert trainer.images_per_pass(8) == 1


def test_unequal_parts_give_the_loss_and_gradients_of_the_whole_batch(make_trainer, monkeypatch):
    whole, parts = (make_trainer("CoCoOp", NAMES, CTX_INIT="a photo of a") for _ in range(2))
    parts.prompt_learner.load_state_dict(whole.prompt_learner.state_dict())
    expected = whole.forward_backward(batch(7))
    monkeypatch.setattr(cocoop, "TOKENS_PER_PASS", 3 * tokens_of_an_image(parts))
    seen = count_sets(monkeypatch)
    got = parts.forward_backward(batch(7))
    assert seen == [3, 3, 1]
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert abs(got[name] - value) <= 1e-5 * abs(value), name
    for (name, a), b in zip(
        whole.prompt_learner.named_parameters(), parts.prompt_learner.parameters(), strict=True
    ):
        assert a.grad.any() and (a.grad - b.grad).norm() < 1e-5 * a.grad.norm(), name


def test_testing_works_in_parts_too(make_trainer, monkeypatch):
    trainer = make_trainer("CoCoOp", NAMES, CTX_INIT="a photo of a")
    trainer.set_model_mode("eval")
    with torch.no_grad():
        whole = trainer.model_inference(batch(7)["img"])
        monkeypatch.setattr(cocoop, "TOKENS_PER_PASS", 3 * tokens_of_an_image(trainer))
        seen = count_sets(monkeypatch)
        parts = trainer.model_inference(batch(7)["img"])
    assert seen == [3, 3, 1]
    assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-5)


def count_sets(monkeypatch) -> list[int]:
    """The sets of prompts of each pass through the text tower, from now on."""
    seen: list[int] = []
    forward = TextTower.forward

    def counting(self, prefix, suffix, layout):
        seen.append(len(prefix))
        return forward(self, prefix, suffix, layout)

    monkeypatch.setattr(TextTower, "forward", counting)
    return seen
