"""A trainer file in upstream's style runs unchanged: train, checkpoint, evaluate, resume."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from yacs.config import CfgNode

from dassl.engine import build_trainer
from dassl.utils import set_random_seed


@pytest.fixture(scope="module", autouse=True)
def plugin():
    """Import the plugin as a file, as a user's train.py would."""
    path = Path(__file__).parent / "plugins" / "ctx_plugin.py"
    spec = importlib.util.spec_from_file_location("ctx_plugin", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_plugin(make_cfg):
    def make(*overrides, seed=1):
        cfg = make_cfg("TRAINER.NAME", "CtxPlugin", *overrides)
        cfg.defrost()
        cfg.TRAINER.CTXPLUGIN = CfgNode({"PREC": "fp32"})
        cfg.freeze()
        set_random_seed(seed)
        return build_trainer(cfg)

    return make


def test_training_moves_the_context_only_and_saves_it(make_plugin, capsys):
    trainer = make_plugin("OPTIM.WARMUP_EPOCH", 1, "OPTIM.WARMUP_TYPE", "constant")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["prompt_learner.ctx"]
    folder = f"{trainer.output_dir}/prompt_learner"
    assert sorted(os.listdir(folder)) == [
        "checkpoint",
        *(f"model.pth.tar-{e}" for e in range(1, 5)),
    ]
    saved = torch.load(f"{folder}/model.pth.tar-4", weights_only=True)
    assert list(saved["state_dict"]) == ["ctx", "token_prefix", "token_suffix"]
    assert torch.equal(saved["state_dict"]["ctx"], after["prompt_learner.ctx"])
    assert saved["trainer"] == "CtxPlugin"
    out = capsys.readouterr().out
    assert [f"end of epoch {e}/4" in out for e in range(1, 5)] == [True] * 4


def test_evaluation_from_a_checkpoint_gives_the_same_accuracy(make_plugin, capsys):
    trainer = make_plugin()
    trainer.train()
    accuracy = trainer.test()
    fresh = make_plugin()
    assert not torch.equal(fresh.model.prompt_learner.ctx, trainer.model.prompt_learner.ctx)
    fresh.load_model(trainer.output_dir, epoch=4)
    assert torch.equal(fresh.model.prompt_learner.ctx, trainer.model.prompt_learner.ctx)
    assert fresh.test() == accuracy
    assert "(epoch = 4)" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="Model not found at"):
        fresh.load_model(trainer.output_dir, epoch=9)


def test_initial_weights_are_read_from_a_checkpoint(make_plugin):
    trainer = make_plugin("OPTIM.MAX_EPOCH", 1)
    trainer.train()
    path = f"{trainer.output_dir}/prompt_learner/model.pth.tar-1"
    fresh = make_plugin("MODEL.INIT_WEIGHTS", path, seed=2)
    assert torch.equal(fresh.model.prompt_learner.ctx, trainer.model.prompt_learner.ctx)


def test_best_validation_model_is_deployed_through_the_plugins_own_loader(make_plugin, capsys):
    make_plugin("TEST.FINAL_MODEL", "best_val").train()
    out = capsys.readouterr().out
    assert (
        "Deploy the model with the best val performance\nLoading weights to prompt_learner" in out
    )


def test_a_finished_run_trains_no_more_and_is_tested(make_plugin, capsys):
    make_plugin().train()
    capsys.readouterr()
    again = make_plugin(seed=5)
    before = again.model.prompt_learner.ctx.detach().clone()
    again.train()
    assert not torch.equal(again.model.prompt_learner.ctx, before)  # loaded
    out = capsys.readouterr().out
    assert "Previous epoch: 4" in out
    assert "end of epoch" not in out
    assert "* total: 9" in out
