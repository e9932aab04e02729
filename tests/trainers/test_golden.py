"""The methods give the figures of their authors' own code (tests/golden), step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.golden.tiny_clip import tensor
from trainers.mopd import picked_losses
from trainers.prograd import project
from trainers.prompts.gates import pick_teachers
from trainers.prompts.pool import load_pool

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# An array may differ from the stored one by so much of its largest value. Stored figures were
# computed in float32: in float64 their rounding is all that can differ, the same on every machine.
# In float32 ours comes on top, on each machine another one: logits up to 100 are off by 1e-5, and
# so are probabilities, relative; gradients are differences of these, some times smaller.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
CLASSES = {
    "pets": [
        "abyssinian", "american_bulldog", "beagle", "egyptian_mau", "great_pyrenees",
        "saint_bernard", "yorkshire_terrier",
    ],
    "eurosat": [
        "Annual Crop Land", "Forest", "Herbaceous Vegetation Land", "Highway or Road",
        "Sea or Lake",
    ],
    "ucf": [
        "Apply_Eye_Makeup", "Balance_Beam", "Clean_And_Jerk", "Hammer_Throw", "Playing_Daf",
        "Uneven_Bars",
    ],
}  # fmt: skip


def figures(file: str, case: str) -> dict[str, np.ndarray]:
    """The stored arrays of a case, by their name within it."""
    arrays = np.load(GOLDEN / file)
    return {k.removeprefix(f"{case}/"): arrays[k] for k in arrays.files if k.startswith(f"{case}/")}


def assert_close(name: str, ours, golden, tolerance: float = 1e-5, scale: float = 0.0) -> None:
    """Largest deviation below `tolerance` of the largest value, or of `scale` where it is more."""
    ours, golden = np.asarray(ours, dtype=np.float64), np.asarray(golden, dtype=np.float64)
    assert ours.shape == golden.shape, name
    difference = np.abs(ours - golden).max() / max(np.abs(golden).max(), scale)
    assert difference < tolerance, f"{name}: relative difference {difference:.1e}"


@pytest.fixture(params=TOLERANCE, ids=["float64", "float32"])
def dtype(request) -> torch.dtype:
    """What a trainer computes in."""
    return request.param


@pytest.fixture
def make_trainer(make_trainer, dtype, request):
    """`make_trainer` for both dtypes."""
    if dtype is torch.float32:
        return make_trainer
    in_float64 = request.getfixturevalue("in_float64")
    return lambda *args, **knobs: in_float64(make_trainer(*args, **knobs))


def three_steps(trainer, case: str, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What the golden files hold of three steps on one batch, from our trainer."""
    label = torch.from_numpy(labels).long()
    dtype = trainer.clip.logit_scale.dtype
    images = tensor(f"images/{case}", (len(label), 3, 32, 32)).to(dtype)
    trainer.set_model_mode("eval")
    with torch.no_grad():
        got = {"logits": trainer.model_inference(images).numpy()}
    assert got["logits"].dtype.name == str(dtype).removeprefix("torch."), "rounded on the way"
    trainer.set_model_mode("train")
    summaries = []
    for step in range(3):
        summaries.append(trainer.forward_backward({"img": images, "label": label}))
        if step == 0:
            for name, parameter in trainer.prompt_learner.named_parameters():
                got[f"{name}_grad"] = parameter.grad.clone().numpy()
    for name, parameter in trainer.prompt_learner.named_parameters():
        got[f"{name}_after"] = parameter.detach().numpy()
    for name in summaries[0]:
        got[name] = np.array([summary[name] for summary in summaries])
    return got


