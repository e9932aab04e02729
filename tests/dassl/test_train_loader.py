"""Workers that live for all epochs yield what torch's loader yields with new ones, and end."""

import os
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, get_worker_info

from dassl.data.data_manager import build_data_loader
from dassl.data.samplers import build_sampler
from dassl.data.train_loader import TrainLoader
from dassl.engine import TRAINER_REGISTRY

SOURCE = [SimpleNamespace(label=i % 3, domain=i % 2) for i in range(23)]
SAMPLERS = ["RandomSampler", "SequentialSampler", "RandomDomainSampler", "RandomClassSampler"]


class Noise(Dataset):
    """Items that depend on all three generators, the worker and an attribute."""

    factor = 1

    def __len__(self):
        return len(SOURCE)

    def __getitem__(self, index):
        info = get_worker_info()
        return {
            "torch": torch.rand(2) * self.factor,
            "numpy": float(np.random.rand()),
            "python": random.random(),
            "index": index,
            "worker": -1 if info is None else info.id,
            "pid": os.getpid(),
        }


class Batched(Noise):
    """Fetches a batch at once."""

    def __getitems__(self, indices):
        shift = torch.rand(())
        return [{**self[index], "shift": shift} for index in indices]


def build(kind, workers, sampler="RandomSampler", dataset=None, **options):
    order = build_sampler(sampler, data_source=SOURCE, batch_size=4, n_domain=2, n_ins=2)
    return kind(
        dataset or Noise(),
        batch_size=4,
        sampler=order,
        num_workers=workers,
        drop_last=True,
        **options,
    )


def seed(value=5):
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


def plain(batches):
    """Batches without the process, with tensors as lists."""
    return [
        {
            k: v.tolist() if isinstance(v, torch.Tensor) else v
            for k, v in batch.items()
            if k != "pid"
        }
        for batch in batches
    ]


def pids(batches):
    return {pid for batch in batches for pid in batch["pid"].tolist()}


def epochs(loader, count=3):
    """Batches of several epochs, and numbers that the main process draws in between."""
    seed()
    found = []
    for _ in range(count):
        found.append((len(loader), plain(loader)))
        found.append((random.random(), np.random.rand(), torch.rand(()).item()))
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_epochs_are_those_of_a_torch_loader(workers, sampler):
    loader = build(TrainLoader, workers, sampler)
    assert epochs(loader) == epochs(build(DataLoader, workers, sampler))
    loader.close()


@pytest.mark.parametrize("kind", [Batched, Noise])
def test_batched_items_and_an_init_function_as_in_torch(kind):
    def init(worker):
        random.seed(worker)

    loader = build(TrainLoader, 2, dataset=kind(), worker_init_fn=init)
    reference = build(DataLoader, 2, dataset=kind(), worker_init_fn=init)
    assert epochs(loader) == epochs(reference)
    loader.close()


def test_workers_live_for_all_epochs_and_end_when_closed(workers_end):
    loader = build(TrainLoader, 2)
    first = pids(loader)
    assert len(first) == 2 and pids(loader) == pids(loader) == first
    loader.close()
    assert workers_end()
    assert not pids(loader) & first  # it can be used again
    del loader
    assert workers_end()


def test_an_epoch_that_is_broken_off_does_not_reach_into_the_next():
    found = []
    for kind in (TrainLoader, DataLoader):
        loader = build(kind, 2)
        seed()
        for position, _ in enumerate(loader):
            if position == 1:
                break
        found.append(plain(loader) + plain(loader))
    assert found[0] == found[1]


class Broken(Noise):
    """Its items cannot be read."""

    def __getitem__(self, index):
        raise ValueError(f"item {index}")


def test_workers_end_while_their_error_is_told(workers_end):
    loader = build(TrainLoader, 2, "SequentialSampler", Broken())
    with pytest.raises(ValueError, match="item 0") as error:
        list(loader)
    loader.close()
    assert error.value is not None and workers_end()


def test_workers_are_started_with_the_options_of_the_loader():
    options = {"prefetch_factor": 3, "timeout": 50, "multiprocessing_context": "fork"}
    loader = build(TrainLoader, 1, **options)
    loader.pin_memory = True  # torch asks for a GPU when it starts workers only
    loader._start()
    names = (*options, "pin_memory", "num_workers", "collate_fn")
    inside = loader._inside
    assert {n: getattr(inside, n) for n in names} == {n: getattr(loader, n) for n in names}


