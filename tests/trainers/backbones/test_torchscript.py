"""TorchScript archives give the tensors that torch.jit.load gives, and run nothing."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import clip
import pytest
import torch
from torch import nn

from benchmarks.reference import plain_clip
from tests.hostile_archives import Writer, script, two_directories, writes
from trainers.backbones import torchscript
from trainers.backbones.torchscript import is_script, open_archive, read_script
from trainers.backbones.weights import read_weights
from trainers.errors import MethodError

SMALL = {"text_width": 64, "text_layers": 1, "resolution": 32, "width": 64}


class Kinds(nn.Module):
    """Tensors of all kinds, and attributes that are none of its weights."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.linear = nn.Linear(2, 2, bias=False)
        self.same = self.linear.weight
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2).half())
        numbers = torch.arange(24.0).reshape(2, 3, 4)
        for name, value in {
            "view": numbers.permute(2, 0, 1),
            "part": numbers[1, 1:, ::2],
            "spread": torch.ones(1).expand(3),
            "halves": torch.tensor([1e-7, 65504.0, float("nan")]).half(),
            "bfloat": torch.tensor([1e-30, -3e38]).bfloat16(),
            "doubles": torch.tensor([1 / 3], dtype=torch.float64),
            "scalar": torch.tensor(224),
            "small": torch.tensor([-1, 127], dtype=torch.int8),
            "shorts": torch.tensor([-300], dtype=torch.int16),
            "ints": torch.tensor([1 << 30], dtype=torch.int32),
            "bytes": torch.tensor([255], dtype=torch.uint8),
            "truth": torch.tensor([True, False]),
            "empty": torch.zeros(0, 3),
        }.items():
            self.register_buffer(name, value)
        self.register_buffer("fleeting", torch.ones(4), persistent=False)
        self.plain, self.tensors, self.device = torch.zeros(2), [torch.ones(1)], torch.device("cpu")
        self.text, self.numbers, self.table = "x", [1, 2], {"a": 1}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Uses all, so that all is stored."""
        return self.linear(x) + self.plain + self.tensors[0] + len(self.text) + self.table["a"]


def saved(tmp_path, archive: bytes):
    """The file of an archive."""
    path = tmp_path / "archive.pt"
    path.write_bytes(archive)
    return path


def traced(model: nn.Module) -> bytes:
    """A TorchScript archive of a CLIP, made as OpenAI's."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        inputs = (torch.zeros(1, 3, 32, 32), clip.tokenize("a"))
        module = torch.jit.trace(model.float(), inputs, check_trace=False)
        for name, parameter in module.named_parameters():
            if "ln_" not in name and "embedding" not in name:
                parameter.data = parameter.data.half()
        torch.jit.save(module, file)
    return file.getvalue()