@pytest.mark.parametrize(
    ("case", "classes", "knobs"),
    [
        ("coop/pets_end", "pets", {"CTX_INIT": "a photo of a"}),
        ("coop/ucf_csc", "ucf", {"N_CTX": 4, "CSC": True}),
        ("coop/pets_middle", "pets", {"N_CTX": 16, "CLASS_TOKEN_POSITION": "middle"}),
    ],
)
def test_coop_equals_its_authors_code(make_trainer, dtype, case, classes, knobs):
    trainer = make_trainer("CoOp", CLASSES[classes], **knobs)
    if "N_CTX" in knobs:
        start = tensor(f"ctx/{case}", tuple(trainer.prompt_learner.ctx.shape), 0.02)
        trainer.prompt_learner.ctx.data.copy_(start)
    golden = figures("coop.npz", case)
    got = three_steps(trainer, case, golden.pop("labels"))
    assert set(golden) == {"logits", "ctx_grad", "loss", "ctx_after"}
    for name, expected in golden.items():
        assert_close(name, got[name], expected, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("case", "classes", "dataset", "knobs"),
    [
        ("mopd/pets_T1_k3", "pets", "OxfordPets",
         {"TEMPERATURE": 1.0, "NUM_TEACHERS": 3, "ALPHA": 0.8, "BETA": 0.5}),
        ("mopd/eurosat_T2_k2", "eurosat", "EuroSAT",
         {"TEMPERATURE": 2.0, "NUM_TEACHERS": 2, "ALPHA": 0.5, "BETA": 0.1}),
    ],
)  # fmt: skip
def test_mopd_equals_its_authors_code(make_trainer, dtype, tmp_path, case, classes, dataset, knobs):
    pool = tmp_path / "pool.yaml"
    pool.write_text(yaml.safe_dump(load_pool("paper", dataset)))
    trainer = make_trainer("MoPD", CLASSES[classes], POOL=str(pool), **knobs)
    assert tuple(trainer.prompt_learner.gate.shape) == (512, 12)
    assert not trainer.prompt_learner.gate.any(), "the gate starts at zero"
    trainer.prompt_learner.gate.data.copy_(tensor(f"gate/{case}", (512, 12), 1.0))
    golden = figures("mopd.npz", case)
    images = tensor(f"images/{case}", (8, 3, 32, 32)).to(dtype)
    gate_logits = trainer.clip.encode_image(images) @ trainer.prompt_learner.gate
    weights, picked = pick_teachers(gate_logits, knobs["NUM_TEACHERS"])
    got = {
        "teacher_features": trainer.teachers.numpy(),
        "gate_weights": weights.detach().numpy(),
        "gate_index": picked.numpy(),
    }
    got |= three_steps(trainer, case, golden.pop("labels"))
    trainer.set_model_mode("eval")
    with torch.no_grad():
        got["inference_after"] = trainer.model_inference(images).numpy()
    assert {"loss", "ce", "mpd", "mps", "ctx_after", "gate_after"} < set(golden)
    for name, expected in golden.items():
        assert_close(name, got[name], expected, TOLERANCE[dtype])


def test_cocoop_equals_its_authors_code(make_trainer, dtype, monkeypatch):
    case = "cocoop/pets"
    trainer = make_trainer("CoCoOp", CLASSES["pets"], CTX_INIT="a photo of a")
    for name, parameter in trainer.prompt_learner.meta_net.named_parameters():
        name = f"meta_net.{name}"
        parameter.data.copy_(tensor(f"{name}/{case}", tuple(parameter.shape), 0.05))
    golden = figures("cocoop.npz", case)
    start = {k: v.clone() for k, v in trainer.prompt_learner.state_dict().items()}
    label = golden.pop("labels")
    for tokens_per_pass in (2**14, 1):  # all images at once, one by one
        monkeypatch.setattr("trainers.cocoop.TOKENS_PER_PASS", tokens_per_pass)
        trainer.prompt_learner.load_state_dict(start)
        trainer.optim.state.clear()  # momentum of the first pass
        got = three_steps(trainer, case, label)
        assert len(golden) == 12
        for name, expected in golden.items():
            kind, _, parameter = name.partition("/")
            name = f"{parameter}_{kind}" if parameter else name
            assert_close(name, got[name], expected, TOLERANCE[dtype])


