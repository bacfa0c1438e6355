"""Runs ffmpeg: finds it, and cuts a clip of a video exactly to the frame."""

import logging
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

from curate.errors import MissingError
from curate.sources.containers import MOST_PIXELS, STREAM_FORMATS, VIDEO_FORMATS
from curate.sources.times import format_seconds
from curate.sources.youtube.failures import FULL_DISK, GET_FFMPEG
from curate.sources.youtube.links import Clip

logger = logging.getLogger(__name__)
_TICKS = 360_000  # per second; exact for 24, 25, 30 and 60 frames per second, and for 1000/1001 of these
# prints the time stamp of the first decoded frame as an error message
_PRINT_FIRST = f"settb=1/{_TICKS},setpts='if(eq(N,0),print(PTS,16),PTS)'"
_PRINTED = re.compile(r"(?:\[Eval @ [^\]]*\] )?(-?\d+\.\d+)\s*")
_MAP = ("-map", "0:V:0", "-vf")  # the first video stream that is not a cover picture
# how far before a clip reading starts: in files without an index a seek lands some key frames late, so if no frame
# from before the clip was decoded, the next distance is tried; None is the start of the file
_LEADS_S = (12, 90, None)


class CutError(Exception):
    """ffmpeg failed; the message is its own, without file names."""


def find_ffmpeg() -> str | None:
    """Return the version of the ffmpeg on PATH; None if there is none that runs."""
    program = shutil.which("ffmpeg")
    return _version(program) if program else None


def require_ffmpeg(needed_for: str) -> None:
    """Check that ffmpeg is installed.

    Raises:
        MissingError: It is not.
    """
    if find_ffmpeg() is None:
        raise MissingError(f"ffmpeg was not found, and {needed_for} needs it", remedy=GET_FFMPEG)


def cut(
    place: Path | str,
    clip: Clip,
    out: Path,
    *,
    proxy: str | None = None,
    is_playlist: bool = False,
    stop: threading.Event,
    report: Callable[[float], None],
) -> int:
    """Write the frames from the first at or after `clip.start_s` to the last before `clip.end_s`: silent H.264 in MP4.

    A cut without decoding could only start at a key frame, so the frames are encoded again, without visible loss. Times
    count from the video's first frame, not from its sound; within the clip they stay exact, also at a variable rate.

    Args:
        place: A file, or an address of the relay.
        clip: Part of the video.
        out: File to write.
        proxy: The relay, ffmpeg's only way out; None for a file.
        is_playlist: Whether the address is that of an HLS playlist.
        stop: Ends ffmpeg when it is set.
        report: Called with the seconds of the clip that are done.

    Returns:
        Number of frames; 0 if the video ends before the clip.

    Raises:
        CutError: ffmpeg cannot read the video, or cannot write the clip.
    """
    # the file's own time stamps: ffmpeg's offset from the start of the container is rounded, and includes the sound
    source = ["-copyts", *_open_only(place, is_playlist)]
    ignored: Callable[[float], None] = lambda _: None  # noqa: E731
    _, first = _run([*source, *_MAP, _PRINT_FIRST, "-frames:v", "1", "-f", "null", "-"], stop, ignored, proxy)
    if first is None:
        raise CutError("no frame can be decoded")
    start, end = (first + time_s * _TICKS for time_s in (clip.start_s, clip.end_s))
    filters = f"{_PRINT_FIRST},trim=start_pts={start}:end_pts={end},setpts=PTS-({start})"
    filters += ",crop=floor(iw/2)*2:floor(ih/2)*2"  # H.264 needs even sizes
    output = [*_MAP, filters, "-c:v", "libx264", "-preset", "veryfast", "-crf", "17", *_keep_times()]
    output += ["-enc_time_base", f"1:{_TICKS}", "-video_track_timescale", str(_TICKS), "-f", "mp4", f"file:{out}"]
    frames = 0
    for lead_s in _LEADS_S:
        seek_s = max(Fraction(0), clip.start_s - lead_s) if lead_s is not None else Fraction(0)
        seek = ["-ss", format_seconds(seek_s), "-noaccurate_seek"] if seek_s else []
        frames, landed = _run([*seek, *source, *output], stop, report, proxy)
        if not seek_s or (landed is not None and landed <= start):
            break
    return frames


