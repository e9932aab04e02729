"""The table of all settings: what each key of the configuration may be, and what it means.

A key without a row takes any value of the kind of its default: those of upstream Dassl's trainers,
and those that a guest's own code adds.
"""

import argparse
import os
from typing import Any

from dassl.data.transforms import names
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from datasets.common import SUBSETS
from datasets.files import path_problem
from trainers.errors import MethodError, brief
from trainers.settings import UNKNOWN, Setting

MOST_SEED = 2**32 - 1  # numpy takes no larger one
MOST_WORKERS = 1024
PROJECT = "mopd"  # in trackers, where no other name is given
MOST_EPOCHS = 1_000_000  # the time left must fit into a timedelta


def _optimizers() -> list[str]:
    from dassl.optim.optimizer import AVAI_OPTIMS  # needs torch, as those below

    return AVAI_OPTIMS


def _schedules() -> list[str]:
    from dassl.optim.lr_scheduler import AVAI_SCHEDS

    return AVAI_SCHEDS


def _warmups() -> list[str]:
    from dassl.optim.lr_scheduler import WARMUP_TYPES

    return WARMUP_TYPES


def _samplers() -> list[str]:
    from dassl.data.samplers import SAMPLERS

    return list(SAMPLERS)


def _evaluators() -> list[str]:
    from dassl.evaluation import EVALUATOR_REGISTRY

    return EVALUATOR_REGISTRY.registered_names()


_MODEL = "auto: the model's"
_UNUSED = "not used by the methods here"
_TEXT = Setting(kind="text")
_WHOLE = Setting(kind="whole")
_SAMPLER = Setting("how training images are drawn", choices=_samplers)
_BATCH = Setting("images in a batch", least=1)
_DOMAINS = Setting("domains in a batch of a sampler of domains; below 1: all")
_INSTANCES = Setting("images of each class in a batch of RandomClassSampler", least=1)

