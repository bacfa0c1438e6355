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
# the first frame that is decoded tells its time stamp, as an error, the one thing that ffmpeg is let say
_TELL_FIRST = f"settb=1/{_TICKS},setpts='if(eq(N,0),print(PTS,16),PTS)'"
_TOLD = re.compile(r"(?:\[Eval @ [^\]]*\] )?(-?\d+\.\d+)\s*")
_MAP = ("-map", "0:V:0", "-vf")  # the first video that is no cover
# how far before a clip reading starts: a jump lands some key frames late where a file has no index, so if no frame
# before the clip came out, the next distance is tried; the last is from the beginning
_LEADS_S = (12, 90, None)
# containers only: a list of other files (DASH, concat) would let ffmpeg go where it likes
_CONTAINERS = "mov,matroska,hls,mpegts,mpeg,flv,avi,ogg,asf,h264,hevc,aac,mp3,ac3,eac3,webvtt"


class CutError(Exception):
    """Carries what ffmpeg says went wrong, without the names of files."""


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
) -> int:
    """Write the frames from `clip.start_s` (first at or after) to before `clip.end_s` as H.264 in MP4, without sound.

    A cut without decoding could only begin at a key frame, so the frames are encoded anew, at a quality that leaves
    no visible trace. Times count from the video's first frame, wherever sound begins; counted from the start of the
    clip they stay what they were, also where the rate varies.

    Args:
        address: of a file or playlist.
        clip: of the video.
        out: the file to write.
        is_playlist: whether the address is that of an HLS playlist.
        stop: ends ffmpeg when it is set.
        tell: told how many seconds of the clip are done.

    Returns:
        How many frames; 0 where the video ends before the clip.

    Raises:
        CutError: ffmpeg cannot read it, or cannot write.
    """
    # the file's own time stamps: ffmpeg's count from the container's start is rounded, and starts with the sound
    source = ["-copyts", "-protocol_whitelist", "http,tcp,crypto,data" if "://" in address else "file"]
    source += [*(_any_suffix() if is_playlist else []), "-i", address]
    _, first = _run([*source, *_MAP, _TELL_FIRST, "-frames:v", "1", "-f", "null", "-"], stop, lambda _: None)
    if first is None:
        raise CutError("no frame can be decoded")
    start, end = (first + time_s * _TICKS for time_s in (clip.start_s, clip.end_s))
    filters = f"{_TELL_FIRST},trim=start_pts={start}:end_pts={end},setpts=PTS-({start})"
    filters += ",crop=floor(iw/2)*2:floor(ih/2)*2"  # H.264 takes no odd sizes
    wanted = [*_MAP, filters, "-c:v", "libx264", "-preset", "veryfast", "-crf", "17", *_keep_times()]
    wanted += ["-enc_time_base", f"1:{_TICKS}", "-video_track_timescale", str(_TICKS), "-f", "mp4", f"file:{out}"]
    frames = 0
    for lead_s in _LEADS_S:
        seek_s = max(Fraction(0), clip.start_s - lead_s) if lead_s is not None else Fraction(0)
        jump = ["-ss", format_seconds(seek_s), "-noaccurate_seek"] if seek_s else []
        frames, landed = _run([*jump, *source, *wanted], stop, tell)
        if not seek_s or (landed is not None and landed <= start):
            break
    return frames


def remux(file: Path, out: Path, *, stop: threading.Event) -> None:
    """Write a file's pictures into MP4 as they are.

    Raises:
        CutError: ffmpeg cannot.
    """
    source = ["-protocol_whitelist", "file", "-i", f"file:{file}"]
    _run([*source, "-map", "0:V:0", "-c", "copy", "-f", "mp4", f"file:{out}"], stop, lambda _: None)


def _run(arguments: Sequence[str], stop: threading.Event, tell: Callable[[float], None]) -> tuple[int, int | None]:
    """Run ffmpeg; the number of frames it wrote, and what `_TELL_FIRST` told, None where no frame was decoded."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise CutError("ffmpeg could not be found")
    command = [program, "-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-progress", "pipe:1"]
    # a proxy is the relay's business, which ffmpeg talks to
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    written: list[int] = []
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "-format_whitelist", _CONTAINERS, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        watcher = threading.Thread(target=_follow, args=(process, tell, written), daemon=True)
        watcher.start()
        try:
            while process.poll() is None:
                if stop.wait(0.02):
                    raise CutError("stopped")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            watcher.join(1)
        log.seek(0)
        lines = log.read().decode("utf-8", "replace").splitlines()
    told = [match[1] for line in lines if (match := _TOLD.fullmatch(line))]
    if process.returncode:
        said = [line for line in lines if line.strip() and not _TOLD.fullmatch(line)]
        raise CutError(_tidy(said[-1]) if said else f"ffmpeg ended with code {process.returncode}")
    return written[-1] if written else 0, round(float(told[0])) if told else None


def _follow(process: "subprocess.Popen[bytes]", tell: Callable[[float], None], written: list[int]) -> None:
    if process.stdout is None:
        return
    with process.stdout as lines:
        for line in lines:
            if match := re.match(rb"out_time_us=(\d+)", line):
                tell(float(Fraction(int(match[1]), 1_000_000)))
            elif match := re.match(rb"frame=\s*(\d+)", line):
                written.append(int(match[1]))


def _tidy(line: str) -> str:
    """A line of what ffmpeg says, without names of files and of its parts."""
    return re.sub(r"^(?:\[[^\]]*\]\s*)+|(?:file|https?):\S+\s*", "", line).strip()


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
