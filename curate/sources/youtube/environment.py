"""What fetching needs of the machine besides Python packages: ffmpeg, and a JavaScript runtime for YouTube."""

from dataclasses import dataclass
from importlib.util import find_spec

from curate.sources.youtube.cutting import find_ffmpeg
from curate.sources.youtube.failures import GET_FFMPEG, GET_RUNTIME
from curate.sources.youtube.session import find_runtimes


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: of the program.
        ok: whether it is there and new enough.
        found: its version; None where it is missing.
        needed_for: what works only with it.
        remedy: how to get it; None where it is there.
    """

    name: str
    ok: bool
    found: str | None
    needed_for: str
    remedy: str | None


def check_environment() -> tuple[Finding, ...]:
    """Look for the programs that `fetch-youtube` needs."""
    return _ffmpeg(), _runtime()


def _ffmpeg() -> Finding:
    version = find_ffmpeg()
    needed_for = "clips and HLS streams in `fetch-youtube`"
    return Finding("ffmpeg", version is not None, version, needed_for, None if version else GET_FFMPEG)


def _runtime() -> Finding:
    needed_for = "YouTube's formats in `fetch-youtube`"
    found = find_runtimes()
    told = ", ".join(f"{name} {version}" + ("" if good else " (too old)") for name, (version, good) in found.items())
    if not any(good for _, good in found.values()):
        return Finding("JavaScript", False, told or None, needed_for, f"{GET_RUNTIME}.")
    if find_spec("yt_dlp_ejs") is None:
        return Finding("JavaScript", False, f"{told}, without yt-dlp-ejs", needed_for, "pip install 'yt-dlp[default]'")
    return Finding("JavaScript", True, told, needed_for, None)
