"""Keeps FiftyOne's server from building what it is asked for by name, except stages and aggregations of views.

A request names classes (`{"_cls": "fiftyone.core.stages.Limit", "kwargs": […]}`), and FiftyOne 1.22 imports and calls
whatever that is, `subprocess.Popen` too (core/stages.py and core/aggregations.py, `_from_dict`).
"""

from collections.abc import Callable
from typing import Any

# these run pipelines as they are given, or write files
_OFF = frozenset({"Mongo", "Concat", "ToFrames", "ToClips", "ToTrajectories"})
_HOME = ("fiftyone.", "eta.")


def limit_requests() -> None:
    """From now on, only what looks at a view is built by name, in this process. FiftyOne must be imported."""
    import eta.core.utils as etau
    from fiftyone.core.aggregations import Aggregation
    from fiftyone.core.stages import ViewStage

    for base in (ViewStage, Aggregation):
        _limit(base)
    if not hasattr(etau.get_class, "limited"):
        etau.get_class = _only_fiftyone(etau.get_class)


def _limit(base: Any) -> None:
    if hasattr(base._from_dict, "limited"):
        return
    build = base._from_dict

    def from_dict(d: Any) -> Any:
        if not isinstance(d, dict) or d.get("_cls") not in _names(base):
            raise ValueError(f"not to be built on request: {d.get('_cls') if isinstance(d, dict) else d!r}")
        return build(d)

    from_dict.limited = True  # pyright: ignore[reportFunctionMemberAccess]
    base._from_dict = staticmethod(from_dict)


def _names(base: Any) -> set[str]:
    """Full names of the classes below one, where FiftyOne itself defines them."""
    below = base.__subclasses__()
    own = {f"{one.__module__}.{one.__qualname__}" for one in below if one.__name__ not in _OFF}
    return {name for name in own.union(*map(_names, below)) if name.startswith("fiftyone.core.")}


def _only_fiftyone(get_class: Callable[..., Any]) -> Callable[..., Any]:
    def limited(class_name: str, module_name: str | None = None) -> Any:
        if not f"{module_name or class_name}.".startswith(_HOME):
            raise ImportError(f"not to be imported on request: {class_name}")
        return get_class(class_name, module_name)

    limited.limited = True  # pyright: ignore[reportFunctionMemberAccess]
    return limited
