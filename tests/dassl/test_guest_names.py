"""What the public trainers of the CoOp family take from Dassl is there: names, inherited and read.

The repositories: CoOp and CoCoOp (one), KgCoOp, ProGrad, MaPLe, PromptSRC, TCP, DePT.
"""

import time
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import torch
from torch import nn

import dassl.engine.trainer
from dassl.config import get_cfg_default
from dassl.data import DataManager
from dassl.engine import TRAINER_REGISTRY, TrainerBase, build_trainer
from dassl.engine.trainer import SummaryWriter
from dassl.evaluation import Classification
from dassl.utils import mkdir_if_missing

EVERYONE = "CoOp KgCoOp ProGrad MaPLe PromptSRC TCP DePT"
# module -> names that are imported from it, and by whom
IMPORTED = [
    ("dassl.engine", "TRAINER_REGISTRY TrainerX build_trainer", EVERYONE),
    ("dassl.metrics", "compute_accuracy", EVERYONE),
    ("dassl.optim", "build_lr_scheduler build_optimizer", EVERYONE),
    ("dassl.utils", "load_checkpoint load_pretrained_weights", EVERYONE),
    ("dassl.utils", "collect_env_info set_random_seed setup_logger", EVERYONE),
    ("dassl.utils", "listdir_nohidden mkdir_if_missing read_json write_json", EVERYONE),
    ("dassl.utils", "check_isfile", EVERYONE),  # the script that reads logs
    ("dassl.config", "clean_cfg get_cfg_default", EVERYONE),
    ("dassl.data.datasets", "DATASET_REGISTRY DatasetBase Datum build_dataset", EVERYONE),
    ("dassl.data.datasets.base_dataset", "Datum", EVERYONE),  # in their pickled few-shot lists
    ("dassl.data", "DatasetWrapper", "CoOp KgCoOp ProGrad MaPLe PromptSRC"),  # linear probes
    ("dassl.data.transforms", "build_transform", "CoOp KgCoOp ProGrad MaPLe PromptSRC"),
    ("dassl.data", "DataManager", "DePT"),
    ("dassl.data.data_manager", "DataManager DatasetWrapper build_data_loader", "DePT"),
    ("dassl.data.transforms.transforms", "INTERPOLATION_MODES build_transform", "DePT"),
    ("dassl.evaluation", "EVALUATOR_REGISTRY Classification build_evaluator", "DePT"),
    ("dassl.evaluation.evaluator", "Classification EvaluatorBase", "DePT"),
    ("dassl.utils", "AverageMeter MetricMeter", "DePT"),
    ("dassl.engine.trainer", "SimpleTrainer SummaryWriter TrainerBase TrainerX", "DePT"),
    # by its own imports upstream's module has these, too
    ("dassl.engine.trainer", "AverageMeter DataManager MetricMeter build_evaluator", "DePT"),
    ("dassl.engine.trainer", "build_lr_scheduler build_optimizer count_num_param", "DePT"),
    ("dassl.engine.trainer", "load_checkpoint load_pretrained_weights save_checkpoint", "DePT"),
    ("dassl.engine.trainer", "mkdir_if_missing resume_from_checkpoint tolist_if_not", "DePT"),
]
# of a trainer that was built: methods that are called or overridden
METHODS = (
    "after_epoch after_train before_epoch before_train build_data_loader build_model check_cfg "
    "close_writer detect_anomaly forward_backward get_current_lr get_model_names init_writer "
    "load_model model_backward model_backward_and_update model_inference model_update "
    "model_zero_grad parse_batch_test parse_batch_train prograd_backward_and_update "
    "register_model resume_model_if_exist run_epoch save_model set_model_mode test train "
    "update_lr write_scalar"
)
# and what is read from it in a step or after the training
STATE = (
    "_models _optims _scheds _writer batch_idx best_result cfg device dm epoch evaluator "
    "lab2cname max_epoch num_batches num_classes num_source_domains output_dir start_epoch "
    "test_loader time_start train_loader_u train_loader_x val_loader"
)
OF_OTHERS = {
    "dm": "dataset lab2cname num_classes num_source_domains show_dataset_summary test_loader "
    "train_loader_u train_loader_x val_loader",
    "dm.dataset": "_classnames _lab2cname _num_classes _test _train_u _train_x _val "
    "check_input_domains classnames dataset_dir domains download_data generate_fewshot_dataset "
    "get_lab2cname get_num_classes lab2cname num_classes split_dataset_by_domain "
    "split_dataset_by_label test train_u train_x val",
    "evaluator": "_correct _lab2cname _total _y_pred _y_true cfg evaluate process reset",
    "train_loader_x.dataset": "cfg data_source is_train k_tfm return_img0 to_tensor transform",
}
# arguments that are given by name or by place
ARGUMENTS = {
    "dassl.data.DataManager": "cfg custom_tfm_train custom_tfm_test dataset_wrapper",
    "dassl.data.DatasetWrapper": "cfg data_source transform is_train",
    "dassl.data.data_manager.build_data_loader": "cfg sampler_type data_source batch_size "
    "n_domain n_ins tfm is_train dataset_wrapper",
    "dassl.data.datasets.DatasetBase": "train_x train_u val test",
    "dassl.data.datasets.Datum": "impath label domain classname",
    "dassl.engine.TrainerBase.load_model": "self directory epoch",
    "dassl.engine.TrainerBase.model_backward_and_update": "self loss names",
    "dassl.engine.TrainerBase.prograd_backward_and_update": "self loss_a loss_b lambda_ names",
    "dassl.engine.TrainerBase.register_model": "self name model optim sched",
    "dassl.engine.TrainerBase.save_model": "self epoch directory is_best val_result model_name",
    "dassl.engine.TrainerBase.write_scalar": "self tag scalar_value global_step",
    "dassl.engine.TrainerX.test": "self split",
    "dassl.evaluation.Classification": "cfg lab2cname kwargs",
    "dassl.evaluation.build_evaluator": "cfg kwargs",
    "dassl.metrics.compute_accuracy": "output target topk",
    "dassl.optim.build_lr_scheduler": "optimizer optim_cfg",
    "dassl.optim.build_optimizer": "model optim_cfg param_groups",
    "dassl.utils.listdir_nohidden": "path sort",
    "dassl.utils.save_checkpoint": "state save_dir is_best remove_module_from_keys model_name",
    "dassl.utils.setup_logger": "output",
}
# keys that are read, or set from the command line; nodes of the methods are their own
KEYS = (
    "DATALOADER.K_TRANSFORMS DATALOADER.NUM_WORKERS DATALOADER.RETURN_IMG0 "
    "DATALOADER.TEST.BATCH_SIZE DATALOADER.TEST.SAMPLER DATALOADER.TRAIN_U.SAME_AS_X "
    "DATALOADER.TRAIN_X.BATCH_SIZE DATALOADER.TRAIN_X.N_DOMAIN DATALOADER.TRAIN_X.N_INS "
    "DATALOADER.TRAIN_X.SAMPLER DATASET.NAME DATASET.NUM_SHOTS DATASET.ROOT "
    "DATASET.SOURCE_DOMAINS DATASET.TARGET_DOMAINS INPUT.INTERPOLATION INPUT.NO_TRANSFORM "
    "INPUT.PIXEL_MEAN INPUT.PIXEL_STD INPUT.SIZE INPUT.TRANSFORMS MODEL.BACKBONE.NAME "
    "MODEL.HEAD.NAME MODEL.INIT_WEIGHTS OPTIM.GAMMA OPTIM.LR OPTIM.LR_SCHEDULER OPTIM.MAX_EPOCH "
    "OPTIM.NAME OPTIM.STEPSIZE OPTIM.WARMUP_CONS_LR OPTIM.WARMUP_EPOCH OPTIM.WARMUP_RECOUNT "
    "OPTIM.WARMUP_TYPE OPTIM.WEIGHT_DECAY OUTPUT_DIR RESUME SEED TEST.COMPUTE_CMAT "
    "TEST.EVALUATOR TEST.FINAL_MODEL TEST.NO_TEST TEST.PER_CLASS_RESULT TEST.SPLIT "
    "TRAIN.CHECKPOINT_FREQ TRAIN.PRINT_FREQ TRAINER.NAME USE_CUDA VERBOSE VERSION"
)