def handmade(pickled: bytes, **storages: bytes) -> bytes:
    """A TorchScript archive of a pickle, in which __torch__.M is a module with a parameter w."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {
            "data.pkl": b"\x80\x02" + pickled,
            "code/__torch__.py": b'class M(Module):\n  __parameters__ = ["w", ]\n  w : Tensor\n',
            "constants.pkl": b"\x80\x02).",
            "version": b"3\n",
            **{f"data/{key}": content for key, content in storages.items()},
        }.items():
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


ARCHIVES = {
    "kinds": lambda: script(Kinds()),
    "ViT": lambda: traced(plain_clip(**SMALL, patch=16, layers=2)),
    "ResNet": lambda: traced(
        plain_clip(**SMALL | {"width": 16}, layers=(1, 2, 1, 1), embed_dim=1024)
    ),
}


@pytest.mark.parametrize("directories", [1, 2])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_all_tensors_are_those_of_torch(tmp_path, monkeypatch, kind, directories):
    archive = ARCHIVES[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch.jit.load(io.BytesIO(archive)).state_dict()
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("has run the archive"))
    # as torch sees it, whatever Python's reader sees
    if directories == 2 and kind == "kinds":
        archive = two_directories(archive)
    found = read_weights(saved(tmp_path, archive))
    assert found.keys() == expected.keys() and len(found) > 20
    for name, value in expected.items():
        ours = found[name]
        assert ours.dtype == value.dtype and ours.stride() == value.stride(), name
        assert ours.shape == value.shape and not ours.requires_grad, name
        assert torch.equal(
            ours.contiguous().view(torch.uint8) if ours.dim() and ours.numel() else ours,
            value.contiguous().view(torch.uint8) if ours.dim() and ours.numel() else value,
        ), name
    if kind == "kinds":
        assert found["same"].data_ptr() == found["linear.weight"].data_ptr()
        assert not {"plain", "tensors"} & found.keys()


@pytest.mark.parametrize("directories", [1, 2])
def test_an_archive_that_writes_a_file_is_refused_and_writes_none(tmp_path, directories):
    mark = tmp_path / "written"
    archive = script(Writer(str(mark)))
    if directories == 2:
        archive = two_directories(archive)
        assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == ["harmless"]
    path = saved(tmp_path, archive)
    assert writes(mark, archive)  # the attack is a real one
    with pytest.raises(MethodError, match="Writer, which is restored by code of its own") as error:
        read_weights(path)
    assert str(path) in str(error.value) and "get the published file again" in str(error.value)
    assert os.listdir(tmp_path) == [path.name]


MODULE = b"c__torch__\nM\n)\x81q\x00}(X\x01\x00\x00\x00w"  # and its attribute w, which follows


def tensor(key: bytes, offset: int = 0, size: int = 2, stride: int = 1) -> bytes:
    """The pickle of a tensor, as TorchScript writes it."""
    numbers = [bytes([ord("K"), number]) for number in (offset, size, stride)]
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x00" + key + b"X\x03\x00\x00\x00cpuK\x02tQ" + numbers[0] + b"("
        + numbers[1] + b"t(" + numbers[2] + b"t\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def test_an_archive_by_hand_is_read(tmp_path):
    storage = torch.tensor([3.0, 4.0]).numpy().tobytes()
    found = read_weights(saved(tmp_path, handmade(MODULE + tensor(b"a") + b"ub.", a=storage)))
    assert found["w"].tolist() == [3, 4] and len(found) == 1


@pytest.mark.parametrize(
    "name",
    [
        *("builtins.exec", "builtins.getattr", "posix.system", "torch.load", "torch.from_file"),
        *("torch.jit._serialization.load", "torch._utils._rebuild_tensor", "__main__.M"),
    ],
)
def test_an_archive_that_calls_anything_is_refused_by_name_and_not_run(tmp_path, name):
    mark = tmp_path / "written"
    arguments = {
        "builtins.exec": (f"open({str(mark)!r}, 'w')",),
        "posix.system": (f"touch {mark}",),
    }.get(name, (str(mark), True, 4))
    module, _, function = name.rpartition(".")
    call = f"c{module}\n{function}\n".encode() + pickle.dumps(arguments, 2)[2:-1] + b"R"
    path = saved(tmp_path, handmade(MODULE + call + b"ub."))
    with pytest.raises(MethodError, match=f"names {name}, which CLIP's weights do not need"):
        read_weights(path)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "name", ["torch._utils\n_rebuild_tensor_v2", "__torch__\nM", "collections\nOrderedDict"]
)
def test_what_the_reader_uses_stays_as_it_is(tmp_path, name):
    """A pickle can set attributes of the functions and classes that it names."""
    own = (torchscript._tensor, torchscript._nothing, torchscript._Module)
    before = [(getattr(one, "__defaults__", None), vars(one).copy()) for one in own]
    # name it, then BUILD with the state (None, {"__defaults__": (1,)})
    change = f"c{name}\n".encode() + b"(N}X\x0c\x00\x00\x00__defaults__K\x01\x85stb"
    with contextlib.suppress(MethodError):
        read_weights(saved(tmp_path, handmade(MODULE + change + b"ub.")))
    assert [(getattr(one, "__defaults__", None), vars(one).copy()) for one in own] == before


@pytest.mark.parametrize("place", [{"offset": 1}, {"size": 3}, {"stride": 2}, {"offset": 200}])
def test_a_tensor_beyond_its_storage_is_damage(tmp_path, place):
    path = saved(tmp_path, handmade(MODULE + tensor(b"a", **place) + b"ub.", a=bytes(8)))
    with pytest.raises(MethodError, match="cannot be read as weights .truncated"):
        read_weights(path)


@pytest.mark.parametrize("storages", [{}, {"a": bytes(7)}, {"a": b""}])
def test_a_storage_that_is_not_whole_is_damage(tmp_path, storages):
    path = saved(tmp_path, handmade(MODULE + tensor(b"a") + b"ub.", **storages))
    with pytest.raises(MethodError, match="cannot be read as weights .truncated"):
        read_weights(path)


@pytest.mark.parametrize("more", [b"", b"X\x01\x00\x00\x00vh\x00"])
def test_modules_that_contain_themselves_are_refused(tmp_path, more):
    path = saved(tmp_path, handmade(MODULE + b"h\x00" + more + b"ub."))
    with pytest.raises(MethodError, match="holds more than 10,000 modules"):
        read_weights(path)


def test_a_state_dict_is_no_script(tmp_path):
    path = tmp_path / "state.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    assert not is_script(open_archive(path))
    path.write_bytes(b"no archive")
    assert open_archive(path) is None
    assert set(read_script(open_archive(saved(tmp_path, script(nn.Linear(2, 2)))))) == {
        "weight",
        "bias",
    }


def test_nothing_that_users_run_hands_a_file_to_torch_jit():
    root = Path(__file__).parents[3]
    paths = [root / "train.py"]
    for room in ("dassl", "datasets", "runs", "tools", "trainers"):
        paths += (root / room).rglob("*.py")
    assert len(paths) > 100
    assert [path for path in paths if "jit.load(" in path.read_text()] == []
