"""Training options. Name, type, default, limits and help text of each are here; everything else derives from it.

The command line and the functions `train`, `train_classifier` and `loop` take their arguments from
`curate.commands.training_options`, which reads them from here. This module loads no library, so that `--help` is quick.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args, get_type_hints

from curate.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

_LIMITS = ("ge", "gt", "le", "lt", "pattern")
_EVALUATIONS = 10  # per training, without eval_every
_EVALUATE_FROM_STEPS = 500  # more frequent evaluations would take longer than they are worth


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a person has to know about one option.

    Attributes:
        help: A whole phrase for `--help`.
        metavar: What stands for the value in `--help`.
        default: The default in words. Empty: the default of the field.
        flag: The option on the command line. Empty: the name of the field.
        ge, gt, le, lt, pattern: Limits of valid values, as in `pydantic.Field`.
        type: The type; read from the annotation of the field.
        is_path: Whether the functions take a path object, too.
    """

    help: str
    metavar: str
    default: str = ""
    flag: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    pattern: str | None = None
    type: Any = None
    is_path: bool = False


def _default_workers() -> int:
    return min(8, max(1, (os.cpu_count() or 1) // 2))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a training does, apart from its data. `config.yaml` in the run's folder holds it."""

    model: Annotated[
        str,
        Option(
            help="Model to train; `curate models` lists them.",
            metavar="ENGINE:NAME",
            pattern=".",  # `engine_for` checks the rest
        ),
    ] = "torchvision:fasterrcnn_resnet50_fpn_v2"
    weights: Annotated[
        str,
        Option(
            help="Initial weights: a file, the weights file of an installed package, or none (random).",
            metavar="FILE|package:NAME|none",
            default="the model's pretrained weights, downloaded",
            pattern=".",
            is_path=True,
        ),
    ] = "default"
    steps: Annotated[int, Option(help="Number of optimizer steps.", metavar="N", ge=1, le=10**9)] = 1000
    batch: Annotated[int, Option(help="Images per step, over all processes.", metavar="N", ge=1)] = 4
    lr: Annotated[
        float | None,
        Option(
            help="Peak learning rate.",
            metavar="RATE",
            default="the model's own, scaled to the batch",
            gt=0,
            lt=math.inf,
        ),
    ] = None
    image_size: Annotated[
        int | None,
        Option(
            help="Shorter side of an image as the model sees it, in pixels.",
            metavar="PX",
            default="the model's own",
            ge=32,
            le=4096,
        ),
    ] = None
    balance: Annotated[
        str,
        Option(
            help="Show images of rare classes more often: of classes in less than SHARE (0.3) of the images.",
            metavar="none|repeat-factor[:SHARE]",
            pattern=r"^(none|repeat-factor(:(0?\.\d+|1))?)$",
        ),
    ] = "none"
    loss: Annotated[
        str,
        Option(
            help="Classification loss. focal gives hard examples more weight; not every model has it.",
            metavar="default|focal",
            default="the model's own",
            pattern=r"^(default|focal)$",
        ),
    ] = "default"
    settings: Annotated[
        Mapping[str, Any],
        Option(
            help="A setting of the engine, such as weight_decay=0.05; repeatable.",
            metavar="KEY=VALUE",
            default="the engine's own",
            flag="--set",
        ),
    ] = field(default_factory=dict)
    seed: Annotated[int, Option(help="Random seed.", metavar="N", ge=0, lt=2**63)] = 0
    device: Annotated[
        str,
        Option(
            help="Device: auto (the first GPU, else the CPU), cpu, cuda, or one GPU such as cuda:1.",
            metavar="DEVICE",
            pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        ),
    ] = "auto"
    processes: Annotated[
        int,
        Option(
            help="Number of training processes, each on a GPU of its own, or each with a share of the CPU cores.",
            metavar="N",
            ge=1,
        ),
    ] = 1
    eval_every: Annotated[
        int | None,
        Option(
            help="Steps between two evaluations on the val split.",
            metavar="STEPS",
            default="a tenth of all steps, and at least 500 without --patience",
            ge=1,
        ),
    ] = None
    patience: Annotated[
        int | None,
        Option(
            help="Early stopping: end the training after N evaluations without a better AP.",
            metavar="N",
            default="never",
            ge=1,
        ),
    ] = None
    checkpoint_every: Annotated[
        int,
        Option(help="Steps between two checkpoints; the last step always writes one.", metavar="STEPS", ge=1),
    ] = 200
    workers: Annotated[
        int,
        Option(
            help="Processes that load images, per training process; 0 loads between steps. The result is the same.",
            metavar="N",
            default="half of the CPU cores, at most 8",
            ge=0,
        ),
    ] = field(default_factory=_default_workers)

    @property
    def model_name(self) -> str:
        """The model without its engine."""
        return self.model.partition(":")[2]

    @property
    def evaluates_every(self) -> int:
        """Steps between two evaluations."""
        least = 1 if self.patience else _EVALUATE_FROM_STEPS
        return self.eval_every or max(least, -(-self.steps // _EVALUATIONS))

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """Build a configuration from values that a person wrote.

        Raises:
            UsageError: A value has the wrong type or is out of its limits, or there is no such option. The message
                names all of them.
        """
        from pydantic import ValidationError

        try:
            return cls(**dict(_validator()(**values)))
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))} = {fault['input']!r}: {fault['msg']}" for fault in error.errors()
            )
            expected = ", ".join(item.name for item in fields(cls))
            raise UsageError(f"the training options are not valid: {faults}", expected=expected) from error

    def as_dict(self) -> dict[str, Any]:
        """Field name → value, as in `config.yaml`."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


@cache
def options() -> Mapping[str, Option]:
    """The options of a training by name, with types, flags and defaults filled in."""
    annotations = get_type_hints(TrainingConfig, include_extras=True)
    complete = {}
    for item in fields(TrainingConfig):
        declared, option = get_args(annotations[item.name])
        complete[item.name] = replace(
            option,
            type=declared,
            flag=option.flag or f"--{item.name.replace('_', '-')}",
            default=option.default or ("" if item.default is MISSING else str(item.default)),
        )
    return complete


@cache
def _validator() -> "type[BaseModel]":
    """The pydantic model with the types, defaults and limits of the options."""
    from pydantic import ConfigDict, Field, create_model

    declared: dict[str, Any] = {}
    for item in fields(TrainingConfig):
        option = options()[item.name]
        if item.default is not MISSING:
            default = {"default": item.default}
        else:
            default = {} if item.default_factory is MISSING else {"default_factory": item.default_factory}
        limits = {name: getattr(option, name) for name in _LIMITS if getattr(option, name) is not None}
        declared[item.name] = (option.type, Field(**default, **limits))
    return create_model("TrainingConfig", __config__=ConfigDict(extra="forbid"), **declared)
