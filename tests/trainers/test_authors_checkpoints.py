"""Checkpoints in the layout of the authors' code are tested here as they are."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.golden.tiny_clip import tensor
from trainers.errors import MethodError

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PETS = [
    "abyssinian", "american_bulldog", "beagle", "egyptian_mau", "great_pyrenees",
    "saint_bernard", "yorkshire_terrier",
]  # fmt: skip
OTHER_CLASSES = 19  # the authors save token buffers of the classes that they trained on
CASES = {
    "CoOp": ("coop.npz", "coop/pets_end", {"CTX_INIT": "a photo of a"}),
    "CoCoOp": ("cocoop.npz", "cocoop/pets", {"CTX_INIT": "a photo of a"}),
    "KgCoOp": ("kgcoop.npz", "kgcoop/pets", {}),
    "ProGrad": ("prograd.npz", "prograd/pets", {}),
    "MoPD": ("mopd.npz", "mopd/pets_T1_k3", {}),
}


def learned(method: str) -> dict[str, torch.Tensor]:
    """What the authors' code learned in the golden case, by its names for it."""
    file, case, _ = CASES[method]
    arrays = np.load(GOLDEN / file)
    if method == "CoCoOp":
        start = f"{case}/after/"
        found = {k.removeprefix(start): arrays[k] for k in arrays.files if k.startswith(start)}
    else:
        names = ("ctx", "gate") if method == "MoPD" else ("ctx",)
        found = {name: arrays[f"{case}/{name}_after"] for name in names}
    return {name: torch.from_numpy(value).float() for name, value in found.items()}


def dead(method: str, n_ctx: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Entries that the authors' code saves and nothing reads."""
    found = {
        "token_prefix": torch.randn(OTHER_CLASSES, 1, 64, dtype=dtype),
        "token_suffix": torch.randn(OTHER_CLASSES, 76 - n_ctx, 64, dtype=dtype),
    }
    if method == "KgCoOp":
        found["bias_vectors"] = torch.zeros(1, 512, dtype=dtype)
        found["meta_net.linear1.weight"] = torch.randn(512, 512, dtype=dtype)
        found["meta_net.linear1.bias"] = torch.randn(512, dtype=dtype)
    return found


def write(folder: Path, state: dict[str, torch.Tensor], epoch: int = 50) -> Path:
    """A checkpoint as upstream Dassl saves it; its scheduler is a pickled object."""
    parameter = nn.Parameter(state["ctx"].float())
    optimizer = torch.optim.SGD([parameter], lr=0.002, momentum=0.9, weight_decay=5e-4)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    successor = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epoch)
    path = folder / f"prompt_learner/model.pth.tar-{epoch}"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "state_dict": OrderedDict(state),
            "epoch": epoch,
            "optimizer": optimizer.state_dict(),
            "scheduler": {"successor": successor, "base_lrs": [0.002], "last_epoch": epoch},
            "val_result": np.float64(81.2),
        },
        path,
    )
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("method", CASES)
def test_weights_of_the_authors_are_loaded(make_trainer, tmp_path, method, dtype):
    weights = {name: value.to(dtype) for name, value in learned(method).items()}
    trainer = make_trainer(method, PETS, **CASES[method][2])
    write(tmp_path, weights | dead(method, len(weights["ctx"]), dtype))
    trainer.load_model(str(tmp_path), epoch=50)
    assert trainer.loaded_epoch == 50
    ours = trainer.prompt_learner.state_dict()
    assert ours.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(ours[name], value.float()), name


def test_loaded_weights_give_the_logits_of_the_authors_code(make_trainer, tmp_path):
    trainer = make_trainer("MoPD", PETS)
    weights = learned("MoPD")
    write(tmp_path, weights | dead("MoPD", 4, torch.float32))
    trainer.load_model(str(tmp_path), epoch=50)
    trainer.set_model_mode("eval")
    with torch.no_grad():
        logits = trainer.model_inference(tensor("images/mopd/pets_T1_k3", (8, 3, 32, 32))).numpy()
    golden = np.load(GOLDEN / "mopd.npz")["mopd/pets_T1_k3/inference_after"]
    assert np.abs(logits - golden).max() / np.abs(golden).max() < 1e-5


def test_a_context_of_other_length_is_refused(make_trainer, tmp_path):
    trainer = make_trainer("KgCoOp", PETS)
    path = write(tmp_path, {"ctx": torch.ones(16, 64)} | dead("KgCoOp", 16, torch.float32))
    before = trainer.prompt_learner.ctx.detach().clone()
    with pytest.raises(MethodError, match=r"ctx is \(16, 64\), expected \(4, 64\)") as error:
        trainer.load_model(str(tmp_path), epoch=50)
    assert str(path) in str(error.value)
    assert torch.equal(trainer.prompt_learner.ctx, before)


def test_entries_that_are_not_known_to_be_dead_are_refused(make_trainer, tmp_path):
    trainer = make_trainer("CoOp", PETS, CTX_INIT="a photo of a")
    write(tmp_path, learned("CoOp") | dead("KgCoOp", 4, torch.float32))
    with pytest.raises(MethodError, match=r"meta_net.linear1.bias is \(512,\), expected no such k"):
        trainer.load_model(str(tmp_path), epoch=50)