def test_two_passes_at_once_are_independent():
    found = []
    for kind in (TrainLoader, DataLoader):
        loader = build(kind, 1)
        seed()
        found.append([plain(pair) for pair in zip(loader, loader, strict=True)] + plain(loader))
    assert found[0] == found[1]


def test_what_is_set_on_the_dataset_reaches_the_workers():
    found = []
    for kind in (TrainLoader, DataLoader):
        loader = build(kind, 1)
        seed()
        batches = plain(loader)
        loader.dataset.factor = 100  # type: ignore[attr-defined]
        found.append(batches + plain(loader))
    assert found[0] == found[1]


def test_an_exhausted_or_closed_epoch_yields_no_more():
    loader = build(TrainLoader, 1)
    epoch = iter(loader)
    assert len(epoch) == len(list(epoch)) == 5
    assert list(epoch) == []
    epoch = iter(loader)
    next(epoch)
    loader.close()
    assert list(epoch) == []


def test_public_attributes_are_those_of_a_torch_loader(make_cfg, world):
    cfg = make_cfg("DATALOADER.NUM_WORKERS", 2)
    source = [
        SimpleNamespace(impath=f"{world}/train_cat_{i}.png", label=0, domain=0) for i in range(7)
    ]
    loader = build_data_loader(cfg, "RandomSampler", source, 3)
    assert isinstance(loader, DataLoader)
    assert loader.dataset.data_source is source  # type: ignore[attr-defined]
    assert (len(loader), loader.batch_size, loader.drop_last, loader.num_workers) == (2, 3, True, 2)
    assert type(loader.batch_sampler) is BatchSampler
    assert not isinstance(build_data_loader(cfg, data_source=source, is_train=False), TrainLoader)


@pytest.mark.parametrize("fails", [False, True])
def test_training_leaves_no_worker_behind(make_cfg, fails, workers_end):
    class Failing(TRAINER_REGISTRY.get("LinearTrainer")):  # type: ignore[misc]
        def forward_backward(self, batch):
            if fails and (self.epoch, self.batch_idx) == (1, 1):
                raise RuntimeError("stop")
            return super().forward_backward(batch)

    trainer = Failing(make_cfg("DATALOADER.NUM_WORKERS", 2))
    if fails:
        with pytest.raises(RuntimeError, match="stop") as error:
            trainer.train()
        assert error.tb is not None
    else:
        trainer.train()
    assert workers_end()


def test_spawned_workers_share_the_images_and_end_with_a_program_that_fails(world):
    program = """
        import sys
        from types import SimpleNamespace

        import torch
        from torchvision.transforms import ToTensor

        from dassl.config import get_cfg_default
        from dassl.data.data_manager import build_data_loader

        if __name__ == "__main__":
            source = [SimpleNamespace(impath=path, label=0, domain=0) for path in sys.argv[1:]]
            cfg = get_cfg_default()
            cfg.DATALOADER.NUM_WORKERS = 1
            loader = build_data_loader(cfg, data_source=source, batch_size=2, tfm=ToTensor())
            loader.multiprocessing_context = "spawn"
            epoch = iter(loader)
            memory = loader.dataset.memory
            expected = [ToTensor()(memory.read(item.impath)) for item in source[:2]]
            assert torch.equal(next(epoch)["img"], torch.stack(expected))
            assert [chunk.is_shared() for chunk in memory._chunks] == [True]
            print(*(p.pid for p in torch.multiprocessing.active_children()), flush=True)
            raise SystemExit(3)
    """
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(program),
            *map(str, sorted(world.glob("*.png"))[:6]),
        ],
        capture_output=True,
        text=True,
        timeout=300,  # a worker that hangs is found, too
        cwd=Path(__file__).parents[2],
    )
    assert (done.returncode, done.stderr) == (3, "")
    said, worker = done.stdout.splitlines()
    assert said.startswith("Keeping 6 decoded training images in memory")
    assert not os.path.exists(f"/proc/{worker}")
