"""`doctor`: which packages, programs and devices are installed, and how to get those that are missing."""

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

# package → (module, what needs it, how to get it); those of engines are in `engines.base.ENGINES`
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
    """One package, program or device.

    Attributes:
        name: Its name.
        ok: Whether it is installed and usable.
        found: Version, path or state; None if it is missing.
        needed_for: The commands or features that need it.
        remedy: How to get it; None if it is installed.
    """

    name: str
    ok: bool
    found: str | None
    needed_for: str
    remedy: str | None


@dataclass(frozen=True)
class DoctorResult(Result):
    """All checks: packages, programs, weights and devices."""

    checks: tuple[Check, ...]


def doctor() -> DoctorResult:
    """Check which packages, programs and devices are installed; only torch is imported, to ask for a GPU."""
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
    """Programs outside of Python."""
    found = shutil.which("labelImg")
    remedy = None if found else "pip install labelImg, on a machine with a display"
    labelling = Check("labelImg", found is not None, found and "installed", "drawing boxes; `label` opens it", remedy)
    if find_spec("yt_dlp") is None or find_spec("av") is None:
        return [labelling, _database(), _window()]
    return [_ffmpeg(), _runtime(), labelling, _database(), _window()]


def _window() -> Check:
    found = "installed" if find_spec("_tkinter") else None
    remedy = None if found else "apt install python3-tk, or use a Python that was built with Tk"
    return Check("Tk", found is not None, found, "`watch --show`", remedy)


def _database() -> Check:
    program = find_mongod()
    bundled = program is not None and "fiftyone" in program
    found = (
        f"server of {URI_VARIABLE}" if os.environ.get(URI_VARIABLE) else "bundled with FiftyOne" if bundled else program
    )
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
    runtimes = find_runtimes()
    found = ", ".join(
        f"{name} {version}" + ("" if good else " (too old)") for name, (version, good) in runtimes.items()
    )
    if not any(good for _, good in runtimes.values()):
        return Check("JavaScript", False, found or None, needed_for, f"{GET_RUNTIME}.")
    if find_spec("yt_dlp_ejs") is None:
        return Check("JavaScript", False, f"{found}, without yt-dlp-ejs", needed_for, "pip install 'yt-dlp[default]'")
    return Check("JavaScript", True, found, needed_for, None)


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
    except (ImportError, OSError) as error:  # torch is installed, but not a library that it needs
        return Check("GPU", False, f"torch does not load: {error}", needed_for, "Reinstall torch.")
    remedy = None if found else "Everything runs on the CPU, which is slower."
    return Check("GPU", found is not None, found, needed_for, remedy)


def _disk() -> Check:
    free_gb = shutil.disk_usage(os.getcwd()).free / 1e9
    enough = free_gb >= 5
    return Check(
        "disk", enough, f"{free_gb:.0f} GB free here", "videos, runs, exports", None if enough else "Free some space."
    )