ROWS: dict[str, Setting] = {
    "VERSION": Setting("version of the configuration's layout"),
    "OUTPUT_DIR": Setting("folder of the run", kind="path"),
    "RESUME": Setting("folder of a run to continue from", kind="path", empty="OUTPUT_DIR"),
    "SEED": Setting(
        "random numbers of shots, order, views and start; negative: one is drawn",
        kind="whole",
        most=MOST_SEED,
    ),
    "USE_CUDA": Setting("use a GPU where there is one"),
    "VERBOSE": Setting("say what is loaded"),
    "PROTOCOL": Setting("stamp of the results: name of the protocol", empty="none"),
    "CONFIG_LABEL": Setting("stamp of the results: name of the configuration", empty="none"),
    "INPUT.SIZE": Setting(
        f"height and width of images, as the backbone needs them; {_MODEL}",
        length=2,
        of=Setting(kind="whole", least=1),
        auto=_MODEL,
    ),
    "INPUT.INTERPOLATION": Setting(
        f"how pixels are computed where images are resized; {_MODEL}",
        choices=names.interpolations,
        auto=_MODEL,
    ),
    "INPUT.RESIZE": Setting(
        "how test images are resized: shortest, the smaller edge, then a centre crop; squash, both "
        f"edges; {_MODEL}",
        choices=names.RESIZES,
        auto=_MODEL,
    ),
    "INPUT.TRANSFORMS": Setting(
        "steps of the training views, in a fixed order",
        of=Setting(kind="text", choices=names.AVAI_CHOICES),
        empty="images are resized",
    ),
    "INPUT.NO_TRANSFORM": Setting("give images as they are, for trainers with their own steps"),
    "INPUT.DEVICE_AUGMENT": Setting("make training views on the device"),
    "INPUT.PIXEL_MEAN": Setting(
        f"mean of red, green, blue for normalize; {_MODEL}",
        length=3,
        of=Setting(kind="number"),
        auto=_MODEL,
    ),
    "INPUT.PIXEL_STD": Setting(
        f"standard deviation of red, green, blue for normalize; {_MODEL}",
        length=3,
        auto=_MODEL,
        of=Setting(kind="number", above=0),
        rule=("none too small for 32 bits", lambda stds: min(stds) >= 1e-30),
    ),
    "INPUT.CROP_PADDING": Setting("pixels around an image for random_crop", least=0, most=1024),
    "INPUT.RRCROP_SCALE": Setting(
        "smallest and largest share of the area for random_resized_crop",
        length=2,
        of=Setting(kind="number", above=0, most=1),
        rule=("the smaller one first", lambda pair: pair[0] <= pair[1]),
    ),
    "INPUT.CUTOUT_N": Setting("holes for cutout", least=0),
    "INPUT.CUTOUT_LEN": Setting("side of a hole for cutout, in pixels", least=0),
    "INPUT.GN_MEAN": Setting("mean for gaussian_noise"),
    "INPUT.GN_STD": Setting("standard deviation for gaussian_noise", least=0),
    "INPUT.RANDAUGMENT_N": Setting("operations for randaugment", least=0),
    "INPUT.RANDAUGMENT_M": Setting("strength for randaugment", least=0, most=30),
    "INPUT.COLORJITTER_B": Setting("brightness for colorjitter", least=0),
    "INPUT.COLORJITTER_C": Setting("contrast for colorjitter", least=0),
    "INPUT.COLORJITTER_S": Setting("saturation for colorjitter", least=0),
    "INPUT.COLORJITTER_H": Setting("hue for colorjitter", least=0, most=0.5),
    "INPUT.RGS_P": Setting("probability for randomgrayscale", least=0, most=1),
    "INPUT.GB_P": Setting("probability for gaussian_blur", least=0, most=1),
    "INPUT.GB_K": Setting(
        "size of the kernel for gaussian_blur", least=1, rule=("odd", lambda size: size % 2 == 1)
    ),
    "DATASET.ROOT": Setting("folder of the datasets", kind="path", empty="data/ of the project"),
    "DATASET.NAME": Setting(
        "a registered name, or folder:PATH or csv:PATH", kind="path", empty="not given"
    ),
    "DATASET.PATH": Setting(
        "your own data, for the readers Folder and Csv", kind="path", empty="none"
    ),
    "DATASET.SOURCE": Setting(
        "what a tested model was trained on", kind="path", empty="the dataset itself"
    ),
    "DATASET.SPLIT_FILE": Setting(
        "training shots of a file; may have {shots}, {seed} and {dataset}",
        kind="path",
        empty="drawn with SEED",
    ),
    "DATASET.SUBSAMPLE_CLASSES": Setting(
        "classes that are used; base is their first half", choices=SUBSETS
    ),
    "DATASET.SOURCE_DOMAINS": Setting("for readers with domains", of=_TEXT, empty="none"),
    "DATASET.TARGET_DOMAINS": Setting("for readers with domains", of=_TEXT, empty="none"),
    "DATASET.NUM_LABELED": Setting(_UNUSED),
    "DATASET.NUM_SHOTS": Setting("training images of each class; below 1: all"),
    "DATASET.VAL_PERCENT": Setting(_UNUSED, least=0, most=1),
    "DATASET.STL10_FOLD": Setting(_UNUSED),
    "DATASET.CIFAR_C_TYPE": Setting(_UNUSED, empty="none"),
    "DATASET.CIFAR_C_LEVEL": Setting(_UNUSED),
    "DATASET.ALL_AS_UNLABELED": Setting(_UNUSED),
    "DATALOADER.NUM_WORKERS": Setting(
        "processes that load images; 0: the run's own", least=0, most=MOST_WORKERS
    ),
    "DATALOADER.MEMORY_MB": Setting("MiB of decoded training images that are kept", least=0),
    "DATALOADER.K_TRANSFORMS": Setting("views of each training image", least=1),
    "DATALOADER.RETURN_IMG0": Setting("give the image without augmentation as well"),
    "DATALOADER.TRAIN_X.SAMPLER": _SAMPLER,
    "DATALOADER.TRAIN_X.BATCH_SIZE": _BATCH,
    "DATALOADER.TRAIN_X.N_DOMAIN": _DOMAINS,
    "DATALOADER.TRAIN_X.N_INS": _INSTANCES,
    "DATALOADER.TRAIN_U.SAME_AS_X": Setting("unlabelled images are loaded as TRAIN_X says"),
    "DATALOADER.TRAIN_U.SAMPLER": _SAMPLER,
    "DATALOADER.TRAIN_U.BATCH_SIZE": _BATCH,
    "DATALOADER.TRAIN_U.N_DOMAIN": _DOMAINS,
    "DATALOADER.TRAIN_U.N_INS": _INSTANCES,
    "DATALOADER.TEST.SAMPLER": Setting("how test images are ordered", choices=_samplers),
    "DATALOADER.TEST.BATCH_SIZE": _BATCH,
    "MODEL.INIT_WEIGHTS": Setting(
        "checkpoint from which what is learned starts", kind="path", empty="none"
    ),
    "MODEL.COMPILE": Setting("compile the image tower by torch.compile"),
    "MODEL.BACKBONE.NAME": Setting(
        "CLIP: a name such as ViT-B/16, a file, open_clip:..., or a name under configs/backbones",
        kind="path",
        empty="not given",
    ),
    "MODEL.BACKBONE.PRETRAINED": Setting(_UNUSED),
    "MODEL.HEAD.NAME": Setting(_UNUSED, empty="none"),
    "MODEL.HEAD.HIDDEN_LAYERS": Setting(_UNUSED, of=Setting(kind="whole", least=1), empty="none"),
    "MODEL.HEAD.ACTIVATION": Setting(_UNUSED),
    "MODEL.HEAD.BN": Setting(_UNUSED),
    "MODEL.HEAD.DROPOUT": Setting(_UNUSED, least=0, most=1),
    "OPTIM.NAME": Setting("optimiser", choices=_optimizers),
    "OPTIM.LR": Setting("learning rate", least=0),
    "OPTIM.WEIGHT_DECAY": Setting("weight decay", least=0),
    "OPTIM.MOMENTUM": Setting("of sgd and rmsprop", least=0),
    "OPTIM.SGD_DAMPNING": Setting("dampening of sgd's momentum"),
    "OPTIM.SGD_NESTEROV": Setting("Nesterov's momentum for sgd"),
    "OPTIM.RMSPROP_ALPHA": Setting("decay of rmsprop", least=0, most=1),
    "OPTIM.ADAM_BETA1": Setting("decay of the mean for adam and its kin", least=0, below=1),
    "OPTIM.ADAM_BETA2": Setting("decay of the square for adam and its kin", least=0, below=1),
    "OPTIM.STAGED_LR": Setting("NEW_LAYERS at LR, others at a fraction of it"),
    "OPTIM.NEW_LAYERS": Setting("first parts of names, for STAGED_LR", of=_TEXT, empty="none"),
    "OPTIM.BASE_LR_MULT": Setting("this fraction", least=0),
    "OPTIM.LR_SCHEDULER": Setting("schedule of the rate", choices=_schedules),
    "OPTIM.STEPSIZE": Setting(
        "epochs between steps (single_step: the last number, below 1: MAX_EPOCH), or the epochs of "
        "the steps (multi_step)",
        of=_WHOLE,
    ),
    "OPTIM.GAMMA": Setting("factor of a step", least=0),
    "OPTIM.MAX_EPOCH": Setting("epochs of the training", least=1, most=MOST_EPOCHS),
    "OPTIM.WARMUP_EPOCH": Setting("epochs of the warm-up; below 1: none"),
    "OPTIM.WARMUP_TYPE": Setting("kind of the warm-up", choices=_warmups),
    "OPTIM.WARMUP_CONS_LR": Setting("rate of a constant warm-up", least=0),
    "OPTIM.WARMUP_MIN_LR": Setting("rate in the first epoch of a linear warm-up", least=0),
    "OPTIM.WARMUP_RECOUNT": Setting("the schedule starts after the warm-up"),
    "TRAIN.CHECKPOINT_FREQ": Setting("epochs between checkpoints; below 1: only the last"),
    "TRAIN.PRINT_FREQ": Setting("batches between two lines", least=1),
    "TRAIN.CUDA_GRAPH": Setting(
        "replay training steps as a CUDA graph; auto: where it gives the same bits",
        choices=("auto", "on", "off"),
    ),
    "TRAIN.COUNT_ITER": Setting(_UNUSED, choices=("train_x", "train_u", "smaller_one")),
    "TEST.EVALUATOR": Setting("what counts right answers", choices=_evaluators),
    "TEST.PER_CLASS_RESULT": Setting("say the accuracy of each class"),
    "TEST.COMPUTE_CMAT": Setting("keep the confusion matrix"),
    "TEST.PREDICTIONS": Setting("keep what the model says of each image: predictions.npz"),
    "TEST.NO_TEST": Setting("train only"),
    "TEST.SPLIT": Setting("images of the test", choices=("val", "test")),
    "TEST.FINAL_MODEL": Setting("epoch that is tested", choices=("last_step", "best_val")),
    "TRAINER.NAME": Setting("name of the method", empty="not given"),
    "CACHE.FEATURES": Setting("keep features of test images and hand-made prompts"),
    "CACHE.VIEWS": Setting("keep features of augmented training images"),
    "CACHE.DIR": Setting(
        "folder of the cache", kind="path", empty="that of MOPD_CACHE, else cache/ of the project"
    ),
    "CACHE.LIMIT_GB": Setting("GiB that it may take", least=0, infinite=True),
    "LOG.WANDB": Setting(
        f"project on Weights & Biases that gets the run; True: {PROJECT}",
        kind="words",
        empty="no tracker",
        true=PROJECT,
    ),
    "LOG.MLFLOW": Setting(
        f"experiment of MLflow that gets the run; True: {PROJECT}",
        kind="words",
        empty="no tracker",
        true=PROJECT,
    ),
}
PER_DATASET = "PER_DATASET"
# what is no key of the configuration: one that names a file of settings, and flags of train.py
OTHERS = {
    PER_DATASET: Setting(
        "table of settings by dataset: in a trainer's file one beside it, as `KEY VALUE` pair any, "
        "which is laid over that one",
        kind="path",
        empty="none",
    ),
    "--config-file": Setting("configuration of the trainer", kind="path", empty="none"),
    "--dataset-config-file": Setting("configuration of the dataset", kind="path", empty="none"),
    "--model-dir": Setting("folder of the trained run to test", kind="path", empty="none"),
    "--load-epoch": Setting("epoch to test", kind="whole", least=1, empty="the best one"),
}


