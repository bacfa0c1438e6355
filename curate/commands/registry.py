"""The commands: one row each. The command line, `import curate` and pipelines read what they need from here.

Importing this module loads nothing else, so that `curate --help` and `import curate` stay quick.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from importlib import import_module
from typing import Any


class Role(Enum):
    """What an argument of a command names. Every argument that may hold a path or text has a role."""

    DATASET = "the dataset folder"
    DATASET_AND_CARD = "the dataset folder, whose card is read too"
    DATASET_AND_RUNS = "the dataset folder, whose runs are read too"
    INPUT = "files or folders that the command reads"
    IMAGES = "images or a dataset; proposals may be written beside the images"
    OUTPUT = "a file or folder that the command writes"
    NEW_RUN = "the run that is trained"
    RUN = "a run whose checkpoint is read; results are written into its folder"
    EVALUATED_RUN = "a run whose checkpoint and evaluations are read"
    DETECTOR = "a run, or ENGINE:NAME"
    MODEL = "ENGINE:NAME, where NAME may be a configuration file"
    SETTINGS = "a mapping whose values may name files and runs that are read"
    TEXT = "text that names neither a file nor a run"


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: As typed on the command line; with underscores, its function in `curate.commands` and in `curate.cli`.
        panel: Its section in `curate --help`.
        about: One sentence for `curate --help`.
        module: The module in `curate.commands`, and of the same name in `curate.cli`, that holds the functions.
        brief: Name of the function in the cli module that sums up a result document in one line of `curate run`.
            None: pipelines cannot run the command.
        written: Keys of the result document that hold paths of written files, separated by spaces. A pipeline runs the
            command again if such a file is missing.
        arguments: Role → argument names, separated by spaces.
    """

    name: str
    _: KW_ONLY
    panel: str
    about: str
    module: str
    brief: str | None
    written: str
    arguments: Mapping[Role, str]

    @property
    def function_name(self) -> str:
        return self.name.replace("-", "_")

    @property
    def home(self) -> str:
        """The module of the command's function."""
        return f"curate.commands.{self.module}"

    def function(self) -> Callable[..., Any]:
        """The function that does the work, such as `import_voc`."""
        return getattr(import_module(self.home), self.function_name)

    def cli_function(self) -> Callable[..., None]:
        """The function that Typer turns into the command."""
        return getattr(import_module(f"curate.cli.{self.module}"), self.function_name)

    def brief_function(self) -> Callable[[Any], str]:
        """The function that sums up a result document in one line.

        Raises:
            LookupError: Pipelines cannot run the command.
        """
        if self.brief is None:
            raise LookupError(f"{self.name} cannot be part of a pipeline")
        return getattr(import_module(f"curate.cli.{self.module}"), self.brief)

    def names(self, *roles: Role) -> tuple[str, ...]:
        """The arguments that have one of these roles, in the order of the roles."""
        return tuple(name for role in roles for name in self.arguments.get(role, "").split())


