"""Every key has upstream's default; merging is as strict as yacs is."""

import pytest
from yacs.config import CfgNode

from dassl.config import clean_cfg, get_cfg_default

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
EXPECTED = {
    "VERSION": 1,
    "OUTPUT_DIR": "./output",
    "RESUME": "",
    "SEED": -1,
    "USE_CUDA": True,
    "VERBOSE": True,
    "INPUT.SIZE": (224, 224),
    "INPUT.INTERPOLATION": "bilinear",
    "INPUT.RESIZE": "shortest",
    "INPUT.TRANSFORMS": (),
    "INPUT.NO_TRANSFORM": False,
    "INPUT.DEVICE_AUGMENT": False,
    "INPUT.PIXEL_MEAN": MEAN,
    "INPUT.PIXEL_STD": STD,
    "INPUT.CROP_PADDING": 4,
    "INPUT.RRCROP_SCALE": (0.08, 1.0),
    "INPUT.CUTOUT_N": 1,
    "INPUT.CUTOUT_LEN": 16,
    "INPUT.GN_MEAN": 0.0,
    "INPUT.GN_STD": 0.15,
    "INPUT.RANDAUGMENT_N": 2,
    "INPUT.RANDAUGMENT_M": 10,
    "INPUT.COLORJITTER_B": 0.4,
    "INPUT.COLORJITTER_C": 0.4,
    "INPUT.COLORJITTER_S": 0.4,
    "INPUT.COLORJITTER_H": 0.1,
    "INPUT.RGS_P": 0.2,
    "INPUT.GB_P": 0.5,
    "INPUT.GB_K": 21,
    "DATASET.ROOT": "",
    "DATASET.NAME": "",
    "DATASET.SOURCE_DOMAINS": (),
    "DATASET.TARGET_DOMAINS": (),
    "DATASET.NUM_LABELED": -1,
    "DATASET.NUM_SHOTS": -1,
    "DATASET.VAL_PERCENT": 0.1,
    "DATASET.STL10_FOLD": -1,
    "DATASET.CIFAR_C_TYPE": "",
    "DATASET.CIFAR_C_LEVEL": 1,
    "DATASET.ALL_AS_UNLABELED": False,
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.MEMORY_MB": 2048,
    "DATALOADER.K_TRANSFORMS": 1,
    "DATALOADER.RETURN_IMG0": False,
    "DATALOADER.TRAIN_X.SAMPLER": "RandomSampler",
    "DATALOADER.TRAIN_X.BATCH_SIZE": 32,
    "DATALOADER.TRAIN_X.N_DOMAIN": 0,
    "DATALOADER.TRAIN_X.N_INS": 16,
    "DATALOADER.TRAIN_U.SAME_AS_X": True,
    "DATALOADER.TRAIN_U.SAMPLER": "RandomSampler",
    "DATALOADER.TRAIN_U.BATCH_SIZE": 32,
    "DATALOADER.TRAIN_U.N_DOMAIN": 0,
    "DATALOADER.TRAIN_U.N_INS": 16,
    "DATALOADER.TEST.SAMPLER": "SequentialSampler",
    "DATALOADER.TEST.BATCH_SIZE": 32,
    "MODEL.INIT_WEIGHTS": "",
    "MODEL.BACKBONE.NAME": "",
    "MODEL.BACKBONE.PRETRAINED": True,
    "MODEL.HEAD.NAME": "",
    "MODEL.HEAD.HIDDEN_LAYERS": (),
    "MODEL.HEAD.ACTIVATION": "relu",
    "MODEL.HEAD.BN": True,
    "MODEL.HEAD.DROPOUT": 0.0,
    "OPTIM.NAME": "adam",
    "OPTIM.LR": 0.0003,
    "OPTIM.WEIGHT_DECAY": 5e-4,
    "OPTIM.MOMENTUM": 0.9,
    "OPTIM.SGD_DAMPNING": 0,
    "OPTIM.SGD_NESTEROV": False,
    "OPTIM.RMSPROP_ALPHA": 0.99,
    "OPTIM.ADAM_BETA1": 0.9,
    "OPTIM.ADAM_BETA2": 0.999,
    "OPTIM.STAGED_LR": False,
    "OPTIM.NEW_LAYERS": (),
    "OPTIM.BASE_LR_MULT": 0.1,
    "OPTIM.LR_SCHEDULER": "single_step",
    "OPTIM.STEPSIZE": (-1,),
    "OPTIM.GAMMA": 0.1,
    "OPTIM.MAX_EPOCH": 10,
    "OPTIM.WARMUP_EPOCH": -1,
    "OPTIM.WARMUP_TYPE": "linear",
    "OPTIM.WARMUP_CONS_LR": 1e-5,
    "OPTIM.WARMUP_MIN_LR": 1e-5,
    "OPTIM.WARMUP_RECOUNT": True,
    "TRAIN.CHECKPOINT_FREQ": 0,
    "TRAIN.PRINT_FREQ": 10,
    "TRAIN.COUNT_ITER": "train_x",
    "TEST.EVALUATOR": "Classification",
    "TEST.PER_CLASS_RESULT": False,
    "TEST.COMPUTE_CMAT": False,
    "TEST.NO_TEST": False,
    "TEST.SPLIT": "test",
    "TEST.FINAL_MODEL": "last_step",
    "TRAINER.NAME": "",
    "TRAINER.MCD.N_STEP_F": 4,
    "TRAINER.MME.LMDA": 0.1,
    "TRAINER.CDAC.CLASS_LR_MULTI": 10,
    "TRAINER.CDAC.RAMPUP_COEF": 30,
    "TRAINER.CDAC.RAMPUP_ITRS": 1000,
    "TRAINER.CDAC.TOPK_MATCH": 5,
    "TRAINER.CDAC.P_THRESH": 0.95,
    "TRAINER.CDAC.STRONG_TRANSFORMS": (),
    "TRAINER.SE.EMA_ALPHA": 0.999,
    "TRAINER.SE.CONF_THRE": 0.95,
    "TRAINER.SE.RAMPUP": 300,
    "TRAINER.M3SDA.LMDA": 0.5,
    "TRAINER.M3SDA.N_STEP_F": 4,
    "TRAINER.DAEL.WEIGHT_U": 0.5,
    "TRAINER.DAEL.CONF_THRE": 0.95,
    "TRAINER.DAEL.STRONG_TRANSFORMS": (),
    "TRAINER.DAELDG.WEIGHT_U": 0.5,
    "TRAINER.DAELDG.CONF_THRE": 0.95,
    "TRAINER.DAELDG.STRONG_TRANSFORMS": (),
    "TRAINER.CROSSGRAD.EPS_F": 1.0,
    "TRAINER.CROSSGRAD.EPS_D": 1.0,
    "TRAINER.CROSSGRAD.ALPHA_F": 0.5,
    "TRAINER.CROSSGRAD.ALPHA_D": 0.5,
    "TRAINER.DDAIG.G_ARCH": "",
    "TRAINER.DDAIG.LMDA": 0.3,
    "TRAINER.DDAIG.CLAMP": False,
    "TRAINER.DDAIG.CLAMP_MIN": -1.0,
    "TRAINER.DDAIG.CLAMP_MAX": 1.0,
    "TRAINER.DDAIG.WARMUP": 0,
    "TRAINER.DDAIG.ALPHA": 0.5,
    "TRAINER.DOMAINMIX.TYPE": "crossdomain",
    "TRAINER.DOMAINMIX.ALPHA": 1.0,
    "TRAINER.DOMAINMIX.BETA": 1.0,
    "TRAINER.ENTMIN.LMDA": 1e-3,
    "TRAINER.MEANTEACHER.WEIGHT_U": 1.0,
    "TRAINER.MEANTEACHER.EMA_ALPHA": 0.999,
    "TRAINER.MEANTEACHER.RAMPUP": 5,
    "TRAINER.MIXMATCH.WEIGHT_U": 100.0,
    "TRAINER.MIXMATCH.TEMP": 2.0,
    "TRAINER.MIXMATCH.MIXUP_BETA": 0.75,
    "TRAINER.MIXMATCH.RAMPUP": 20000,
    "TRAINER.FIXMATCH.WEIGHT_U": 1.0,
    "TRAINER.FIXMATCH.CONF_THRE": 0.95,
    "TRAINER.FIXMATCH.STRONG_TRANSFORMS": (),
}