def method_rows() -> dict[str, Setting]:
    """The rows of the knobs of all registered methods that tell them."""
    found: dict[str, Setting] = {}
    for name in TRAINER_REGISTRY.registered_names():
        method = TRAINER_REGISTRY.get(name)
        if hasattr(method, "knob_rows"):
            prefix = f"TRAINER.{method.node()}."
            found |= {f"{prefix}{key}": row for key, row in method.knob_rows().items()}
    return found


def row_of(key: str) -> Setting:
    """The row of a key, or of what is none; `UNKNOWN` where only the default is known."""
    found = ROWS.get(key) or OTHERS.get(key) or method_rows().get(key, UNKNOWN)
    if found is not UNKNOWN or not key.endswith(".CTX_INIT"):
        return found
    from trainers.prompts.learner import DEFAULT_WORDS  # needs torch

    return Setting(kind="words", true=DEFAULT_WORDS)


def read(key: str, value: Any, default: Any, source: str = "") -> Any:
    """A value of a key, as the configuration holds it.

    Raises:
        UserError: naming the source, the key, the value and what was expected.
    """
    row = row_of(key)
    try:
        found = row.read(key, value, default)
        if row.kind == "path" and (problem := path_problem(found)):
            raise MethodError(f"{key} is {brief(found)}: {problem}")
    except MethodError as error:
        raise UserError(f"{source}: {error}" if source else str(error)) from None
    return found


class ReadFlag(argparse.Action):
    """A flag whose value is read by a row: that of the setting `const`, else the flag's own.

    A mistake is told as that of any setting, without the usage.
    """

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, flag: str | None = None
    ) -> None:
        """Keep the value that was read, or raise a UserError."""
        flag = self.option_strings[0]
        value = read(self.const or flag, values, self.default, flag if self.const else "")
        if row_of(self.const or flag).kind == "path":
            value = os.path.expanduser(value)
        setattr(namespace, self.dest, value)
