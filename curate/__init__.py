"""curate: from videos and hand-drawn boxes to a detector that you can trust.

Every command of the command line is a function here, with the same name and arguments::

    import curate

    curate.import_voc("masks", "downloads/face-mask")
    curate.stats("masks").classes

Attributes load on first use, so that ``import curate`` costs nothing.
"""

import logging
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # quiet unless the caller configures logging

_TYPES = {
    "CurateError": "curate.errors",
    "Dataset": "curate.dataset",
    "Predictions": "curate.dataset",
    "Store": "curate.store",
}


def _homes() -> dict[str, str]:
    """Name → the module that defines it."""
    commands = import_module("curate.commands.registry").COMMANDS.values()
    return _TYPES | {command.function_name: command.home for command in commands}


def __getattr__(name: str) -> Any:
    homes = _homes()
    if name == "__all__":
        return ["__version__", *homes]
    if name not in homes:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)


def __dir__() -> list[str]:
    return sorted(["__version__", *_homes()])
