"""The training options that `train`, `train_classifier` and `loop` take, and how a function gets them as arguments.

Types, defaults and help texts are those of `curate.run_folder.config`; what a command changes is here. Neither module
loads a library.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from os import PathLike
from typing import Any, TypeVar

from curate.run_folder.config import Option, options

CLASSIFIER_MODEL = "resnet18"
CLASSIFIER_BATCH = 32
CLASSIFIER_MARGIN = 0.3
CLASSIFIER_CROP_PX = 64
ROUNDS = 3

MODEL = options()["model"]
_EPOCHS = Option(
    help="Number of passes over the training images, instead of --steps.",
    metavar="NUMBER",
    default="--steps decides",
    flag="--epochs",
    type=float,
)


def _train_options() -> dict[str, Option]:
    """All options of a training but the model, with `epochs` after `steps`."""
    ordered: dict[str, Option] = {}
    for name, option in options().items():
        if name != "model":
            ordered[name] = option
        if name == "steps":
            ordered["epochs"] = _EPOCHS
    return ordered


def _changed(base: Mapping[str, Option], without: Iterable[str], **changes: Mapping[str, str]) -> dict[str, Option]:
    left = {name: option for name, option in base.items() if name not in without}
    return left | {name: replace(left[name], **change) for name, change in changes.items()}


TRAIN: Mapping[str, Option] = _train_options()
"""Options of `train`."""

CLASSIFIER: Mapping[str, Option] = _changed(
    TRAIN,
    without=("balance", "loss"),  # each class is shown equally often, and there is one loss
    epochs={"help": "Number of crops to show, in multiples of the number of training boxes, instead of --steps."},
    batch={"help": "Crops per step, over all processes.", "default": str(CLASSIFIER_BATCH)},
    image_size={"help": "Side of a crop as the classifier sees it, in pixels.", "default": str(CLASSIFIER_CROP_PX)},
)
"""Options of `train_classifier`."""

LOOP: Mapping[str, Option] = _changed(
    TRAIN,
    without=("patience",),  # a loop counts rounds instead
    weights={"help": TRAIN["weights"].help.replace("Initial weights", "Initial weights of the first round")},
    steps={"help": "Number of optimizer steps per round."},
    epochs={"help": "Number of passes over the training images per round, instead of --steps."},
    seed={"help": "Random seed of the first round; each further round adds 1."},
    eval_every={"default": "a tenth of the steps, and at least 500"},
)
"""Options of `loop`, in its argument `training`; `weights` and `steps` are arguments of their own."""

_Answer = TypeVar("_Answer")


def takes_options(taken: Mapping[str, Option]) -> Callable[[Callable[..., _Answer]], Callable[..., _Answer]]:
    """Give a function these options as keyword arguments, None by default, in place of its `**options`.

    Its signature and docstring list them, and a call with another argument is a TypeError, as if they were written out.
    """
    annotations = {name: _annotation(option) for name, option in taken.items()}
    lines = [f"    {name}: {_described(option)}" for name, option in taken.items()]

    def decorate(function: Callable[..., _Answer]) -> Callable[..., _Answer]:
        signature = with_options(inspect.signature(function), annotations)

        @wraps(function)
        def checked(*arguments: Any, **named: Any) -> _Answer:
            signature.bind(*arguments, **named)
            return function(*arguments, **named)

        checked.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        checked.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Options:", *lines])
        return checked

    return decorate


def with_options(signature: inspect.Signature, annotations: Mapping[str, Any]) -> inspect.Signature:
    """A signature with these parameters before `resume`, None by default, in place of its `**options`."""
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.name == "resume":
            parameters += [
                inspect.Parameter(name, parameter.kind, default=None, annotation=annotation)
                for name, annotation in annotations.items()
            ]
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            parameters.append(parameter)
    return signature.replace(parameters=parameters)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, with paths as text; None and empty settings mean that an option was not given."""
    return {
        name: str(value) if isinstance(value, PathLike) else value
        for name, value in values.items()
        if value is not None and value != {}
    }


def _annotation(option: Option) -> Any:
    return option.type | PathLike[str] | None if option.is_path else option.type | None


def _described(option: Option) -> str:
    return f"{option.help} Default: {option.default}."