def test_kgcoop_equals_its_authors_code(make_trainer, dtype, tmp_path, W=8.0):
    pool = tmp_path / "pool.yaml"
    pool.write_text(yaml.safe_dump(load_pool("kgcoop", "OxfordPets")))
    trainer = make_trainer("KgCoOp", CLASSES["pets"], POOL=str(pool), W=W)
    golden = figures("kgcoop.npz", "kgcoop/pets")
    got = three_steps(trainer, "kgcoop/pets", golden.pop("labels"))
    got["score"] = got["score"][0]
    assert set(golden) == {"logits", "score", "ctx_grad", "loss", "ctx_after"}
    for name, expected in golden.items():
        assert_close(name, got[name], expected, TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("case", "dataset", "knobs", "projected"),
    [
        ("prograd/pets", "OxfordPets", {}, [False, False, False]),
        ("prograd/eurosat", "EuroSAT", {"CTX_INIT": "", "N_CTX": 4, "T": 2.0, "LAMBDA": 0.8},
         [False, True, True]),
    ],
)  # fmt: skip
def test_prograd_equals_its_authors_code(
    make_trainer, dtype, tmp_path, case, dataset, knobs, projected
):
    pool = tmp_path / "pool.yaml"
    pool.write_text(yaml.safe_dump(load_pool("prograd", dataset)))
    trainer = make_trainer("ProGrad", CLASSES[case.split("/")[1]], POOL=str(pool), **knobs)
    ctx = trainer.prompt_learner.ctx
    if "N_CTX" in knobs:
        ctx.data.copy_(tensor(f"ctx/{case}", (4, 64), 0.02))
    else:
        assert not ctx[:8].any() and ctx[8:].any(dim=-1).all()
    golden = figures("prograd.npz", case)
    images = tensor(f"images/{case}", (6, 3, 32, 32)).to(dtype)
    features = trainer.clip.encode_image(images)
    got = {"teacher_logits": trainer.logits(features, trainer.hand_made).numpy()}
    cosines = []

    def both_gradients(terms):
        ce, kl = (
            torch.autograd.grad(terms[name], ctx, retain_graph=True)[0] for name in ("loss", "kl")
        )
        got.setdefault("ce_grad", ce.numpy())
        got.setdefault("kl_grad", kl.numpy())
        cosines.append(torch.nn.functional.cosine_similarity(ce.flatten(), kl.flatten(), 0))
        type(trainer).backward(trainer, terms)
        if cosines[-1] < 0:
            assert not torch.allclose(ctx.grad, ce)
        else:
            assert torch.equal(ctx.grad, ce)

    trainer.backward = both_gradients
    got |= three_steps(trainer, case, golden.pop("labels"))
    got |= {"cosine": torch.stack(cosines).numpy(), "ce": got["loss"]}
    got["final_grad"] = got["ctx_grad"]
    assert (golden["cosine"] < 0).tolist() == projected
    assert len(golden) == 9
    # a cosine is a mean of products, of size 1 together, whatever is left of them; its error is at
    # most the sum of the relative ones of both gradients
    assert_close("cosine", got["cosine"], golden.pop("cosine"), TOLERANCE[dtype], scale=1.0)
    if case == "prograd/eurosat":
        # student and teacher nearly agree, so that little is left of large numbers: the stored
        # figures are 1.19e-5 away from the exact ones
        most = max(TOLERANCE[dtype], 1.3e-5)
        assert_close("kl_grad", got["kl_grad"], golden.pop("kl_grad"), most)
    for name, expected in golden.items():
        assert_close(name, got[name], expected, TOLERANCE[dtype])