def leaves(node: CfgNode, prefix: str = "") -> dict[str, object]:
    """Return all values by dotted key."""
    found: dict[str, object] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def test_keys_values_and_types_are_exactly_those_listed():
    found = leaves(get_cfg_default())
    assert found == EXPECTED
    assert {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in EXPECTED.items()}


def test_changing_one_configuration_does_not_change_the_next():
    cfg = get_cfg_default()
    cfg.INPUT.PIXEL_MEAN.append(1.0)
    cfg.TRAINER.DAEL.WEIGHT_U = 9.0
    fresh = get_cfg_default()
    assert fresh.INPUT.PIXEL_MEAN == MEAN
    assert fresh.TRAINER.DAEL.WEIGHT_U == fresh.TRAINER.DAELDG.WEIGHT_U == 0.5


def test_clean_cfg_keeps_the_name_and_one_trainer_even_if_frozen():
    cfg = get_cfg_default()
    cfg.freeze()
    clean_cfg(cfg, "FixMatch")
    assert set(cfg.TRAINER) == {"NAME", "FIXMATCH"}


def test_strings_from_the_command_line_become_tuples_and_floats():
    cfg = get_cfg_default()
    cfg.merge_from_list(["INPUT.SIZE", "(32, 48)", "OPTIM.LR", "1e-5", "OPTIM.STEPSIZE", [3]])
    assert cfg.INPUT.SIZE == (32, 48)
    assert cfg.OPTIM.LR == 1e-5
    assert cfg.OPTIM.STEPSIZE == (3,)


@pytest.mark.parametrize(
    ("pair", "kind", "text"),
    [
        (["OPTIM.LR", 1], ValueError, "Type mismatch"),
        (["OPTIM.MOMENTUN", 0.9], AssertionError, "Non-existent key: OPTIM.MOMENTUN"),
    ],
)
def test_wrong_types_and_typos_are_refused(pair, kind, text):
    with pytest.raises(kind, match=text):
        get_cfg_default().merge_from_list(pair)
