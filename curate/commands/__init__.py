"""One function a command: load, transform, commit, check. Command line, pipelines and notebooks all call these."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

# command → where its function lives; the names that pipelines use
STEPS = {
    "fetch-youtube": "fetch_youtube",
    "sample-frames": "sample_frames",
    "label": "label",
    "import-voc": "imports",
    "import-widerface": "imports",
    "stats": "stats",
    "merge-classes": "classes",
    "rename-class": "classes",
    "drop-class": "classes",
    "split": "split",
    "log": "history",
    "diff": "history",
    "undo": "history",
    "export-coco": "export_coco",
    "train": "train",
    "train-classifier": "train_classifier",
    "loop": "loop",
    "runs": "runs",
    "evaluate": "evaluate",
    "report": "report",
    "view": "view",
    "pull-tags": "pull_tags",
    "predict": "predict",
    "watch": "watch",
}


def step_function(command: str) -> Callable[..., Any]:
    """The function behind a command, such as `import_voc` behind `import-voc`."""
    return getattr(import_module(f"curate.commands.{STEPS[command]}"), command.replace("-", "_"))