def reach(thing: object, path: str) -> object:
    """An attribute of an attribute, as in "dm.dataset"."""
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def lacking(thing: object, names: str) -> list[str]:
    return [name for name in names.split() if not hasattr(thing, name)]


@pytest.mark.parametrize(
    ("module", "names", "guests"), IMPORTED, ids=[f"{m}: {n}" for m, n, _ in IMPORTED]
)
def test_what_guests_import_is_there(module, names, guests):
    assert lacking(import_module(module), names) == [], guests


def test_what_guests_inherit_and_read_is_there(make_cfg):
    trainer = build_trainer(make_cfg("OPTIM.MAX_EPOCH", 1))
    trainer.train()
    assert lacking(trainer, f"{METHODS} {STATE}") == []
    assert [name for name in METHODS.split() if not callable(getattr(trainer, name))] == []
    for path, names in OF_OTHERS.items():
        assert lacking(reach(trainer, path), names) == [], path
    assert type(trainer.dm) is DataManager and type(trainer.evaluator) is Classification


@pytest.mark.parametrize("path", ARGUMENTS)
def test_arguments_have_the_names_and_the_order_that_guests_use(path):
    package, _, rest = path.partition(".")
    thing = import_module(package)
    for name in rest.split("."):
        thing = getattr(thing, name, None) or import_module(f"{thing.__name__}.{name}")
    assert list(signature(thing).parameters) == ARGUMENTS[path].split()


