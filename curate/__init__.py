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
    "fetch_youtube": "curate.commands.fetch_youtube",
    "sample_frames": "curate.commands.sample_frames",
    "label": "curate.commands.label",
    "import_voc": "curate.commands.imports",
    "import_widerface": "curate.commands.imports",
    "stats": "curate.commands.stats",
    "merge_classes": "curate.commands.classes",
    "rename_class": "curate.commands.classes",
    "drop_class": "curate.commands.classes",
    "split": "curate.commands.split",
    "log": "curate.commands.history",
    "diff": "curate.commands.history",
    "undo": "curate.commands.history",
    "export_coco": "curate.commands.export_coco",
    "train": "curate.commands.train",
    "train_classifier": "curate.commands.train_classifier",
    "loop": "curate.commands.loop",
    "runs": "curate.commands.runs",
    "evaluate": "curate.commands.evaluate",
    "report": "curate.commands.report",
    "view": "curate.commands.view",
    "pull_tags": "curate.commands.pull_tags",
    "predict": "curate.commands.predict",
    "watch": "curate.commands.watch",
    "run": "curate.commands.run",
    "doctor": "curate.commands.doctor",
}

__all__ = ["__version__", *_HOME_OF]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
