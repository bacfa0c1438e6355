"""`doctor`: what is installed, what is missing, and how to get it."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from curate.engines.base import GET_TRAIN, engine_packages, published_weights
from curate.fiftyone_app.mongo import GET_FIFTYONE, GET_MONGOD, URI_VARIABLE, find_mongod
from curate.result import Result

logger = logging.getLogger(__name__)

GET_WATCH = "pip install 'curate-vision[watch]'"

# package → (module, what it is for, how to get it); those of engines are in `engines.base.ENGINES`
_PACKAGES = {
    "yt-dlp": ("yt_dlp", "`fetch-youtube`", "pip install curate-vision"),
    "av": ("av", "frames of videos", "pip install curate-vision"),
    "scenedetect-headless": ("scenedetect", "`sample-frames --scenes`", "pip install 'curate-vision[scenes]'"),
    "lxml": ("lxml", "reading LabelImg XML", "pip install curate-vision"),
    "pandas": ("pandas", "tables", "pip install curate-vision"),
    "opencv-python-headless": ("cv2", "images", "pip install curate-vision"),
    "hotcoco": ("hotcoco", "evaluation", "pip install curate-vision"),
    "tensorboard": ("tensorboard", "curves of a training: `tensorboard --logdir RUN`", GET_TRAIN),
    "fiftyone": ("fiftyone", "`view`, `pull-tags`", GET_FIFTYONE),
    "supervision": ("supervision", "`watch`", GET_WATCH),
    "scipy": ("scipy", "`watch`", GET_WATCH),
    "starlette": ("starlette", "`watch --serve`", GET_WATCH),
    "hypercorn": ("hypercorn", "`watch --serve`", GET_WATCH),
}


@dataclass(frozen=True)
class Check:
    """One thing looked for.

    Attributes:
        name: of the package or part.
        ok: whether it is there and usable.
        found: version or state; None where it is missing.
        needed_for: what works only with it.
        remedy: how to get it; None where it is there.
    """

    name: str
    ok: bool
    found: str | None
    needed_for: str
    remedy: str | None


@dataclass(frozen=True)
class DoctorResult(Result):
    """Everything that was looked for, in the order of the work."""

    checks: tuple[Check, ...]


def doctor() -> DoctorResult:
    """Look for the packages and devices that commands need; imports nothing heavy unless it is there."""
    checks = []
    start = time.monotonic()
    for check in _checks():
        logger.debug("%s: %s (%.2f s)", check.name, check.found or "missing", time.monotonic() - start)
        checks.append(check)
        start = time.monotonic()
    return DoctorResult(checks=tuple(checks))


def _checks() -> Iterator[Check]:
    yield Check("python", sys.version_info >= (3, 11), sys.version.split()[0], "everything", None)
    for name, facts in _PACKAGES.items():
        yield _package(name, *facts)
    for package in engine_packages():
        yield _package(package.name, package.module, package.needed_for, package.remedy)
    yield from _programs()
    yield from _weights()
    yield from (check() for check in (_device, _disk))


def _programs() -> list[Check]:
    """Programs outside of Python, in the order of the work."""
    found = shutil.which("labelImg")
    remedy = None if found else "pip install labelImg, where there is a screen"
    labelling = Check("labelImg", found is not None, found and "installed", "drawing boxes; `label` opens it", remedy)
    if find_spec("yt_dlp") is None or find_spec("av") is None:
        return [labelling, _database(), _window()]
    return [_ffmpeg(), _runtime(), labelling, _database(), _window()]


def _window() -> Check:
    found = "installed" if find_spec("_tkinter") else None
    remedy = None if found else "apt install python3-tk, or a Python that was built with Tk"
    return Check("Tk", found is not None, found, "`watch --show`", remedy)


def _database() -> Check:
    program = find_mongod()
    bundled = program is not None and "fiftyone" in program
    found = "the server that is named" if os.environ.get(URI_VARIABLE) else "with FiftyOne" if bundled else program
    return Check("MongoDB", found is not None, found, "`view`, `pull-tags`", None if found else GET_MONGOD)


def _ffmpeg() -> Check:
    from curate.sources.youtube.failures import GET_FFMPEG
    from curate.sources.youtube.ffmpeg import find_ffmpeg

    found = find_ffmpeg()
    needed_for = "clips and HLS streams in `fetch-youtube`"
    return Check("ffmpeg", found is not None, found, needed_for, None if found else GET_FFMPEG)


def _runtime() -> Check:
    from curate.sources.youtube.failures import GET_RUNTIME
    from curate.sources.youtube.session import find_runtimes

    needed_for = "YouTube's formats in `fetch-youtube`"
    found = find_runtimes()
    told = ", ".join(f"{name} {version}" + ("" if good else " (too old)") for name, (version, good) in found.items())
    if not any(good for _, good in found.values()):
        return Check("JavaScript", False, told or None, needed_for, f"{GET_RUNTIME}.")
    if find_spec("yt_dlp_ejs") is None:
        return Check("JavaScript", False, f"{told}, without yt-dlp-ejs", needed_for, "pip install 'yt-dlp[default]'")
    return Check("JavaScript", True, told, needed_for, None)


def _package(name: str, module: str, needed_for: str, remedy: str) -> Check:
    if find_spec(module) is None:
        return Check(name, False, None, needed_for, remedy)
    try:
        found = version(name)
    except PackageNotFoundError:  # another distribution brings the module
        found = "installed"
    return Check(name, True, found, needed_for, None)


def _weights() -> list[Check]:
    return [
        Check(
            weights.name,
            weights.is_complete,
            str(weights.file) if weights.is_complete else None,
            weights.needed_for,
            None if weights.is_complete else weights.remedy,
        )
        for weights in published_weights()
    ]


def _device() -> Check:
    needed_for = "training in minutes instead of hours"
    if find_spec("torch") is None:
        return Check("GPU", False, None, needed_for, GET_TRAIN)
    from curate.engines.training.device import gpu_name

    try:
        found = gpu_name()
    except (ImportError, OSError) as error:  # torch is there, but not a library that it needs
        return Check("GPU", False, f"torch does not load: {error}", needed_for, "Install torch again.")
    remedy = None if found else "Everything runs on the CPU, which is slower."
    return Check("GPU", found is not None, found, needed_for, remedy)


def _disk() -> Check:
    free_gb = shutil.disk_usage(os.getcwd()).free / 1e9
    enough = free_gb >= 5
    return Check(
        "disk", enough, f"{free_gb:.0f} GB free here", "videos, runs, exports", None if enough else "Free some space."
    )
