"""Where a trained prompt is: the folder of a run, one of its tests, or an exported prompt."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dassl.data.datasets import build_dataset
from dassl.utils import UserError
from datasets.common import SUBSETS
from datasets.files import some
from runs.folder import checkpoint_digest
from runs.trained import TrainedRun
from trainers.exported import is_export, read_prompt

# what of results.json goes along with a prompt
BRIEF = (
    *("protocol", "dataset", "classes", "accuracy", "macro_f1", "correct", "total", "num_classes"),
    *("epoch", "config", "device", "precision", "data"),
)


@dataclass(frozen=True)
class Source:
    """A trained prompt on disk.

    Attributes:
        path: the folder that was asked for, or the run in it.
        model: the folder of the checkpoint; another one for a test on another dataset.
        settings: of the run, flat, with its digests.
        subset: whose classes are the usual ones, "base", "new" or "all".
        classes: their names; None where no file tells them.
        epoch: to load; None takes the best one.
        results: what of results.json goes along, by subset.
        export: content of prompt.json; None for a run.
    """

    path: Path
    model: Path
    settings: dict[str, Any]
    subset: str
    classes: list[str] | None
    epoch: int | None
    results: dict[str, dict[str, Any]]
    export: dict[str, Any] | None = None

    @property
    def method(self) -> str:
        """The trainer's name."""
        return str(self.settings["TRAINER.NAME"])

    @property
    def checkpoint(self) -> str | None:
        """Digest of the checkpoint that is read; None where nothing is learned."""
        return checkpoint_digest(str(self.model), self.epoch)

    def class_names(self, data: Path | None = None) -> list[str]:
        """The usual classes: those of the files, else those of the dataset, which is read.

        Args:
            data: folder of the datasets; None takes the usual one.

        Raises:
            UserError: neither tells them.
        """
        if self.classes is not None:
            return list(self.classes)
        try:
            with redirect_stdout(io.StringIO()):
                cfg = TrainedRun(self.path, self.settings).cfg({"classes": self.subset}, data)
                return list(build_dataset(cfg).classnames)
        except (ValueError, OSError) as error:
            why = str(error).partition("\n")[0]
            raise UserError(
                f"{self.path} does not tell the names of its {self.subset} classes, and the "
                f"dataset cannot be read ({why}): name the folder of the datasets (--data), or the "
                "classes (--classes, --classes-file)"
            ) from error


def find_source(folder: Path | str, epoch: int | None = None) -> Source:
    """The trained prompt that a folder means.

    Args:
        folder: of an exported prompt; of a run; of one of a run's tests, whose classes are meant;
            or any folder with one of these in it.
        epoch: of a run, instead of the one that was tested.

    Raises:
        UserError: nothing is there, or several are, or what is there is not complete.
        MethodError: an exported prompt is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: expected one of a run or exported prompt")
    if is_export(folder):
        return _exported(folder, epoch)
    if (folder / "config.yaml").is_file():
        return _run(folder, "", epoch)
    if folder.name in SUBSETS and (folder.parent / "config.yaml").is_file():
        return _run(folder.parent, folder.name, epoch)
    return find_source(_only_one(folder), epoch)


def _only_one(folder: Path) -> Path:
    """The one run or exported prompt in a folder; what lies inside of a run is part of it."""
    marks = [*folder.rglob("config.yaml"), *folder.rglob("prompt.json")]
    places = {mark.parent for mark in marks if mark.is_file()}
    found = sorted(place for place in places if not places & set(place.parents))
    if len(found) == 1:
        return found[0]
    if found:
        names = [str(place) for place in found]
        raise UserError(f"{folder} has {len(found)} runs, name one of them: {some(names)}")
    raise UserError(
        f"{folder} is no folder of a run, nor of an exported prompt: neither config.yaml nor "
        "prompt.json is in it or below"
    )


def _exported(folder: Path, epoch: int | None) -> Source:
    prompt = read_prompt(folder)
    if epoch not in (None, prompt["epoch"]):
        raise UserError(
            f"{folder} holds the prompt of epoch {prompt['epoch']}, not of epoch {epoch}"
        )
    return Source(
        path=folder,
        model=folder,
        settings=prompt["settings"],
        subset=prompt["class_subset"],
        classes=prompt["classes"],
        epoch=prompt["epoch"],
        results=prompt["results"],
        export=prompt,
    )


def _run(folder: Path, subset: str, epoch: int | None) -> Source:
    """A run; without a subset the classes of its training are meant."""
    run = TrainedRun.of(folder)
    subset = subset or run.settings.get("DATASET.SUBSAMPLE_CLASSES", "all")
    source = Source(
        path=folder,
        model=_model_folder(run) if run.learns else folder,
        settings=run.settings,
        subset=subset,
        classes=run.results.get(subset, {}).get("classnames"),
        epoch=run.wanted(epoch) if run.learns else 0,
        results={},
    )
    kept = _of_this_checkpoint(source, run.results, asked=epoch is not None)
    return replace(source, results=kept)


def _model_folder(run: TrainedRun) -> Path:
    """Where the checkpoints are: a test on another dataset lies in the folder of its training."""
    if run.model:
        return run.model
    tested = next(iter(run.results.values()), None)
    if tested and tested.get("source"):
        raise UserError(
            f"{run.folder} is a test of a model that was trained on {tested['source']}, and has no "
            "checkpoint: name the folder of the training, and the classes (--classes)"
        )
    raise UserError(
        f"{run.folder} has no checkpoint (prompt_learner/model.pth.tar-N): the training has not "
        "come that far, or its files were moved; the same command that began it goes on"
    )


def _of_this_checkpoint(
    source: Source, results: dict[str, dict[str, Any]], asked: bool
) -> dict[str, dict[str, Any]]:
    """What of the results of the checkpoint goes along; those of another epoch do not.

    Args:
        source: the run.
        results: of its tests, by subset.
        asked: the user has named the epoch.

    Raises:
        UserError: the checkpoint is not the one that was tested.
    """
    digest, kept = source.checkpoint, {}
    tested = next((one["epoch"] for one in results.values()), None)
    for subset, one in results.items():
        if one["checkpoint"] in (digest, None):
            kept[subset] = {key: one[key] for key in BRIEF if key in one}
        elif digest and not asked and one["epoch"] == tested:
            raise UserError(
                f"the checkpoint of epoch {tested} in {source.model}/prompt_learner is not the one "
                f"that {source.path / subset / 'results.json'} was measured with: test it again "
                "(--eval-only --model-dir and another --output-dir), or name an epoch "
                "(--load-epoch)"
            )
    return kept