_IMPORT, _EDIT, _HISTORY, _EXPORT = "Import", "Inspect and edit", "History", "Export"
_TRAIN, _VIDEO, _WHOLE = "Train and evaluate", "Run on video", "Pipelines and setup"
_ROWS = (
    Command(
        "fetch-youtube",
        panel=_IMPORT,
        about="Download videos or clips and record where they come from; running it again resumes.",
        module="fetch_youtube",
        brief="fetch_brief",
        written="",
        arguments={
            Role.DATASET: "dataset",
            Role.INPUT: "from_file cookies",
            Role.TEXT: "urls clip max_duration rate_limit sleep",
        },
    ),
    Command(
        "sample-frames",
        panel=_IMPORT,
        about="Extract frames from videos, each with its source and exact time; no frame is extracted twice.",
        module="sample_frames",
        brief="sample_brief",
        written="",
        arguments={Role.DATASET: "dataset", Role.INPUT: "videos at", Role.TEXT: "every fps start end"},
    ),
    Command(
        "label",
        panel=_IMPORT,
        about="Put the next unlabelled images into DATASET/label and open LabelImg on them.",
        module="label",
        brief="label_brief",
        written="",
        arguments={Role.DATASET: "dataset", Role.TEXT: "source classes"},
    ),
    Command(
        "import-voc",
        panel=_IMPORT,
        about="Import LabelImg or Pascal VOC XML; importing corrected files again updates their images.",
        module="imports",
        brief="import_brief",
        written="",
        arguments={
            Role.DATASET_AND_CARD: "dataset",
            Role.INPUT: "source images card",
            Role.TEXT: "classes video_from",
        },
    ),
    Command(
        "import-widerface",
        panel=_IMPORT,
        about="Import faces with landmarks: WIDER FACE in RetinaFace's format.",
        module="imports",
        brief="import_brief",
        written="",
        arguments={
            Role.DATASET_AND_CARD: "dataset",
            Role.INPUT: "source images",
            Role.TEXT: "class_name split",
        },
    ),
    Command(
        "stats",
        panel=_EDIT,
        about="Show the class balance and box sizes.",
        module="stats",
        brief="stats_brief",
        written="",
        arguments={Role.DATASET: "dataset", Role.OUTPUT: "plot csv"},
    ),
    Command(
        "merge-classes",
        panel=_EDIT,
        about="Merge classes into one; `undo` reverts it.",
        module="classes",
        brief="classes_brief",
        written="",
        arguments={Role.DATASET: "dataset", Role.INPUT: "map", Role.TEXT: "sources into"},
    ),
    Command(
        "rename-class",
        panel=_EDIT,
        about="Rename a class; its id stays the same.",
        module="classes",
        brief="classes_brief",
        written="",
        arguments={Role.DATASET: "dataset", Role.INPUT: "map", Role.TEXT: "old new"},
    ),
    Command(
        "drop-class",
        panel=_EDIT,
        about="Remove classes and their boxes; the images stay.",
        module="classes",
        brief="classes_brief",
        written="",
        arguments={Role.DATASET: "dataset", Role.INPUT: "map", Role.TEXT: "names"},
    ),
    Command(
        "split",
        panel=_EDIT,
        about="Split into train, val and test, stratified by class; a video is never in two splits.",
        module="split",
        brief="split_brief",
        written="",
        arguments={Role.DATASET: "dataset"},
    ),
    Command(
        "log",
        panel=_HISTORY,
        about="List the versions of a dataset, newest first.",
        module="history",
        brief="log_brief",
        written="",
        arguments={Role.DATASET: "dataset"},
    ),
    Command(
        "diff",
        panel=_HISTORY,
        about="Compare two versions.",
        module="history",
        brief="diff_brief",
        written="",
        arguments={Role.DATASET: "dataset"},
    ),
    Command(
        "undo",
        panel=_HISTORY,
        about="Return to the previous version; nothing is deleted.",
        module="history",
        brief="undo_brief",
        written="",
        arguments={Role.DATASET: "dataset"},
    ),
    Command(
        "redo",
        panel=_HISTORY,
        about="Bring back what `undo` undid.",
        module="history",
        brief="current_brief",
        written="",
        arguments={Role.DATASET: "dataset"},
    ),
    Command(
        "checkout",
        panel=_HISTORY,
        about="Make any version of `log --all` current; nothing is deleted.",
        module="history",
        brief="current_brief",
        written="",
        arguments={Role.DATASET: "dataset"},
    ),
    Command(
        "export-coco",
        panel=_EXPORT,
        about="Export as COCO, one file per split, checked by evaluating it against itself.",
        module="export_coco",
        brief="export_brief",
        written="files",
        arguments={Role.DATASET: "dataset", Role.OUTPUT: "out"},
    ),
    Command(
        "train",
        panel=_TRAIN,
        about="Fine-tune a detector on the train split and evaluate it on the val split.",
        module="train",
        brief="train_brief",
        written="",
        arguments={
            Role.DATASET: "dataset",
            Role.NEW_RUN: "run",
            Role.MODEL: "model",
            Role.INPUT: "weights",
            Role.SETTINGS: "settings",
            Role.TEXT: "balance loss device",
        },
    ),
    Command(
        "train-classifier",
        panel=_TRAIN,
        about="Train a classifier for the boxes that a detector finds; the run holds both as one detector.",
        module="train_classifier",
        brief="train_brief",
        written="",
        arguments={
            Role.DATASET: "dataset",
            Role.NEW_RUN: "run",
            Role.DETECTOR: "detector",
            Role.INPUT: "weights detector_weights",
            Role.SETTINGS: "settings",
            Role.TEXT: "model device",
        },
    ),
    Command(
        "loop",
        panel=_TRAIN,
        about="Fine-tune and evaluate in rounds, each on the newest labels, and report what changed.",
        module="loop",
        brief="loop_brief",
        written="",
        arguments={
            Role.DATASET: "dataset",
            Role.NEW_RUN: "run",
            Role.MODEL: "model",
            Role.INPUT: "weights",
            Role.SETTINGS: "training",
        },
    ),
    Command(
        "runs",
        panel=_TRAIN,
        about="List the runs of a dataset and compare their AP by size.",
        module="runs",
        brief="runs_brief",
        written="",
        arguments={Role.DATASET_AND_RUNS: "dataset", Role.OUTPUT: "plot"},
    ),
    Command(
        "evaluate",
        panel=_TRAIN,
        about="Show AP by size and class, the objects missed by size, and what each kind of mistake costs.",
        module="evaluate",
        brief="evaluate_brief",
        written="report",
        arguments={
            Role.DATASET: "dataset",
            Role.RUN: "run",
            Role.EVALUATED_RUN: "against",
            Role.INPUT: "predictions",
            Role.OUTPUT: "errors plots",
            Role.TEXT: "split",
        },
    ),
    Command(
        "report",
        panel=_TRAIN,
        about="Write one HTML page about a run: scores, curves, images of its mistakes, settings and data.",
        module="report",
        brief="report_brief",
        written="report",
        arguments={
            Role.DATASET: "dataset",
            Role.EVALUATED_RUN: "run against",
            Role.OUTPUT: "out",
            Role.TEXT: "split",
        },
    ),
    Command(
        "view",
        panel=_TRAIN,
        about="Browse the dataset and the mistakes of its runs, by size, in the FiftyOne app, until Ctrl-C.",
        module="view",
        brief=None,
        written="",
        arguments={Role.DATASET: "dataset", Role.RUN: "run", Role.TEXT: "split address"},
    ),
    Command(
        "pull-tags",
        panel=_TRAIN,
        about="Apply the tags `relabel` and `drop` that were set in the app.",
        module="pull_tags",
        brief="pull_tags_brief",
        written="",
        arguments={Role.DATASET: "dataset"},
    ),
    Command(
        "predict",
        panel=_TRAIN,
        about="Detect objects in images with a trained run, for any tool or to correct in LabelImg.",
        module="predict",
        brief="predict_brief",
        written="",
        arguments={Role.RUN: "run", Role.IMAGES: "source", Role.OUTPUT: "out", Role.TEXT: "device"},
    ),
    Command(
        "watch",
        panel=_VIDEO,
        about="Run a trained model on a video, camera or stream, track objects, fire triggers; Ctrl-C ends it.",
        module="watch",
        brief=None,
        written="",
        arguments={
            Role.RUN: "run",
            Role.INPUT: "source weights triggers",
            Role.OUTPUT: "out events detections collect",
            Role.TEXT: "address raw began stop_after device",
        },
    ),
    Command(
        "run",
        panel=_WHOLE,
        about="Run a pipeline file; a second run repeats only what changed.",
        module="run",
        brief=None,
        written="",
        arguments={Role.INPUT: "pipeline", Role.SETTINGS: "variables"},
    ),
    Command(
        "doctor",
        panel=_WHOLE,
        about="Show what is installed, what is missing and how to get it.",
        module="doctor",
        brief=None,
        written="",
        arguments={},
    ),
)

COMMANDS: Mapping[str, Command] = {command.name: command for command in _ROWS}
"""Name → command, in the order of `curate --help`."""
