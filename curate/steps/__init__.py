"""One function a command: load, transform, commit, check. Command line, pipelines and notebooks all call these."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

# command → where its function lives; the names that pipelines use
STEPS = {
    "fetch-youtube": "fetching",
    "sample-frames": "sampling",
    "label": "labelling",
    "import-voc": "importing",
    "import-widerface": "importing",
    "stats": "stats",
    "merge-classes": "classes",
    "rename-class": "classes",
    "drop-class": "classes",
    "split": "splitting",
    "log": "history",
    "diff": "history",
    "undo": "history",
    "export-coco": "exporting",
    "train": "training",
    "train-classifier": "training_classifier",
    "loop": "looping",
    "runs": "comparing",
    "evaluate": "evaluating",
    "report": "reporting",
    "view": "viewing",
    "pull-tags": "pulling",
    "predict": "predicting",
    "watch": "watching",
}


def step_function(command: str) -> Callable[..., Any]:
    """The function behind a command, such as `import_voc` behind `import-voc`."""
    return getattr(import_module(f"curate.steps.{STEPS[command]}"), command.replace("-", "_"))
