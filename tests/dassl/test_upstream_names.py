"""Methods and readers import from `dassl` only what upstream Dassl has: they run there as well.

Only imports are read; what is reached through base classes and configurations is not seen here.
"""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PLUGINS = [*REPOSITORY.glob("trainers/**/*.py"), *REPOSITORY.glob("datasets/**/*.py")]
# public names of Dassl 0.6.3, by the module that plugins import them from
UPSTREAM = {
    "dassl": "",
    "dassl.config": "clean_cfg get_cfg_default",
    "dassl.data": "DataManager DatasetWrapper",
    "dassl.data.data_manager": "DataManager DatasetWrapper build_data_loader",
    "dassl.data.datasets": "DATASET_REGISTRY DatasetBase Datum build_dataset",
    "dassl.data.transforms": "INTERPOLATION_MODES build_transform",
    "dassl.engine": "SimpleNet SimpleTrainer TRAINER_REGISTRY TrainerBase TrainerX TrainerXU "
    "build_trainer",
    "dassl.evaluation": "Classification EVALUATOR_REGISTRY build_evaluator",
    "dassl.metrics": "compute_accuracy",
    "dassl.optim": "build_lr_scheduler build_optimizer",
    "dassl.utils": "AverageMeter MetricMeter Registry check_availability check_isfile "
    "collect_env_info count_num_param download_url get_most_similar_str_to_a_from_b "
    "init_network_weights listdir_nohidden load_checkpoint load_pretrained_weights "
    "mkdir_if_missing open_all_layers open_specified_layers read_image read_json "
    "resume_from_checkpoint save_checkpoint set_random_seed setup_logger tolist_if_not write_json",
}


def names_upstream_lacks(source: str) -> list[str]:
    """What a module imports from `dassl`, at the top or in functions, and upstream has not."""
    modules, names = [], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [(node.module, alias.name) for alias in node.names]
    lacking = [module for module in modules if module not in UPSTREAM]
    for module, name in names:
        known = UPSTREAM.get(module, "").split()
        if name not in known and f"{module}.{name}" not in UPSTREAM:
            lacking.append(f"{module}.{name}")
    return [name for name in lacking if name.partition(".")[0] == "dassl"]


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_plugins_import_only_what_upstream_has(path):
    assert names_upstream_lacks(path.read_text(encoding="utf-8")) == []


def test_plugins_were_found():
    imports = [path for path in PLUGINS if "from dassl." in path.read_text(encoding="utf-8")]
    assert {path.relative_to(REPOSITORY).parts[0] for path in imports} == {"trainers", "datasets"}


@pytest.mark.parametrize(
    ("source", "lacking"),
    [
        ("from dassl.engine import TRAINER_REGISTRY, TrainerX", []),
        ("from dassl.data import datasets", []),
        ("import dassl.data.datasets as readers, torch", []),
        ("from dasslx.engine import Step", []),
        ("from .dassl import Step", []),
        ("from dassl.engine import TrainerX, Step", ["dassl.engine.Step"]),
        ("from dassl.data.image_memory import keep", ["dassl.data.image_memory.keep"]),
        ("from dassl.data import image_memory", ["dassl.data.image_memory"]),
        ("import dassl.data.image_memory", ["dassl.data.image_memory"]),
        ("from dassl.utils import *", ["dassl.utils.*"]),
        (
            "def f():\n    from dassl.utils import write_atomically",
            ["dassl.utils.write_atomically"],
        ),
        ("try:\n    import dassl.world\nexcept ImportError:\n    pass", ["dassl.world"]),
    ],
)
def test_what_upstream_lacks_is_found(source, lacking):
    assert names_upstream_lacks(source) == lacking