def test_keys_that_guests_read_have_a_default():
    cfg = get_cfg_default()
    assert [key for key in KEYS.split() if reach(cfg, key) is None] == []


class OwnBeginning(TRAINER_REGISTRY.get("LinearTrainer")):  # type: ignore[misc]
    """Begins the training by itself, with a writer of its own making."""

    def before_train(self):
        self.start_epoch = self.resume_model_if_exist(self.output_dir)
        folder = f"{self.output_dir}/curves"
        mkdir_if_missing(folder)
        self._writer = SummaryWriter(log_dir=folder)
        self.time_start = time.time()


def test_a_trainer_that_begins_and_writes_by_itself_trains_and_resumes(make_cfg, capsys):
    for epochs in (1, 2):
        trainer = OwnBeginning(make_cfg("OPTIM.MAX_EPOCH", epochs))
        trainer.train()
        assert (trainer.start_epoch, trainer.epoch) == (epochs - 1, epochs - 1)
        assert trainer._writer is None  # closed
    assert capsys.readouterr().out.count("* total: 9") == 2
    events = list(Path(trainer.output_dir, "curves").iterdir())
    assert events and all(path.stat().st_size > 500 for path in events)


def test_another_name_of_the_module_of_trainers_is_refused():
    with pytest.raises(AttributeError, match="'dassl.engine.trainer' has no attribute 'Nothing'"):
        dassl.engine.trainer.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("first", "second", "share", "moved"),
    [
        ((1.0, 2.0), (-1.0, -0.5), 1.0, (-0.6, 1.2)),  # figures of the fork of Dassl
        ((1.0, 2.0), (1.0, 0.5), 1.0, (1.0, 2.0)),
        ((1.0, 2.0), (-1.0, -0.5), 0.5, (0.2, 1.6)),
        ((1.0, 2.0), (0.0, 0.0), 1.0, (1.0, 2.0)),
    ],
)
def test_a_step_of_prograd_leaves_out_what_is_against_the_second_loss(first, second, share, moved):
    trainer, model = TrainerBase(), nn.Linear(2, 1, bias=False)
    nn.init.zeros_(model.weight)
    trainer.register_model("model", model, torch.optim.SGD(model.parameters(), lr=1.0))
    losses = ((model.weight * torch.tensor([gradient])).sum() for gradient in (first, second))
    trainer.prograd_backward_and_update(*losses, share)
    torch.testing.assert_close(-model.weight.detach(), torch.tensor([moved]))
    with pytest.raises(FloatingPointError, match="Loss is infinite or NaN!"):
        trainer.prograd_backward_and_update(model.weight.sum(), model.weight.sum() / 0)