@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1.001), (torch.float32, 1.01)])
@pytest.mark.parametrize("knob", ["ALPHA", "BETA", "TEMPERATURE", "LAMBDA", "T", "W"])
def test_a_formula_that_is_slightly_off_is_noticed(make_trainer, dtype, tmp_path, knob, off):
    build = (make_trainer, dtype, tmp_path)
    prograd = {"CTX_INIT": "", "N_CTX": 4, "T": 2.0, "LAMBDA": 0.8}
    mopd = {"TEMPERATURE": 2.0, "NUM_TEACHERS": 2, "ALPHA": 0.5, "BETA": 0.1}
    for knobs in (prograd, mopd):
        if knob in knobs:
            knobs[knob] *= off
    with pytest.raises(AssertionError, match="relative difference"):
        if knob == "W":
            test_kgcoop_equals_its_authors_code(*build, 8 * off)
        elif knob in prograd:
            case = ("prograd/eurosat", "EuroSAT", prograd, [False, True, True])
            test_prograd_equals_its_authors_code(*build, *case)
        else:
            case = ("mopd/eurosat_T2_k2", "eurosat", "EuroSAT", mopd)
            test_mopd_equals_its_authors_code(*build, *case)


def test_the_vector_of_the_specification():
    """The worked example with unnormalised features, in float64."""
    f = torch.tensor([[1, 2, 3, 4], [2, -1, 0, 1]], dtype=torch.float64)
    t = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, -1]], dtype=torch.float64)
    p, c, d = torch.meshgrid(torch.arange(4), torch.arange(3), torch.arange(4), indexing="ij")
    teachers = torch.nn.functional.normalize(torch.sin(1.0 + 12 * p + 4 * c + d).double(), dim=-1)
    gate = torch.cos(4.0 * torch.arange(4)[:, None] + torch.arange(4)).double()
    t.requires_grad_()
    gate.requires_grad_()
    features = torch.nn.functional.normalize(f, dim=-1)
    student = 10 * features @ torch.nn.functional.normalize(t, dim=-1).T
    logits = 10 * torch.einsum("bd,hcd->bhc", features, teachers)
    weights, picked = pick_teachers(features @ gate, 2)
    label = torch.tensor([2, 0])
    picked_ones = logits.take_along_dim(picked[..., None], dim=1)
    mpd, mps = picked_losses(student, picked_ones, weights, label, 2.0)
    ce = torch.nn.functional.cross_entropy(student, label)
    loss = 0.8 * ce + 0.2 * mpd + 0.1 * mps
    loss.backward()
    assert picked.tolist() == [[0, 1], [0, 1]]
    assert_close("a", weights.detach(), [[0.52861484, 0.47138516], [0.67525134, 0.32474866]])
    terms = torch.stack([ce, mpd, mps, loss]).detach()
    assert_close("terms", terms, [5.28016243, 4.61098708, 7.58074157, 5.90440152])
    column = torch.tensor([-0.04140990, -0.02515673, -0.05503401, -0.08491130])
    assert_close("gate", gate.grad[:, 0], column)
    assert_close("gate", gate.grad[:, 1], -column)
    assert not gate.grad[:, 2:].any()
    assert_close("t", t.grad[0], [0.48201599, -0.55361703, -0.48201599, 0.12401081])
    classes = torch.nn.functional.normalize(t.detach(), dim=-1)
    score = 1 - torch.nn.functional.cosine_similarity(classes, teachers[0], dim=-1).mean()
    assert_close("KgCoOp's score", score, 0.61288780)
    assert_close("KgCoOp's loss", ce.detach() + 8 * score, 10.18326487)


def test_the_vectors_of_prograd():
    ce, agrees, opposes = (torch.tensor(v) for v in ([1.0, 2.0], [1.0, 0.5], [-1.0, -0.5]))
    assert torch.equal(project(ce, agrees, 1.0), ce)
    assert_close("projected", project(ce, opposes, 1.0), [-0.6, 1.2])
    assert_close("half of it", project(ce, opposes, 0.5), [0.2, 1.6])
    assert torch.equal(project(ce, torch.zeros(2), 1.0), ce)
    for tiny in (1e-30, 1e30):  # squares vanish or overflow
        assert_close("any scale", project(ce, tiny * opposes, 1.0), [-0.6, 1.2])
    assert not torch.isfinite(project(ce, torch.tensor([float("inf"), 0.0]), 1.0)).all()
    projected = project(ce, opposes, 1.0)
    assert abs((projected * opposes).sum()) < 1e-6, "nothing against zero-shot CLIP is left"
