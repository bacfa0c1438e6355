"""curate: from videos and hand-drawn boxes to a detector that someone can trust.

Every command of the command line is a function here, with the same name and arguments::

    import curate

    curate.import_voc("masks", "downloads/face-mask")
    curate.stats("masks").classes

Attributes load on first use, so that ``import curate`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME_OF = {
    "CurateError": "curate.errors",
    "Dataset": "curate.dataset",
    "Predictions": "curate.dataset",
    "Store": "curate.store",
    "fetch_youtube": "curate.steps.fetching",
    "sample_frames": "curate.steps.sampling",
    "label": "curate.steps.labelling",
    "import_voc": "curate.steps.importing",
    "import_widerface": "curate.steps.importing",
    "stats": "curate.steps.stats",
    "merge_classes": "curate.steps.classes",
    "rename_class": "curate.steps.classes",
    "drop_class": "curate.steps.classes",
    "split": "curate.steps.splitting",
    "log": "curate.steps.history",
    "diff": "curate.steps.history",
    "undo": "curate.steps.history",
    "export_coco": "curate.steps.exporting",
    "train": "curate.steps.training",
    "train_classifier": "curate.steps.training_classifier",
    "loop": "curate.steps.looping",
    "runs": "curate.steps.comparing",
    "evaluate": "curate.steps.evaluating",
    "report": "curate.steps.reporting",
    "view": "curate.steps.viewing",
    "pull_tags": "curate.steps.pulling",
    "predict": "curate.steps.predicting",
    "run": "curate.pipeline",
    "doctor": "curate.steps.doctor",
}

_PACKAGES = ("watch",)  # that are called like a function

__all__ = ["__version__", *_HOME_OF, *_PACKAGES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"curate.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
