"""`trainer.model`: one module from images to logits, for notebooks and plugins."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTrainer

METHODS = sorted(
    name
    for name in TRAINER_REGISTRY.registered_names()
    if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
)
LEARNING = [name for name in METHODS if TRAINER_REGISTRY.get(name).learns]
NAMES = ["cat", "dog", "sea lion"]


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trainer_of(make_trainer, method: str, **more) -> PromptTrainer:
    pool = {"POOL": "embedded"} if "POOL" in TRAINER_REGISTRY.get(method).defaults else {}
    if method == "ProGrad":
        pool["CTX_INIT"] = ""
    return make_trainer(method, NAMES, **pool, **more)


@pytest.mark.parametrize("method", METHODS)
def test_it_gives_the_logits_of_the_trainer_and_has_its_parts(make_trainer, method, images):
    trainer = trainer_of(make_trainer, method)
    model = trainer.model
    assert model is trainer.model and model.prompt_learner is trainer.prompt_learner
    with torch.no_grad():
        assert torch.equal(model(images), trainer.model_inference(images))
        features = model.image_encoder(images.type(model.dtype))  # (B, D)
        unit = F.normalize(features.float(), dim=-1)
        assert torch.equal(unit, trainer.clip.encode_image(images))
        assert torch.equal(model(unit), model(images))  # as batches of a loader with the cache
    torch.testing.assert_close(model.logit_scale.exp(), trainer.clip.logit_scale)
    learned = [name for name, value in model.named_parameters() if value.requires_grad]
    assert all(name.startswith("prompt_learner.") for name in learned)
    assert bool(learned) == trainer.learns
    assert trainer.get_model_names() == (["prompt_learner"] if trainer.learns else [])


@pytest.mark.parametrize("method", LEARNING)
def test_a_loop_of_the_users_own_trains_it(make_trainer, method, images):
    trainer = trainer_of(make_trainer, method)
    model, label = trainer.model, torch.tensor([0, 2])
    with torch.no_grad():
        trainer.model_inference(images)  # which keeps class features
    steps = []
    for _ in range(3):
        logits = model(images)
        trainer.model_backward_and_update(F.cross_entropy(logits, label))
        steps.append(logits.detach())
    assert not any(map(torch.equal, steps, steps[1:]))
    with torch.no_grad():  # nothing that has a graph, or is of an earlier step, was kept
        assert torch.equal(trainer.model_inference(images), model(images))


def test_class_features_come_from_its_text_encoder_and_its_prompts(make_trainer):
    trainer = trainer_of(make_trainer, "CoOp")
    with torch.no_grad():
        features = trainer.model.text_encoder(*trainer.model.prompt_learner())
        assert torch.equal(F.normalize(features, dim=-1), trainer.class_features())


def test_its_mode_is_that_of_what_is_trained(make_trainer):
    trainer = trainer_of(make_trainer, "CoCoOp")
    for mode in (True, False):
        trainer.model.train(mode)
        assert trainer.prompt_learner.training is mode
        assert not any(module.training for module in trainer.clip.modules())


def test_a_copy_learns_by_itself(make_trainer, images):
    trainer = trainer_of(make_trainer, "CoOp")
    twin = copy.deepcopy(trainer.model)
    with torch.no_grad():
        before = trainer.model(images)
        twin.prompt_learner.ctx.add_(1.0)
        assert torch.equal(trainer.model(images), before) and not torch.equal(twin(images), before)


def test_nobody_makes_it_who_does_not_ask_for_it(make_trainer):
    trainer = trainer_of(make_trainer, "CoOp")
    assert "model" not in vars(trainer)
    own = torch.nn.Linear(1, 1)
    trainer.model = own  # as a method's file may
    assert trainer.model is own
