"""ffmpeg as a program: is it there, and a part of a video cut out to the frame."""

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
from curate.sources.times import format_seconds
from curate.sources.youtube.failures import GET_FFMPEG
from curate.sources.youtube.links import Clip

# exact for 24, 25, 30 and 60 frames a second and their 1000/1001 kin: times survive the cut
_TICKS = 360_000  # a second
_TIME_BASE = f"1:{_TICKS}"
_LEAD_S = 12
# containers only: a list of other files (DASH, concat) would let ffmpeg go where it likes
_CONTAINERS = "mov,matroska,hls,mpegts,mpeg,flv,avi,ogg,asf,h264,hevc,aac,mp3,ac3,eac3,webvtt"


def find_ffmpeg() -> str | None:
    """The version of the ffmpeg on PATH; None where there is none that runs."""
    program = shutil.which("ffmpeg")
    return _version(program) if program else None


def require_ffmpeg(needed_for: str) -> None:
    """Make sure that ffmpeg is there.

    Raises:
        MissingError: it is not; the message tells how to get it.
    """
    if find_ffmpeg() is None:
        raise MissingError(f"ffmpeg is not there, and {needed_for} needs it", remedy=GET_FFMPEG)


def cut(
    address: str,
    clip: Clip,
    out: Path,
    *,
    is_playlist: bool = False,
    stop: threading.Event,
    tell: Callable[[float], None],
) -> str | None:
    """Write the frames from `clip.start_s` (first at or after) to before `clip.end_s` as H.264 in MP4, without sound.

    A cut without decoding could only begin at a key frame, so the frames are encoded anew, at a quality that leaves
    no visible trace. Their times, counted from the start of the clip, stay what they were, also where the rate varies.

    Args:
        address: of a file or playlist.
        clip: of the video.
        out: the file to write.
        is_playlist: whether the address is that of an HLS playlist.
        stop: ends ffmpeg when it is set.
        tell: told how many seconds of the clip are done.

    Returns:
        What ffmpeg says went wrong, or None.
    """
    # in a playlist ffmpeg may land a key frame late, in the first seconds above all: seek earlier there, and let the
    # filter drop what is too early; -t would count from the first frame that is there, so the filter ends the clip too
    seek_s = max(Fraction(0), clip.start_s - _LEAD_S) if is_playlist else clip.start_s
    early_s, late_s = clip.start_s - seek_s, clip.end_s - seek_s
    before = ["-ss", format_seconds(seek_s)] if seek_s else []
    before += ["-t", format_seconds(late_s + 1)]
    before += _any_suffix() if is_playlist else []
    before += ["-protocol_whitelist", "http,tcp,crypto,data" if "://" in address else "file"]
    filters = f"settb={_TIME_BASE.replace(':', '/')},trim=start={format_seconds(early_s)}:end={format_seconds(late_s)}"
    filters += f",setpts=PTS-{early_s * _TICKS},crop=floor(iw/2)*2:floor(ih/2)*2"  # H.264 takes no odd sizes
    after = ["-map", "0:v:0", "-vf", filters, "-c:v", "libx264", "-preset", "veryfast", "-crf", "17"]
    after += [*_keep_times(), "-enc_time_base", _TIME_BASE, "-video_track_timescale", str(_TICKS)]
    return _run([*before, "-i", address, *after], out, stop, tell)


def remux(file: Path, out: Path, *, stop: threading.Event) -> str | None:
    """Write a file's pictures into MP4 as they are; None, or what ffmpeg says went wrong."""
    return _run(
        ["-protocol_whitelist", "file", "-i", f"file:{file}", "-map", "0:v:0", "-c", "copy"], out, stop, lambda _: None
    )


def _run(arguments: Sequence[str], out: Path, stop: threading.Event, tell: Callable[[float], None]) -> str | None:
    program = shutil.which("ffmpeg")
    if program is None:
        return "ffmpeg could not be found"
    command = [program, "-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
    command += ["-format_whitelist", _CONTAINERS, *arguments, "-f", "mp4"]
    command += ["-progress", "pipe:1"]
    # a proxy is the relay's business, which ffmpeg talks to
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, f"file:{out}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environment
        )
        watcher = threading.Thread(target=_follow, args=(process, tell), daemon=True)
        watcher.start()
        try:
            while process.poll() is None:
                if stop.wait(0.02):
                    return "stopped"
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            watcher.join(1)
        log.seek(0)
        said = log.read().decode("utf-8", "replace").strip()
    if process.returncode == 0:
        return None
    return said.splitlines()[-1] if said else f"ffmpeg ended with code {process.returncode}"


def _follow(process: "subprocess.Popen[bytes]", tell: Callable[[float], None]) -> None:
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            if match := re.match(rb"out_time_us=(\d+)", line):
                tell(float(Fraction(int(match[1]), 1_000_000)))


@cache
def _version(program: str) -> str | None:
    try:
        said = subprocess.run([program, "-version"], capture_output=True, timeout=20, check=True).stdout.decode()
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"ffmpeg version (\S+)", said)
    return match[1] if match else "of unknown version"


@cache
def _any_suffix() -> list[str]:
    """Options that take a playlist's pieces whatever their names end with; newer releases have one more."""
    program = shutil.which("ffmpeg") or "ffmpeg"
    told = subprocess.run([program, "-hide_banner", "-h", "demuxer=hls"], capture_output=True, timeout=20, check=False)
    names = ("allowed_extensions", "ALL"), ("allowed_segment_extensions", "ALL"), ("extension_picky", "0")
    return [word for name, value in names if f"-{name} ".encode() in told.stdout for word in (f"-{name}", value)]


def _keep_times() -> list[str]:
    """The option that neither doubles nor drops frames to reach an even rate; it changed its name in 5.1."""
    match = re.match(r"n?(\d+)\.(\d+)", find_ffmpeg() or "")
    is_old = match is not None and (int(match[1]), int(match[2])) < (5, 1)
    return ["-vsync", "passthrough"] if is_old else ["-fps_mode", "passthrough"]