def remux(file: Path, out: Path, *, stop: threading.Event) -> None:
    """Copy a file's video stream into MP4, without encoding it.

    Raises:
        CutError: ffmpeg failed.
    """
    _run([*_open_only(file), "-map", "0:V:0", "-c", "copy", "-f", "mp4", f"file:{out}"], stop, lambda _: None)


def _open_only(place: Path | str, is_playlist: bool = False) -> list[str]:
    """The input, with the formats and protocols that it may have: a file never names another one, or a host."""
    if isinstance(place, Path):
        protocols, formats = "file", [VIDEO_FORMATS]
    elif is_playlist:
        protocols, formats = "http,tcp,crypto,data", [STREAM_FORMATS, *_any_suffix()]
    else:
        protocols, formats = "http,tcp", [VIDEO_FORMATS]
    limits = ["-max_pixels", str(MOST_PIXELS), "-protocol_whitelist", protocols, "-format_whitelist", *formats]
    return [*limits, "-i", f"file:{place}" if isinstance(place, Path) else place]


def _run(
    arguments: Sequence[str], stop: threading.Event, report: Callable[[float], None], proxy: str | None = None
) -> tuple[int, int | None]:
    """Run ffmpeg; returns the number of frames written, and what `_PRINT_FIRST` printed (None: no frame decoded)."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise CutError("ffmpeg could not be found")
    command = [program, "-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-progress", "pipe:1"]
    # ffmpeg talks to the relay only, whatever a playlist names; the relay uses the user's proxy
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"http_proxy": proxy} if proxy else {}
    frame_counts: list[int] = []
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        reader = threading.Thread(target=_follow, args=(process, report, frame_counts), daemon=True)
        reader.start()
        try:
            while process.poll() is None:
                if stop.wait(0.02):
                    raise CutError("stopped")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            reader.join(1)
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").splitlines()
    printed = [match[1] for line in lines if (match := _PRINTED.fullmatch(line))]
    frames = frame_counts[-1] if frame_counts else 0
    logger.info("ffmpeg: exit code %d, %d frames written", process.returncode, frames)
    errors = [line for line in lines if line.strip() and not _PRINTED.fullmatch(line)]
    if full := next((line for line in errors if FULL_DISK.search(line)), None):
        raise CutError(_tidy(full))  # ffmpeg ends with 0 then, and the clip with it
    if process.returncode:
        raise CutError(_tidy(errors[-1]) if errors else f"ffmpeg ended with exit code {process.returncode}")
    return frames, round(float(printed[0])) if printed else None


def _follow(process: "subprocess.Popen[bytes]", report: Callable[[float], None], frame_counts: list[int]) -> None:
    """Read ffmpeg's progress."""
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            if match := re.match(rb"out_time_us=(\d+)", line):
                report(float(Fraction(int(match[1]), 1_000_000)))
            elif match := re.match(rb"frame=\s*(\d+)", line):
                frame_counts.append(int(match[1]))


def _tidy(line: str) -> str:
    """Remove file names and names of components from a message of ffmpeg."""
    return re.sub(r"^(?:\[[^\]]*\]\s*)+|(?:file|https?):\S+\s*", "", line).strip()


@cache
def _version(program: str) -> str | None:
    try:
        output = subprocess.run([program, "-version"], capture_output=True, timeout=20, check=True).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"ffmpeg version (\S+)", output)
    return match[1] if match else "of unknown version"


@cache
def _any_suffix() -> list[str]:
    """Options that allow segments of a playlist with any suffix; newer releases have one more."""
    program = shutil.which("ffmpeg") or "ffmpeg"
    command = [program, "-hide_banner", "-h", "demuxer=hls"]
    help_text = subprocess.run(command, capture_output=True, timeout=20, check=False).stdout
    names = ("allowed_extensions", "ALL"), ("allowed_segment_extensions", "ALL"), ("extension_picky", "0")
    return [word for name, value in names if f"-{name} ".encode() in help_text for word in (f"-{name}", value)]


def _keep_times() -> list[str]:
    """The option that neither duplicates nor drops frames for a constant rate; renamed in ffmpeg 5.1."""
    match = re.match(r"n?(\d+)\.(\d+)", find_ffmpeg() or "")
    is_old = match is not None and (int(match[1]), int(match[2])) < (5, 1)
    return ["-vsync", "passthrough"] if is_old else ["-fps_mode", "passthrough"]
