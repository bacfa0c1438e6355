"""A trained model on a file, camera or stream: tracks, triggers, output.

The package has the name of its command, so that it is called like every other command's function too:
`curate.watch("masks/runs/first", "door.mp4")` is `curate.steps.watching.watch` (decision 0020).
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from curate.errors import MissingError

for _package in ("scipy", "supervision"):
    if find_spec(_package) is None:
        raise MissingError(
            f"the package {_package} is not installed", place="watch", remedy="pip install 'curate-vision[watch]'"
        )


class _Command(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("curate.steps.watching").watch(*arguments, **options)


sys.modules[__name__].__class__ = _Command
