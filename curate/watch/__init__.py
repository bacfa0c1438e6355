"""A trained model on a file, camera or stream: tracks, triggers, output.

The package has the name of its command, so that it is called like every other command's function too:
`curate.watch("masks/runs/first", "door.mp4")` is `curate.steps.watching.watch` (decision 0020).
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from inspect import Signature, signature
from types import ModuleType
from typing import Any

from curate.errors import MissingError


def check_packages() -> None:
    """Make sure that what watching takes is installed.

    Raises:
        MissingError: a package is not.
    """
    for package in ("scipy", "supervision"):
        if find_spec(package) is None:
            remedy = "pip install 'curate-vision[watch]'"
            raise MissingError(f"the package {package} is not installed", place="watch", remedy=remedy)


class _Command(ModuleType):
    @property
    def __signature__(self) -> Signature:
        return signature(_find_step())

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return _find_step()(*arguments, **options)


def _find_step() -> Callable[..., Any]:
    check_packages()
    return import_module("curate.steps.watching").watch


sys.modules[__name__].__class__ = _Command
